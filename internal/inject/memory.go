package inject

import (
	"cmp"
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/stack"
)

// memoryLoad is a dd that holds one block of that many bytes: it can't get rid
// of it, as nothing reads the rest of the pipe.
var memoryLoad = load{controller: "memory", body: `
(while kill -0 "$2"; do sleep 1; done; kill -9 0) >/dev/null &
dd if=/dev/zero bs="$1" count=1 iflag=fullblock | {
	[ "$(head -c 1 | wc -c)" = 1 ] || exit 0
	echo filled
	exec sleep "$3" >/dev/null
}
kill -9 0
`}

// measureMemory prints the limit, the use and the part of it that the kernel
// can take back at once, of the container with the ID $1, in bytes.
const measureMemory = `set -eu
cid=$1
` + findTask + findCgroup + `
measure() {
	case ,$1, in
	*,memory,*)
		cat "$2/memory.limit_in_bytes" "$2/memory.usage_in_bytes"
		sed -n 's/^total_inactive_file //p' "$2/memory.stat" ;;
	,,)
		sed 's/^max$/0/' "$2/memory.max"
		cat "$2/memory.current"
		sed -n 's/^inactive_file //p' "$2/memory.stat" ;;
	esac
}
cgroup measure
`

const (
	// loadWeight is about what a memoryLoad takes besides its block.
	loadWeight = 1 << 20
	// memoryTime is how long a container's memory may take to be filled.
	memoryTime = time.Minute
)

// memory fills the memory of containers up to a share of their limit.
type memory struct {
	spec *stack.MemoryFault
	w    World
}

func newMemory(spec stack.Inject, w World) Injector { return &memory{spec.Memory, w} }

// Prepare finds the pods, whose containers have to have a limit.
func (m *memory) Prepare(ctx context.Context) (Record, error) {
	data, targets, err := m.w.prepareLoad(ctx, podSpec{m.spec.Selector, m.spec.Namespace, m.spec.Container, cmp.Or(m.spec.Count, 1)},
		cmp.Or(m.spec.Percent, 95), limited)
	if err != nil {
		return Record{}, err
	}
	return newRecord("memory", fmt.Sprintf("fill the memory of container %s of %s to %d %% of its limit", data.Container, data.whole(), data.Amount),
		LevelEngine, data, targets...)
}

// limited is the error where a container has no memory limit.
func limited(p *corev1.Pod, container string) error {
	for _, c := range p.Spec.Containers {
		if c.Name == container && c.Resources.Limits.Memory().IsZero() {
			return fault.New(fault.Invalid, fmt.Sprintf("container %s of pod %s/%s has no memory limit", container, p.Namespace, p.Name),
				"its memory is to be filled up to a share of that", "set resources.limits.memory in the chart, or choose another container")
		}
	}
	return nil
}

// Inject fills the memory.
func (m *memory) Inject(ctx context.Context, rec Record) error {
	ctx, cancel := context.WithTimeout(ctx, memoryTime)
	defer cancel()
	chosen := map[types.UID]bool{}
	n, err := m.keep(ctx, rec, chosen)
	if err == nil && n > 0 { // once more, for what the app has given back meanwhile
		n, err = m.keep(ctx, rec, chosen)
	}
	if err == nil && n == 0 {
		err = errNoContainer
	}
	return err
}

// Sustain fills it up again where it is less than that, and starts over where
// the container was killed for it.
func (m *memory) Sustain(ctx context.Context, rec Record) error {
	chosen := map[types.UID]bool{}
	return sustain(ctx, func() error {
		_, err := m.keep(ctx, rec, chosen)
		return err
	})
}

// keep brings the memory of the containers to the share of their limit.
func (m *memory) keep(ctx context.Context, rec Record, chosen map[types.UID]bool) (int, error) {
	var data loadData
	if err := rec.read(&data); err != nil {
		return 0, err
	}
	return m.w.eachLoad(ctx, data, chosen, func(at place) error {
		use, err := m.measure(ctx, at)
		if err != nil {
			return err
		}
		if use.over(data.Amount) {
			if _, err := m.w.scriptOnNode(ctx, at.node, endLoads, containerMark(at.container)); err != nil {
				return err
			}
			if use, err = m.measure(ctx, at); err != nil {
				return err
			}
		}
		missing := use.missing(data.Amount)
		if missing == 0 {
			return nil
		}
		return memoryLoad.start(ctx, m.w, at.node, rec.ID, at.container, missing)
	})
}

// use is what a container has of memory, in bytes.
type use struct{ limit, total, reclaimable int64 }

func (m *memory) measure(ctx context.Context, at place) (use, error) {
	out, err := m.w.scriptOnNode(ctx, at.node, measureMemory, at.container)
	if err != nil {
		return use{}, err
	}
	var u use
	if _, err := fmt.Sscan(out, &u.limit, &u.total, &u.reclaimable); err != nil {
		return use{}, fmt.Errorf("measure the memory of container %s in pod %s: %w", at.container, at.pod, err)
	}
	if u.limit <= 0 {
		return use{}, fmt.Errorf("measure the memory of container %s in pod %s: it has no limit", at.container, at.pod)
	}
	return u, nil
}

// workingSet is what metrics and the kubelet call the use of memory.
func (u use) workingSet() int64 { return max(0, u.total-u.reclaimable) }

// missing is how large a block has to be added for the working set to be that
// share of the limit, 0 where it is near enough.
func (u use) missing(percent int) int64 {
	missing := u.limit/100*int64(percent) - u.workingSet()
	if missing < max(u.limit/100, 2*loadWeight) {
		return 0
	}
	return missing - loadWeight
}

// over reports whether so much more is in use that the limit is near: what was
// filled has to make room for what runs in the container.
func (u use) over(percent int) bool {
	want := u.limit / 100 * int64(percent)
	return u.workingSet() > want+(u.limit-want)/2
}

// Undo frees the memory.
func (m *memory) Undo(ctx context.Context, rec Record) error { return m.w.undoLoad(ctx, rec) }
