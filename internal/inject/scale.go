package inject

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/retry"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/stack"
)

// scaleTime is how long the cluster may take to change a workload's pods. It is
// less than what an injection gets in all, so that it is said what took so long.
const scaleTime = 45 * time.Second

// scale changes the number of replicas of a workload.
type scale struct {
	spec *stack.ScaleFault
	w    World
}

func newScale(spec stack.Inject, w World) Injector { return &scale{spec.Scale, w} }

// scaled is what the record keeps.
type scaled struct {
	workload
	Before int32 `json:"before"`
	To     int32 `json:"to"`
}

// Prepare finds the workload and how many replicas it has.
func (s *scale) Prepare(ctx context.Context) (Record, error) {
	kube, err := s.w.Kube()
	if err != nil {
		return Record{}, err
	}
	found, err := s.find(ctx, kube)
	if err != nil {
		return Record{}, err
	}
	now, err := found.scale(ctx, kube)
	if err != nil {
		return Record{}, err
	}
	data := scaled{workload: found, Before: now.Spec.Replicas, To: int32(s.spec.Replicas)}
	if data.Before == data.To {
		return Record{}, fault.New(fault.Invalid, fmt.Sprintf("%s is already at %d", found, data.To), "scaling it would change nothing", "choose another number of replicas")
	}
	if err := data.steered(ctx, kube); err != nil {
		return Record{}, err
	}
	return newRecord("scale", fmt.Sprintf("scale %s to %d", found, data.To), LevelCluster, data, workloadTarget(found.Kind, found.Namespace, found.Name))
}

// find looks for the workload in the namespaces.
func (s *scale) find(ctx context.Context, kube kubernetes.Interface) (workload, error) {
	kind, name, _ := strings.Cut(s.spec.Workload, "/")
	namespaces := s.w.Namespaces
	if s.spec.Namespace != "" {
		namespaces = []string{s.spec.Namespace}
	}
	var found []workload
	for _, ns := range namespaces {
		w := workload{Kind: kind, Namespace: ns, Name: name}
		_, err := w.scale(ctx, kube)
		switch {
		case err == nil:
			found = append(found, w)
		case !apierrors.IsNotFound(err):
			return workload{}, err
		}
	}
	where := podSet{Namespaces: namespaces}.where()
	switch {
	case len(namespaces) == 0:
		return workload{}, fault.New(fault.Invalid, "no namespace to look for "+s.spec.Workload, "the stack has no releases", "set the fault's namespace")
	case len(found) > 1:
		return workload{}, fault.New(fault.Invalid, fmt.Sprintf("%s is in more than one of the %s", s.spec.Workload, where), "", "set the fault's namespace")
	case len(found) == 1:
		return found[0], nil
	}
	there, err := workloads(ctx, kube, namespaces)
	if err != nil {
		return workload{}, err
	}
	why := "there are no workloads"
	if len(there) > 0 {
		why = "there are: " + strings.Join(there, ", ")
	}
	return workload{}, fault.New(fault.Invalid, fmt.Sprintf("no %s in %s", s.spec.Workload, where), why, "correct the fault's workload or namespace")
}

// steered is the error where something else decides on the number of replicas.
func (s scaled) steered(ctx context.Context, kube kubernetes.Interface) error {
	if s.Kind == "replicaset" {
		set, err := kube.AppsV1().ReplicaSets(s.Namespace).Get(ctx, s.Name, metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("look up %s: %w", s.workload, err)
		}
		if owner := metav1.GetControllerOf(set); owner != nil {
			of := strings.ToLower(owner.Kind) + "/" + owner.Name
			return fault.New(fault.Invalid, fmt.Sprintf("%s can't be scaled", s.workload), of+" would scale it back", "scale "+of)
		}
	}
	if s.To == 0 { // which switches autoscaling off
		return nil
	}
	list, err := kube.AutoscalingV2().HorizontalPodAutoscalers(s.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list what scales workloads in namespace %s: %w", s.Namespace, err)
	}
	for _, h := range list.Items {
		if ref := h.Spec.ScaleTargetRef; strings.EqualFold(ref.Kind, s.Kind) && ref.Name == s.Name {
			return fault.New(fault.Invalid, fmt.Sprintf("%s can't be kept at %d", s.workload, s.To),
				"the HorizontalPodAutoscaler "+h.Name+" decides on its replicas, unless they are 0", "scale it to 0")
		}
	}
	return nil
}

// open returns what is recorded, and a client of the cluster that it is about.
func (s *scale) open(rec Record) (data scaled, kube kubernetes.Interface, err error) {
	if err := rec.read(&data); err != nil {
		return data, nil, err
	}
	kube, err = s.w.Kube()
	return data, kube, err
}

