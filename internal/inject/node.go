package inject

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// tick is how often it is seen to that a fault is still there.
const tick = time.Second

// tries is how often in a row that may fail: what is broken may slow down
// the cluster for a while.
const tries = 15

// sustain does something about once a second until ctx ends. It fails where
// that fails again and again, or at once where something else is in the way.
func sustain(ctx context.Context, do func() error) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for failed := 0; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		err := do()
		switch {
		case err == nil:
			failed = 0
		case ctx.Err() != nil:
			return nil
		default:
			if failed++; failed >= tries || fault.CodeOf(err) == fault.Conflict {
				return err
			}
		}
	}
}

// nodeNames lists the nodes of the cluster.
func nodeNames(ctx context.Context, kube kubernetes.Interface) ([]string, error) {
	list, err := kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the nodes: %w", err)
	}
	var names []string
	for _, n := range list.Items {
		names = append(names, n.Name)
	}
	return names, nil
}

// reachNodes makes sure that the pods' nodes are containers of the engine.
func (w World) reachNodes(ctx context.Context, pods []corev1.Pod) error {
	for _, p := range pods {
		node, err := w.Node(ctx, p.Spec.NodeName)
		if errors.Is(err, runtime.ErrNotFound) {
			return fault.New(fault.Invalid, fmt.Sprintf("pod %s/%s can't be broken from within its node", p.Namespace, p.Name),
				"node "+p.Spec.NodeName+" is not a container of this engine", "choose another fault, such as scale or kill")
		}
		if err != nil {
			return fmt.Errorf("look up node %s: %w", p.Spec.NodeName, err)
		}
		if !node.Running() {
			return fault.New(fault.Unavailable, "node "+p.Spec.NodeName+" does not run", "its container is "+node.State, "see `sandbox status`")
		}
	}
	return nil
}

// onNode runs a command in a node's container and returns its output.
func (w World) onNode(ctx context.Context, name string, env map[string]string, command ...string) (string, error) {
	node, err := w.Node(ctx, name)
	if err != nil {
		return "", fmt.Errorf("look up node %s: %w", name, err)
	}
	var out, problems bytes.Buffer
	code, err := w.Engine.Exec(ctx, node.ID, runtime.ExecSpec{Cmd: command, Env: env, Stdout: &out, Stderr: &problems})
	if err != nil {
		return "", fmt.Errorf("run a command on node %s: %w", name, err)
	}
	if code != 0 {
		return out.String(), fmt.Errorf("on node %s: %s (exit %d)", name, lastLine(problems.String()), code)
	}
	return out.String(), nil
}

// scriptOnNode runs a shell script on a node, which changes nothing or mends.
func (w World) scriptOnNode(ctx context.Context, name, script string, args ...string) (string, error) {
	return w.onNode(ctx, name, nil, shell(script, args)...)
}

// breakTime is how long a script that breaks something has to end, once its
// context has. None takes long: what is to go on, it leaves in the background.
const breakTime = 20 * time.Second

// breakOnNode runs a shell script of a fault on a node. It bears the fault's
// mark: where this process was killed, the script may still run, and has to end
// before what it does is undone. Where ctx ends, it is not killed but waited for:
// the engine may not have started it yet, and would after the fault was undone.
func (w World) breakOnNode(ctx context.Context, name, id, script string, args ...string) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	ctx, cancel := Outlive(ctx, breakTime)
	defer cancel()
	return w.onNode(ctx, name, map[string]string{drillVariable: id}, shell(script, args)...)
}

// Outlive returns a context that ends a while after ctx, for what has to come to
// an end of its own before its fault is undone. cancel frees what it takes.
func Outlive(ctx context.Context, by time.Duration) (longer context.Context, cancel context.CancelFunc) {
	longer, end := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(by)
		defer timer.Stop()
		select {
		case <-timer.C:
			end()
		case <-longer.Done():
		}
	})
	return longer, func() {
		stop()
		end()
	}
}

// shell is the command that runs a script with arguments $1 and so on.
func shell(script string, args []string) []string {
	return append([]string{"sh", "-c", script, "sandbox"}, args...)
}

// mendNodes runs a script on each of the nodes. On a node that is gone or does
// not run, there is nothing to mend: its processes and its network went with it.
func (w World) mendNodes(ctx context.Context, names []string, script string, args ...string) error {
	var errs []error
	for _, name := range names {
		node, err := w.Node(ctx, name)
		switch {
		case errors.Is(err, runtime.ErrNotFound), err == nil && !node.Running() && node.State != "paused":
			continue
		case err != nil:
			errs = append(errs, fmt.Errorf("look up node %s: %w", name, err))
			continue
		}
		_, err = w.scriptOnNode(ctx, name, script, args...)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// lastLine is the last line of a program's output, which tells why it failed.
func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
