package inject

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/sandbox-stack/sandbox/internal/stack"
)

// crash kills a container of pods from within their node, again and again, as
// a program does that fails: the kubelet restarts it, later and later.
type crash struct {
	spec *stack.CrashFault
	w    World
}

func newCrash(spec stack.Inject, w World) Injector { return &crash{spec.Crash, w} }

// Prepare finds the pods.
func (c *crash) Prepare(ctx context.Context) (Record, error) {
	set, pods, err := findPods(ctx, c.w, podSpec{c.spec.Selector, c.spec.Namespace, c.spec.Container, c.spec.Count})
	if err != nil {
		return Record{}, err
	}
	if err := set.chooseContainer(pods); err != nil {
		return Record{}, err
	}
	if err := c.w.reachNodes(ctx, pods); err != nil {
		return Record{}, err
	}
	kube, err := c.w.Kube()
	if err != nil {
		return Record{}, err
	}
	targets, err := set.targets(ctx, kube, pods)
	if err != nil {
		return Record{}, err
	}
	return newRecord("crash", fmt.Sprintf("crash container %s of %s", set.Container, set.whole()), LevelCluster, set, targets...)
}

// Inject kills the container in each of the pods.
func (c *crash) Inject(ctx context.Context, rec Record) error {
	var set podSet
	if err := rec.read(&set); err != nil {
		return err
	}
	return c.kill(ctx, set, map[types.UID]bool{})
}

// Sustain kills the container again whenever it runs.
func (c *crash) Sustain(ctx context.Context, rec Record) error {
	var set podSet
	if err := rec.read(&set); err != nil {
		return err
	}
	chosen := map[types.UID]bool{}
	return sustain(ctx, func() error { return c.kill(ctx, set, chosen) })
}

// kill kills the container in those of the pods where it runs.
func (c *crash) kill(ctx context.Context, set podSet, chosen map[types.UID]bool) error {
	kube, err := c.w.Kube()
	if err != nil {
		return err
	}
	pods, err := set.running(ctx, kube)
	if err != nil {
		return err
	}
	return forEachPod(set.hit(pods, chosen), func(p *corev1.Pod) error {
		id, ok := runningID(p, set.Container)
		if !ok {
			return nil
		}
		_, err := c.w.onNode(ctx, p.Spec.NodeName, nil, "ctr", "-n", "k8s.io", "tasks", "kill", "-s", "SIGKILL", id)
		if err != nil && strings.Contains(err.Error(), "not found") {
			return nil // it has ended since the pod was listed
		}
		return err
	})
}

// Undo deletes the pods that have crashed, so that new ones start without the
// kubelet's back-off. A pod that nothing would replace is left to the kubelet.
func (c *crash) Undo(ctx context.Context, rec Record) error {
	var set podSet
	if err := rec.read(&set); err != nil {
		return err
	}
	kube, err := c.w.Kube()
	if err != nil {
		return err
	}
	pods, err := set.list(ctx, kube)
	if err != nil {
		return err
	}
	return forEachPod(pods, func(p *corev1.Pod) error {
		mark, _ := set.known(p)
		s, ok := statusOf(p, set.Container)
		if !ok || !replaced(p) || !crashed(s, mark.Restarts) {
			return nil
		}
		return deletePod(ctx, kube, p)
	})
}

// crashed reports whether a container has ended since it had restarted that often.
func crashed(s corev1.ContainerStatus, restarts int32) bool {
	return s.RestartCount > restarts || s.State.Terminated != nil ||
		s.State.Waiting != nil && s.State.Waiting.Reason == "CrashLoopBackOff"
}

// deletePod deletes just this pod, not another one of its name, without giving
// it much time.
func deletePod(ctx context.Context, kube kubernetes.Interface, p *corev1.Pod) error {
	err := kube.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{
		GracePeriodSeconds: new(int64(1)), Preconditions: &metav1.Preconditions{UID: &p.UID},
	})
	if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return fmt.Errorf("delete pod %s/%s: %w", p.Namespace, p.Name, err)
}
