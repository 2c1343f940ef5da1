package inject

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/stack"
)

// kill deletes pods, and what replaces them as soon as that runs.
type kill struct {
	spec *stack.KillFault
	w    World
}

func newKill(spec stack.Inject, w World) Injector { return &kill{spec.Kill, w} }

// Prepare finds the pods.
func (k *kill) Prepare(ctx context.Context) (Record, error) {
	set, pods, err := findPods(ctx, k.w, podSpec{selector: k.spec.Selector, namespace: k.spec.Namespace, count: k.spec.Count})
	if err != nil {
		return Record{}, err
	}
	for _, p := range pods {
		if !replaced(&p) {
			return Record{}, fault.New(fault.Invalid, fmt.Sprintf("pod %s/%s would be gone for good", p.Namespace, p.Name),
				"it belongs to no workload that makes a new one", "choose other pods, or the fault crash")
		}
	}
	kube, err := k.w.Kube()
	if err != nil {
		return Record{}, err
	}
	targets, err := set.targets(ctx, kube, pods)
	if err != nil {
		return Record{}, err
	}
	return newRecord("kill", "kill "+set.whole(), LevelCluster, set, targets...)
}

// Inject deletes the pods.
func (k *kill) Inject(ctx context.Context, rec Record) error {
	var set podSet
	if err := rec.read(&set); err != nil {
		return err
	}
	return k.kill(ctx, set)
}

// Sustain deletes the pods that replace them, as soon as they run.
func (k *kill) Sustain(ctx context.Context, rec Record) error {
	var set podSet
	if err := rec.read(&set); err != nil {
		return err
	}
	return sustain(ctx, func() error { return k.kill(ctx, set) })
}

// kill deletes the pods that run but for as many as are to be spared. The oldest
// are spared, so that it is always the replacements that are hit.
func (k *kill) kill(ctx context.Context, set podSet) error {
	kube, err := k.w.Kube()
	if err != nil {
		return err
	}
	pods, err := set.running(ctx, kube)
	if err != nil {
		return err
	}
	slices.SortStableFunc(pods, func(a, b corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	pods = slices.DeleteFunc(pods[min(set.Total-set.Count, len(pods)):], func(p corev1.Pod) bool { return !replaced(&p) })
	return forEachPod(pods, func(p *corev1.Pod) error { return deletePod(ctx, kube, p) })
}

// Undo has nothing to do: the workloads replace their pods.
func (k *kill) Undo(context.Context, Record) error { return nil }
