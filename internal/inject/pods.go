package inject

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

// podSpec is the part of a stack file that says which pods to hit.
type podSpec struct {
	selector, namespace, container string
	// count is how many of the pods, 0 for all.
	count int
}

// podSet is the pods of a fault as its record keeps them.
type podSet struct {
	Selector   string   `json:"selector"`
	Namespaces []string `json:"namespaces"`
	Container  string   `json:"container,omitempty"`
	// Total is how many pods there were, Count how many of them are hit.
	Total int `json:"total"`
	Count int `json:"count"`
	// Pods are those that there were.
	Pods []podMark `json:"pods"`
	// Nodes are all nodes of the cluster: a pod may come back on any of them.
	Nodes []string `json:"nodes,omitempty"`
}

// podMark is what a pod was before the fault.
type podMark struct {
	Name     string    `json:"name"`
	UID      types.UID `json:"uid"`
	Restarts int32     `json:"restarts,omitempty"`
}

// findPods looks for the running pods that a fault is to hit, and returns what
// to keep of them and all of them.
func findPods(ctx context.Context, w World, spec podSpec) (podSet, []corev1.Pod, error) {
	set := podSet{Selector: spec.selector, Container: spec.container, Namespaces: w.Namespaces}
	if spec.namespace != "" {
		set.Namespaces = []string{spec.namespace}
	}
	if _, err := labels.Parse(spec.selector); err != nil {
		return set, nil, fault.Wrap(fault.Invalid, err, "write it as kubectl takes it, for example app=web-app", "selector %q can't be read", spec.selector)
	}
	if len(set.Namespaces) == 0 {
		return set, nil, fault.New(fault.Invalid, "no namespace to look for pods with "+spec.selector, "the stack has no releases", "set the fault's namespace")
	}
	kube, err := w.Kube()
	if err != nil {
		return set, nil, err
	}
	pods, err := set.running(ctx, kube)
	if err != nil {
		return set, nil, err
	}
	if len(pods) == 0 {
		return set, nil, set.nothing(ctx, kube)
	}
	set.Total, set.Count = len(pods), cmp.Or(spec.count, len(pods))
	if set.Count > set.Total {
		return set, nil, fault.New(fault.Invalid, fmt.Sprintf("%s in %s, %d are to be hit", countPods(set.Total, "running pod matches "+set.Selector, "running pods match "+set.Selector), set.where(), set.Count),
			"", "lower the fault's count")
	}
	for _, p := range pods {
		mark := podMark{Name: p.Namespace + "/" + p.Name, UID: p.UID}
		if s, ok := statusOf(&p, set.Container); ok {
			mark.Restarts = s.RestartCount
		}
		set.Pods = append(set.Pods, mark)
	}
	return set, pods, nil
}

// chooseContainer decides which container of the pods is meant.
func (s *podSet) chooseContainer(pods []corev1.Pod) error {
	for _, p := range pods {
		names := containerNames(&p)
		switch {
		case s.Container == "" && len(names) > 1:
			return fault.New(fault.Invalid, fmt.Sprintf("pod %s/%s has more than one container", p.Namespace, p.Name),
				"they are "+strings.Join(names, ", "), "set the fault's container")
		case s.Container == "":
			s.Container = names[0]
		case !slices.Contains(names, s.Container):
			return fault.New(fault.Invalid, fmt.Sprintf("pod %s/%s has no container %s", p.Namespace, p.Name, s.Container),
				"it has "+strings.Join(names, ", "), "correct the fault's container")
		}
	}
	for i, p := range pods {
		if status, ok := statusOf(&p, s.Container); ok {
			s.Pods[i].Restarts = status.RestartCount
		}
	}
	return nil
}

