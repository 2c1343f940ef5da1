package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// workload is a part of Kubernetes itself that must be ready before anything
// of the user's is worth starting.
type workload struct {
	kind, namespace, name string
	// optional ones count only where they exist: not every node image has them.
	optional bool
}

func (w workload) String() string { return w.kind + "/" + w.name }

// systemWorkloads are the parts waited for. The static pods of the control
// plane are not among them: without them there is no API to ask.
var systemWorkloads = []workload{
	{kind: "DaemonSet", namespace: "kube-system", name: "kube-proxy"},
	{kind: "DaemonSet", namespace: "kube-system", name: "kindnet", optional: true},
	{kind: "Deployment", namespace: "kube-system", name: "coredns"},
	{kind: "Deployment", namespace: "local-path-storage", name: "local-path-provisioner", optional: true},
}

// view is what the API server says of the cluster at one moment.
type view struct {
	nodes       []*corev1.Node
	pods        []*corev1.Pod
	deployments []*appsv1.Deployment
	daemonSets  []*appsv1.DaemonSet
	// since is when the node containers started. What was reported before
	// then is a memory of an earlier life of the cluster and counts for
	// nothing.
	since time.Time
}

// blocker is something that is not ready.
type blocker struct {
	// object is "Kind/name", as users write it.
	object string
	// reason says why, as far as the objects themselves tell.
	reason string
	// pod is the pod whose events may tell more; nil where there is none.
	pod *corev1.Pod
}

func (b blocker) String() string { return b.object + " " + b.reason }

// blockers returns what keeps the cluster from being ready, nodes first.
// Empty means ready. wantNodes is how many nodes there should be.
func (v *view) blockers(wantNodes int) []blocker {
	var bs []blocker
	if n := len(v.nodes); n < wantNodes {
		bs = append(bs, blocker{object: "Node", reason: fmt.Sprintf("%d of %d have joined", n, wantNodes)})
	}
	for _, n := range v.nodes {
		if reason := v.nodeReason(n); reason != "" {
			bs = append(bs, blocker{object: "Node/" + n.Name, reason: reason})
		}
	}
	for _, w := range systemWorkloads {
		if b, blocked := v.workload(w); blocked {
			bs = append(bs, b)
		}
	}
	return bs
}

// nodeReason says why a node is not ready; empty means that it is.
func (v *view) nodeReason(n *corev1.Node) string {
	for _, c := range n.Status.Conditions {
		switch {
		case c.Type != corev1.NodeReady:
		case !v.fresh(c.LastHeartbeatTime):
			return "has not reported since it was started"
		case c.Status == corev1.ConditionTrue:
			return ""
		default:
			return "not ready: " + cmp.Or(c.Message, c.Reason, "no reason given")
		}
	}
	return "has not reported yet"
}

// fresh reports whether t is in the present life of the cluster. Kubernetes'
// times have whole seconds.
func (v *view) fresh(t metav1.Time) bool {
	return !t.Time.Before(v.since.Truncate(time.Second))
}

// workload finds out whether a system workload blocks.
func (v *view) workload(w workload) (blocker, bool) {
	var (
		want     int
		selector *metav1.LabelSelector
		pending  bool
	)
	switch w.kind {
	case "Deployment":
		i := slices.IndexFunc(v.deployments, func(d *appsv1.Deployment) bool { return d.Name == w.name && d.Namespace == w.namespace })
		if i >= 0 {
			d := v.deployments[i]
			want, selector, pending = 1, d.Spec.Selector, d.Status.ObservedGeneration < d.Generation
			if d.Spec.Replicas != nil {
				want = int(*d.Spec.Replicas)
			}
		}
	case "DaemonSet":
		i := slices.IndexFunc(v.daemonSets, func(d *appsv1.DaemonSet) bool { return d.Name == w.name && d.Namespace == w.namespace })
		if i >= 0 {
			d := v.daemonSets[i]
			want, selector, pending = int(d.Status.DesiredNumberScheduled), d.Spec.Selector, d.Status.ObservedGeneration < d.Generation
		}
	}
	b := blocker{object: w.String()}
	switch {
	case selector == nil && w.optional:
		return b, false
	case selector == nil:
		b.reason = "does not exist yet"
		return b, true
	case pending:
		b.reason = "waits for the controller manager"
		return b, true
	}
	ready, worst, reason := v.podsOf(w.namespace, selector)
	if ready >= want {
		return b, false
	}
	b.pod = worst
	b.reason = fmt.Sprintf("%d of %d ready", ready, want)
	if worst != nil {
		b.reason += fmt.Sprintf(": Pod/%s %s", worst.Name, reason)
	}
	return b, true
}

// podsOf counts the ready pods that a selector matches, and returns the first
// of those that are not, with its reason.
func (v *view) podsOf(namespace string, selector *metav1.LabelSelector) (ready int, worst *corev1.Pod, reason string) {
	sel, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		sel = labels.Nothing()
	}
	for _, p := range v.pods {
		if p.Namespace != namespace || p.DeletionTimestamp != nil || !sel.Matches(labels.Set(p.Labels)) {
			continue
		}
		r := v.podReason(p)
		if r == "" {
			ready++
			continue
		}
		if worst == nil {
			worst, reason = p, r
		}
	}
	return ready, worst, reason
}

// podReason says why a pod is not ready; empty means that it is.
func (v *view) podReason(p *corev1.Pod) string {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return "cannot be scheduled: " + cmp.Or(c.Message, c.Reason)
		}
	}
	for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		switch {
		case s.State.Waiting != nil:
			w := s.State.Waiting
			if w.Message == "" {
				return cmp.Or(w.Reason, "waiting")
			}
			return fmt.Sprintf("%s: %s", w.Reason, firstLine(w.Message))
		case s.State.Running != nil && !v.fresh(s.State.Running.StartedAt):
			return "has not been restarted yet"
		}
	}
	for _, s := range p.Status.ContainerStatuses {
		if t := s.State.Terminated; t != nil {
			return fmt.Sprintf("container %s ended with code %d: %s", s.Name, t.ExitCode, cmp.Or(t.Reason, "no reason given"))
		}
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			if c.Status == corev1.ConditionTrue {
				return ""
			}
			return "runs, but is not ready"
		}
	}
	return "is " + strings.ToLower(string(cmp.Or(p.Status.Phase, corev1.PodPending)))
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}