// Inject scales the workload and waits until it has that many pods.
func (s *scale) Inject(ctx context.Context, rec Record) error {
	data, kube, err := s.open(rec)
	if err != nil {
		return err
	}
	if err := data.set(ctx, kube, data.To, func(int32) bool { return true }); err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, scaleTime)
	defer cancel()
	ticker := time.NewTicker(tick / 4)
	defer ticker.Stop()
	for {
		now, err := data.scale(ctx, kube)
		if err != nil {
			return err
		}
		if now.Status.Replicas == data.To {
			return nil
		}
		select {
		case <-ticker.C:
		case <-waiting.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fault.New(fault.Timeout, fmt.Sprintf("%s was set to %d, but has %d pods", data.workload, data.To, now.Status.Replicas),
				fmt.Sprintf("the cluster did not change that in %s", scaleTime), "see `sandbox status`")
		}
	}
}

// Sustain watches that nothing else changes the number.
func (s *scale) Sustain(ctx context.Context, rec Record) error {
	data, kube, err := s.open(rec)
	if err != nil {
		return err
	}
	return sustain(ctx, func() error {
		now, err := data.scale(ctx, kube)
		if err == nil && now.Spec.Replicas != data.To {
			err = fault.New(fault.Conflict, fmt.Sprintf("%s was scaled to %d during the drill", data.workload, now.Spec.Replicas),
				fmt.Sprintf("something other than the drill did it, which wants it at %d", data.To), "repeat the drill when nothing else changes the workload")
		}
		return err
	})
}

// Undo sets the number back. It leaves alone what somebody else has set since,
// and does nothing where the workload is gone.
func (s *scale) Undo(ctx context.Context, rec Record) error {
	data, kube, err := s.open(rec)
	if err != nil {
		return err
	}
	err = data.set(ctx, kube, data.Before, func(now int32) bool { return now == data.To })
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// workload is something that runs a number of pods.
type workload struct {
	Kind      string `json:"kind"` // as the stack file names it
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// String is the workload for people: production/deployment/web-app.
func (w workload) String() string { return w.Namespace + "/" + w.Kind + "/" + w.Name }

// scale reads the number of replicas, wanted and there.
func (w workload) scale(ctx context.Context, kube kubernetes.Interface) (*autoscalingv1.Scale, error) {
	var (
		now *autoscalingv1.Scale
		err error
	)
	switch apps := kube.AppsV1(); w.Kind {
	case "deployment":
		now, err = apps.Deployments(w.Namespace).GetScale(ctx, w.Name, metav1.GetOptions{})
	case "statefulset":
		now, err = apps.StatefulSets(w.Namespace).GetScale(ctx, w.Name, metav1.GetOptions{})
	case "replicaset":
		now, err = apps.ReplicaSets(w.Namespace).GetScale(ctx, w.Name, metav1.GetOptions{})
	default:
		err = errors.New("it can't be scaled")
	}
	if err != nil {
		return nil, fmt.Errorf("read the scale of %s: %w", w, err)
	}
	return now, nil
}

// set changes the number of replicas where the present one is to be changed.
func (w workload) set(ctx context.Context, kube kubernetes.Interface, to int32, change func(now int32) bool) error {
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		now, err := w.scale(ctx, kube)
		if err != nil || now.Spec.Replicas == to || !change(now.Spec.Replicas) {
			return err
		}
		now.Spec.Replicas = to
		switch apps := kube.AppsV1(); w.Kind {
		case "deployment":
			_, err = apps.Deployments(w.Namespace).UpdateScale(ctx, w.Name, now, metav1.UpdateOptions{})
		case "statefulset":
			_, err = apps.StatefulSets(w.Namespace).UpdateScale(ctx, w.Name, now, metav1.UpdateOptions{})
		case "replicaset":
			_, err = apps.ReplicaSets(w.Namespace).UpdateScale(ctx, w.Name, now, metav1.UpdateOptions{})
		}
		if err != nil {
			return fmt.Errorf("scale %s to %d: %w", w, to, err)
		}
		return nil
	})
}

// workloads lists what can be scaled in the namespaces, as the stack file names it.
func workloads(ctx context.Context, kube kubernetes.Interface, namespaces []string) ([]string, error) {
	var names []string
	for _, ns := range namespaces {
		deployments, err := kube.AppsV1().Deployments(ns).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, fmt.Errorf("list the deployments in namespace %s: %w", ns, err)
		}
		for _, d := range deployments.Items {
			names = append(names, "deployment/"+d.Name)
		}
		sets, err := kube.AppsV1().StatefulSets(ns).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, fmt.Errorf("list the statefulsets in namespace %s: %w", ns, err)
		}
		for _, s := range sets.Items {
			names = append(names, "statefulset/"+s.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