// list returns the pods of the selector that are not being deleted, by name.
func (s podSet) list(ctx context.Context, kube kubernetes.Interface) ([]corev1.Pod, error) {
	var pods []corev1.Pod
	for _, ns := range s.Namespaces {
		list, err := kube.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{LabelSelector: s.Selector})
		if err != nil {
			return nil, fmt.Errorf("list the pods with %s in namespace %s: %w", s.Selector, ns, err)
		}
		pods = append(pods, list.Items...)
	}
	pods = slices.DeleteFunc(pods, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil })
	slices.SortFunc(pods, func(a, b corev1.Pod) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return pods, nil
}

// running returns the pods of the selector that run, by name.
func (s podSet) running(ctx context.Context, kube kubernetes.Interface) ([]corev1.Pod, error) {
	pods, err := s.list(ctx, kube)
	return slices.DeleteFunc(pods, func(p corev1.Pod) bool { return p.Status.Phase != corev1.PodRunning }), err
}

// nothing is the error where no pod runs that matches: it says what is there.
func (s podSet) nothing(ctx context.Context, kube kubernetes.Interface) error {
	what := fmt.Sprintf("no running pod matches %s in %s", s.Selector, s.where())
	matching, err := s.list(ctx, kube)
	if err != nil {
		return err
	}
	if len(matching) > 0 {
		var states []string
		for _, p := range matching {
			states = append(states, fmt.Sprintf("%s is %s", p.Name, p.Status.Phase))
		}
		return fault.New(fault.Invalid, what, strings.Join(states, ", "), "see `sandbox status`")
	}
	all, err := podSet{Namespaces: s.Namespaces}.list(ctx, kube)
	if err != nil {
		return err
	}
	why := "there are no pods"
	if len(all) > 0 {
		why = "there are: " + strings.Join(s.labelsOf(all), "; ")
	}
	return fault.New(fault.Invalid, what, why, "correct the fault's selector or namespace")
}

// labelsOf describes pods by those of their labels that the selector asks for,
// or else by all that tell kinds of pods apart.
func (s podSet) labelsOf(pods []corev1.Pod) []string {
	var asked []string
	if selector, err := labels.Parse(s.Selector); err == nil {
		requirements, _ := selector.Requirements()
		for _, r := range requirements {
			asked = append(asked, r.Key())
		}
	}
	counts := map[string]int{}
	for _, p := range pods {
		var has []string
		for _, key := range asked {
			if value, ok := p.Labels[key]; ok {
				has = append(has, key+"="+value)
			}
		}
		if len(has) == 0 {
			for _, key := range slices.Sorted(maps.Keys(p.Labels)) {
				if !strings.HasSuffix(key, "-hash") && !strings.HasPrefix(key, "sandbox.") {
					has = append(has, key+"="+p.Labels[key])
				}
			}
		}
		counts[cmp.Or(strings.Join(has, ","), "pod "+p.Name+" without labels")]++
	}
	var lines []string
	for _, text := range slices.Sorted(maps.Keys(counts)) {
		lines = append(lines, fmt.Sprintf("%s (%d)", text, counts[text]))
	}
	return lines
}

func (s podSet) where() string {
	if len(s.Namespaces) == 1 {
		return "namespace " + s.Namespaces[0]
	}
	return "namespaces " + strings.Join(s.Namespaces, ", ")
}

// whole says which pods are hit: "all 3 pods with app=web-app in namespace production".
func (s podSet) whole() string {
	of := fmt.Sprintf("with %s in %s", s.Selector, s.where())
	switch {
	case s.Total == 1:
		return "the pod " + of
	case s.Count == s.Total:
		return fmt.Sprintf("all %d pods %s", s.Total, of)
	}
	return fmt.Sprintf("%d of %d pods %s", s.Count, s.Total, of)
}

