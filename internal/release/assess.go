package release

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// snapshot is what is known of the cluster at one moment.
type snapshot struct {
	now     time.Time
	objects map[ref]*unstructured.Unstructured
	// replicaSets, pods and warnings of the namespaces of the objects.
	replicaSets []*appsv1.ReplicaSet
	pods        []*corev1.Pod
	warnings    []*corev1.Event
}

// object is what is to say of one object of a release.
type object struct {
	ref   ref
	state event.State
	// severity says whether waiting for the object may still help.
	severity severity
	// ready of want pods; want is 0 for an object without pods.
	ready, want int
	// reason says why the object is not ok.
	reason string
	// pod and container where a crash has left a log.
	pod, container string
	// pods are the object's own, where it has any.
	pods []podState
}

// podState is what is to say of one pod.
type podState struct {
	name   string
	state  event.State
	reason string
	since  time.Time // when it became ready; zero where it is not
}

func (o object) ok() bool { return o.state == event.StateOK }

// count is "1 of 3", or empty for an object without pods.
func (o object) count() string {
	if o.want == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d", o.ready, o.want)
}

// health is the count and the reason.
func (o object) health() string {
	switch {
	case o.want == 0:
		return o.reason
	case o.ok():
		return o.count() + " ready"
	case o.reason == "":
		return o.count()
	}
	return o.count() + ": " + o.reason
}

// String is "Deployment/web-app 1 of 3: ImagePullBackOff: …".
func (o object) String() string {
	switch h := o.health(); {
	case h == "":
		return o.ref.String()
	case o.want == 0:
		return o.ref.String() + ": " + h
	default:
		return o.ref.String() + " " + h
	}
}

// assess judges the active objects. It is a pure function of its arguments.
func assess(refs []ref, s snapshot) []object {
	var out []object
	for _, r := range refs {
		if r.active() {
			out = append(out, s.assess(r))
		}
	}
	return out
}

func (s snapshot) assess(r ref) object {
	o := object{ref: r}
	u := s.objects[r]
	if u == nil {
		o.state, o.severity, o.reason = event.StateFailed, stuck, "is missing"
		return o
	}
	pods := s.podsOf(u)
	all := s.allPodsOf(u)
	o.ready, o.want = countPods(u, all)
	o.pods = s.podStates(all, r.gvk.Kind)

	res, err := status.Compute(u)
	switch {
	case err != nil:
		o.state, o.severity, o.reason = event.StateFailed, stuck, "its status cannot be read: "+err.Error()
		return o
	case res.Status == status.CurrentStatus && (o.ready >= o.want || r.gvk.Kind == "Job"):
		// A Job is as it should be once it runs. Of all others the pods must
		// agree, since an object's own status lags behind them.
		o.state = event.StateOK
		if container := s.unproven(pods); container != "" {
			o.state, o.severity = event.StateWorking, starting
			o.reason = fmt.Sprintf("%s has only just started, and no readiness probe vouches for it", container)
		}
		return o
	case res.Status == status.TerminatingStatus:
		o.state, o.severity, o.reason = event.StateWorking, starting, "is being deleted"
		return o
	}

	worst, pod := worstOf(pods, s.warnings, s.now)
	if pod == nil {
		worst = s.noPods(u, res)
	} else if worst.crashed {
		o.pod, o.container = pod.Name, worst.container
	}
	o.reason, o.severity = worst.text, worst.severity
	if res.Status == status.FailedStatus {
		o.severity = hopeless
		if worst.severity < troubled {
			o.reason = short(res.Message)
		}
	}
	if len(all) > len(pods) && o.ready > 0 && o.reason != "" {
		o.reason = "of an earlier revision, the new one is not ready: " + o.reason
	}
	switch {
	case o.severity <= starting:
		o.state = event.StateWorking
	case o.ready > 0:
		o.state = event.StateDegraded
	default:
		o.state = event.StateFailed
	}
	return o
}

// podStates says how each pod is.
func (s snapshot) podStates(pods []*corev1.Pod, owner string) []podState {
	if owner == "Pod" {
		return nil // the object says it already
	}
	var out []podState
	for _, p := range pods {
		one := podState{name: p.Name, state: event.StateOK}
		t := troubleOf(p, s.warnings, s.now)
		switch t.severity {
		case fine:
			for _, c := range p.Status.Conditions {
				if c.Type == corev1.PodReady {
					one.since = c.LastTransitionTime.Time
				}
			}
		case starting:
			one.state, one.reason = event.StateWorking, t.text
		default:
			one.state, one.reason = event.StateFailed, t.text
		}
		out = append(out, one)
	}
	return out
}

// unproven returns a container that counts as ready merely because it has
// started: without a probe, one that crashes at once looks ready for a moment.
func (s snapshot) unproven(pods []*corev1.Pod) string {
	for _, p := range pods {
		for _, c := range p.Spec.Containers {
			if c.ReadinessProbe != nil || c.StartupProbe != nil {
				continue
			}
			for _, st := range p.Status.ContainerStatuses {
				if st.Name != c.Name || st.State.Running == nil {
					continue
				}
				need := provenAfter
				if st.RestartCount > 0 {
					need = provenAfterCrash
				}
				// A negative age is a clock that differs; it proves nothing.
				if age := s.now.Sub(st.State.Running.StartedAt.Time); age >= 0 && age < need {
					return c.Name
				}
			}
		}
	}
	return ""
}

