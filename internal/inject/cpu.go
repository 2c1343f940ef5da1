package inject

import (
	"cmp"
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sandbox-stack/sandbox/internal/stack"
)

// cpuLoad is busy loops, which end with the container.
var cpuLoad = load{controller: "cpu", body: `
i=0
while [ $i -lt "$1" ]; do
	(while :; do :; done) >/dev/null &
	i=$((i+1))
done
echo busy
exec >/dev/null
while kill -0 "$2"; do sleep 1; done
kill -9 0
`}

// cpu uses up the CPU of containers with busy loops in their cgroup.
type cpu struct {
	spec *stack.CPUFault
	w    World
}

func newCPU(spec stack.Inject, w World) Injector { return &cpu{spec.CPU, w} }

// Prepare finds the pods.
func (c *cpu) Prepare(ctx context.Context) (Record, error) {
	data, targets, err := c.w.prepareLoad(ctx, podSpec{c.spec.Selector, c.spec.Namespace, c.spec.Container, cmp.Or(c.spec.Count, 1)},
		cmp.Or(c.spec.Workers, 1), func(*corev1.Pod, string) error { return nil })
	if err != nil {
		return Record{}, err
	}
	loops := "a busy loop"
	if data.Amount > 1 {
		loops = fmt.Sprintf("%d busy loops", data.Amount)
	}
	return newRecord("cpu", fmt.Sprintf("use up the CPU of container %s of %s by %s", data.Container, data.whole(), loops), LevelEngine, data, targets...)
}

// Inject starts the busy loops.
func (c *cpu) Inject(ctx context.Context, rec Record) error {
	n, err := c.keep(ctx, rec, map[types.UID]bool{})
	if err == nil && n == 0 {
		err = errNoContainer
	}
	return err
}

// Sustain starts them again where the container was, or the pod is a new one.
func (c *cpu) Sustain(ctx context.Context, rec Record) error {
	chosen := map[types.UID]bool{}
	return sustain(ctx, func() error {
		_, err := c.keep(ctx, rec, chosen)
		return err
	})
}

// keep starts the busy loops in those of the containers that have none.
func (c *cpu) keep(ctx context.Context, rec Record, chosen map[types.UID]bool) (int, error) {
	var data loadData
	if err := rec.read(&data); err != nil {
		return 0, err
	}
	return c.w.eachLoad(ctx, data, chosen, func(at place) error {
		running, err := c.w.countLoads(ctx, at.node, containerMark(at.container))
		if err != nil || running > 0 {
			return err
		}
		return cpuLoad.start(ctx, c.w, at.node, rec.ID, at.container, int64(data.Amount))
	})
}

// Undo ends the busy loops.
func (c *cpu) Undo(ctx context.Context, rec Record) error { return c.w.undoLoad(ctx, rec) }