// targets name what a fault of these pods touches: the selector in each
// namespace, and the workloads that the pods belong to, which other faults may
// touch under another name.
func (s podSet) targets(ctx context.Context, kube kubernetes.Interface, pods []corev1.Pod) ([]string, error) {
	var targets []string
	for _, ns := range s.Namespaces {
		if slices.ContainsFunc(pods, func(p corev1.Pod) bool { return p.Namespace == ns }) {
			targets = append(targets, fmt.Sprintf("pod %s/%s", ns, s.Selector))
		}
	}
	for _, p := range pods {
		owner := metav1.GetControllerOf(&p)
		if owner == nil {
			targets = append(targets, fmt.Sprintf("pod %s/%s", p.Namespace, p.Name))
			continue
		}
		if owner.Kind == "ReplicaSet" {
			set, err := kube.AppsV1().ReplicaSets(p.Namespace).Get(ctx, owner.Name, metav1.GetOptions{})
			if err != nil {
				return nil, fmt.Errorf("look up what pod %s/%s belongs to: %w", p.Namespace, p.Name, err)
			}
			if of := metav1.GetControllerOf(set); of != nil {
				owner = of
			}
		}
		targets = append(targets, workloadTarget(owner.Kind, p.Namespace, owner.Name))
	}
	slices.Sort(targets)
	return slices.Compact(targets), nil
}

// workloadTarget is the target of a workload: "deployment production/web-app".
func workloadTarget(kind, namespace, name string) string {
	return fmt.Sprintf("%s %s/%s", strings.ToLower(kind), namespace, name)
}

// known reports whether the pod was there before the fault, and what it was.
func (s podSet) known(p *corev1.Pod) (podMark, bool) {
	i := slices.IndexFunc(s.Pods, func(m podMark) bool { return m.UID == p.UID })
	if i < 0 {
		return podMark{}, false
	}
	return s.Pods[i], true
}

// hit picks which of the pods to hit now: those that were hit before stay, the
// others follow by name, so that the same ones are hit for as long as they live.
func (s podSet) hit(pods []corev1.Pod, before map[types.UID]bool) []corev1.Pod {
	pods = slices.Clone(pods)
	slices.SortStableFunc(pods, func(a, b corev1.Pod) int {
		switch {
		case before[a.UID] == before[b.UID]:
			return 0
		case before[a.UID]:
			return -1
		}
		return 1
	})
	count := min(s.Count, len(pods))
	if s.Count == s.Total { // all, also where there are more by now
		count = len(pods)
	}
	for _, p := range pods[:count] {
		before[p.UID] = true
	}
	return pods[:count]
}

// replaced reports whether something makes a new pod when this one is deleted.
func replaced(p *corev1.Pod) bool {
	owner := metav1.GetControllerOf(p)
	return owner != nil && owner.Kind != "Node" // a node owns the mirrors of its static pods
}

// containerNames are the containers that run as long as the pod does.
func containerNames(p *corev1.Pod) []string {
	var names []string
	for _, c := range p.Spec.Containers {
		names = append(names, c.Name)
	}
	return names
}

// statusOf is the status of a container.
func statusOf(p *corev1.Pod, container string) (corev1.ContainerStatus, bool) {
	i := slices.IndexFunc(p.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool { return s.Name == container })
	if i < 0 {
		return corev1.ContainerStatus{}, false
	}
	return p.Status.ContainerStatuses[i], true
}

// runningID is the ID that containerd knows the pod's container by, where it runs.
func runningID(p *corev1.Pod, container string) (string, bool) {
	s, ok := statusOf(p, container)
	if !ok || s.State.Running == nil {
		return "", false
	}
	_, id, ok := strings.Cut(s.ContainerID, "://")
	return id, ok && id != ""
}

// countPods writes a number of pods with what they do.
func countPods(n int, one, more string) string {
	if n == 1 {
		return "only 1 " + one
	}
	return fmt.Sprintf("only %d %s", n, more)
}

// forEachPod does something with each pod and joins the errors.
func forEachPod(pods []corev1.Pod, do func(p *corev1.Pod) error) error {
	var errs []error
	for i := range pods {
		errs = append(errs, do(&pods[i]))
	}
	return errors.Join(errs...)
}