// noPods explains an object none of whose pods has anything to say: they
// cannot be created, or the controller has not come to it yet.
func (s snapshot) noPods(u *unstructured.Unstructured, res *status.Result) trouble {
	owners := []types.UID{u.GetUID()}
	for _, rs := range s.replicaSets {
		if metav1.IsControlledBy(rs, u) {
			owners = append(owners, rs.UID)
		}
	}
	for _, uid := range owners {
		if w := lastWarning(s.warnings, uid, "FailedCreate", "ReplicaSetCreateError", "FailedDeploy"); w != nil {
			first := w.FirstTimestamp.Time
			if first.IsZero() {
				first = w.CreationTimestamp.Time
			}
			return trouble{severity: grown(s.now.Sub(first), configGrace), text: joinReason(w.Reason, w.Message)}
		}
	}
	return trouble{severity: starting, text: short(res.Message)}
}

// podsOf returns the pods that decide whether the object is ready: its own,
// and for a Deployment those of its newest ReplicaSet. Pods that are going
// away do not count.
func (s snapshot) podsOf(u *unstructured.Unstructured) []*corev1.Pod {
	owner := u.GetUID()
	if u.GetKind() == "Deployment" {
		owner = s.newestReplicaSet(u)
	}
	var out []*corev1.Pod
	for _, p := range s.pods {
		if p.DeletionTimestamp != nil {
			continue
		}
		if c := metav1.GetControllerOf(p); p.UID == u.GetUID() || c != nil && c.UID == owner && owner != "" {
			out = append(out, p)
		}
	}
	return out
}

// allPodsOf returns the pods that an object has now, going away ones aside: for a
// Deployment those of earlier ReplicaSets as well, which serve until a rollout
// is over.
func (s snapshot) allPodsOf(u *unstructured.Unstructured) []*corev1.Pod {
	owners := []types.UID{u.GetUID()}
	for _, rs := range s.replicaSets {
		if metav1.IsControlledBy(rs, u) {
			owners = append(owners, rs.UID)
		}
	}
	var out []*corev1.Pod
	for _, p := range s.pods {
		c := metav1.GetControllerOf(p)
		if p.DeletionTimestamp == nil && (p.UID == u.GetUID() || c != nil && slices.Contains(owners, c.UID)) {
			out = append(out, p)
		}
	}
	return out
}

// newestReplicaSet returns the UID of the Deployment's ReplicaSet of the
// highest revision, or "".
func (s snapshot) newestReplicaSet(u *unstructured.Unstructured) types.UID {
	newest, uid := -1, types.UID("")
	for _, rs := range s.replicaSets {
		if !metav1.IsControlledBy(rs, u) {
			continue
		}
		revision, err := strconv.Atoi(rs.Annotations["deployment.kubernetes.io/revision"])
		if err != nil {
			revision = 0 // its controller has not numbered it yet
		}
		if revision > newest {
			newest, uid = revision, rs.UID
		}
	}
	return uid
}

// countPods returns how many pods are ready, or for a Job done, of how many.
func countPods(u *unstructured.Unstructured, pods []*corev1.Pod) (ready, want int) {
	field := func(or int, path ...string) int {
		n, found, err := unstructured.NestedInt64(u.Object, path...)
		if err != nil || !found {
			return or
		}
		return int(n)
	}
	switch u.GetKind() {
	case "Deployment", "StatefulSet", "ReplicaSet":
		want = field(1, "spec", "replicas")
	case "DaemonSet":
		want = field(0, "status", "desiredNumberScheduled")
	case "Job":
		return field(0, "status", "succeeded"), field(1, "spec", "completions")
	case "Pod":
		want = 1
	default:
		return 0, 0
	}
	for _, p := range pods {
		if podReady(p) || u.GetKind() == "Pod" && p.Status.Phase == corev1.PodSucceeded {
			ready++
		}
	}
	return min(ready, want), want // a rollout may have one more
}

// blocking returns the objects that are not ready.
func blocking(objects []object) []object {
	return slices.DeleteFunc(slices.Clone(objects), object.ok)
}

// giveUp says whether waiting on can not help: an object is beyond hope, or
// all that is not ready is stuck, so that nothing is left that could free it.
func giveUp(blockers []object) bool {
	least, most := hopeless, fine
	for _, o := range blockers {
		least, most = min(least, o.severity), max(most, o.severity)
	}
	return most == hopeless || len(blockers) > 0 && least >= stuck
}

// describe lists the objects, each as one line.
func describe(objects []object) []string {
	lines := make([]string, len(objects))
	for i, o := range objects {
		lines[i] = o.String()
	}
	return lines
}

// readyText sums up a release that is ready: "4 of 4 pods ready".
func readyText(objects []object) string {
	ready, want := 0, 0
	for _, o := range objects {
		if o.ref.gvk.Kind != "Job" {
			ready, want = ready+o.ready, want+o.want
		}
	}
	if want == 0 {
		return "ready"
	}
	return fmt.Sprintf("%d of %d pods ready", ready, want)
}

// labelValue makes a component path a value that a label may have.
func labelValue(component string) string { return strings.ReplaceAll(component, "/", ".") }
