package release

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// severity is how bad the state of a pod or an object is.
type severity int

const (
	// fine: nothing to say.
	fine severity = iota
	// starting: on its way, nothing wrong so far.
	starting
	// troubled: something is wrong that may well pass.
	troubled
	// stuck: wrong for so long that only something else can change it.
	stuck
	// hopeless: waiting cannot help.
	hopeless
)

// How long a state may last before it counts as stuck. A crash loop counts by
// restarts: the third comes about 40 seconds after the first crash, which an
// app that waits for a database of the same chart has outlived by then; and
// while any other object is still on its way, a stuck one does not end a wait.
const (
	stuckRestarts = 3
	imageGrace    = 90 * time.Second
	configGrace   = 60 * time.Second
	scheduleGrace = 60 * time.Second
	// placing is how long a pod may wait for a place without a word: in a
	// rollout it does so until an earlier one has gone.
	placing       = 15 * time.Second
	hopelessGrace = 10 * time.Second
	probeGrace    = 60 * time.Second
)

// How long a container without a probe must run to count as ready, and one
// that has crashed before.
const (
	provenAfter      = 3 * time.Second
	provenAfterCrash = 10 * time.Second
)

// trouble is what is to say of a pod that is not ready.
type trouble struct {
	severity severity
	// text is "ImagePullBackOff: …".
	text string
	// container that crashes or does not start, if it is one.
	container string
	// crashed says that the container has a log of its crash.
	crashed bool
}

// troubleOf explains why a pod is not ready. warnings are the Warning events
// of all objects.
func troubleOf(pod *corev1.Pod, warnings []*corev1.Event, now time.Time) trouble {
	if podReady(pod) || pod.Status.Phase == corev1.PodSucceeded {
		return trouble{}
	}
	if pod.Status.Phase == corev1.PodFailed && pod.Status.Reason != "" {
		return trouble{severity: troubled, text: joinReason(pod.Status.Reason, pod.Status.Message)} // Evicted and the like
	}
	age := now.Sub(pod.CreationTimestamp.Time)
	statuses := slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses)
	worst := trouble{}
	for _, s := range statuses {
		if t := containerTrouble(pod, s, age); t.severity > worst.severity {
			worst = t
		}
	}
	if worst.severity > starting {
		return worst
	}
	if t, ok := unschedulable(pod, now); ok {
		return t
	}
	if w := lastWarning(warnings, pod.UID, "FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox", "NetworkNotReady"); w != nil && !anyStarted(statuses) {
		return trouble{severity: grown(age, configGrace), text: joinReason(w.Reason, w.Message)}
	}
	if t, ok := notReady(pod, warnings, now); ok {
		return t
	}
	if worst.text != "" {
		return worst
	}
	return trouble{severity: starting, text: strings.ToLower(string(pod.Status.Phase))}
}

// containerTrouble explains one container.
func containerTrouble(pod *corev1.Pod, s corev1.ContainerStatus, age time.Duration) trouble {
	t := trouble{container: s.Name, crashed: s.RestartCount > 0}
	switch {
	case s.State.Waiting != nil:
		return waitingTrouble(pod, s, age, t)
	case s.State.Terminated != nil:
		if s.State.Terminated.ExitCode == 0 {
			return trouble{}
		}
		t.severity, t.crashed = troubled, true
		t.text = fmt.Sprintf("%s %s", s.Name, exitText(pod, s.Name, s.State.Terminated))
		return t
	case s.State.Running != nil && !s.Ready && s.RestartCount > 0 && s.LastTerminationState.Terminated != nil:
		t.severity = troubled
		t.text = fmt.Sprintf("%s %s, %s", s.Name, exitText(pod, s.Name, s.LastTerminationState.Terminated), restarts(s.RestartCount))
		return t
	}
	return trouble{}
}

func waitingTrouble(pod *corev1.Pod, s corev1.ContainerStatus, age time.Duration, t trouble) trouble {
	w := s.State.Waiting
	t.text = joinReason(w.Reason, w.Message)
	switch w.Reason {
	case "", "ContainerCreating", "PodInitializing":
		t.severity = starting
	case "InvalidImageName", "ErrImageNeverPull":
		t.severity = troubled
		if age > hopelessGrace {
			t.severity = hopeless
		}
	case "ImagePullBackOff", "ErrImagePull", "ImageInspectError", "RegistryUnavailable":
		t.severity = grown(age, imageGrace)
	case "CrashLoopBackOff":
		t.severity, t.crashed = troubled, true
		if s.RestartCount >= stuckRestarts {
			t.severity = stuck
		}
		t.text = "CrashLoopBackOff: " + s.Name
		if last := s.LastTerminationState.Terminated; last != nil {
			t.text += " " + exitText(pod, s.Name, last)
		}
		t.text += ", " + restarts(s.RestartCount)
	default: // CreateContainerConfigError, RunContainerError and what else may come
		t.severity = grown(age, configGrace)
	}
	return t
}

// grown is troubled, and stuck after the grace.
func grown(age, grace time.Duration) severity {
	if age > grace {
		return stuck
	}
	return troubled
}

// exitText is "exited with code 1" or "was OOMKilled (limit 256Mi)".
func exitText(pod *corev1.Pod, container string, t *corev1.ContainerStateTerminated) string {
	if t.Reason == "OOMKilled" {
		for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
			if limit := c.Resources.Limits.Memory(); c.Name == container && !limit.IsZero() {
				return fmt.Sprintf("was OOMKilled (limit %s)", limit)
			}
		}
		return "was OOMKilled"
	}
	text := fmt.Sprintf("exited with code %d", t.ExitCode)
	if t.Message != "" {
		text += " (" + short(t.Message) + ")"
	}
	return text
}

func restarts(n int32) string {
	if n == 1 {
		return "1 restart"
	}
	return fmt.Sprintf("%d restarts", n)
}

func unschedulable(pod *corev1.Pod, now time.Time) (trouble, bool) {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			waited := now.Sub(c.LastTransitionTime.Time)
			t := trouble{severity: grown(waited, scheduleGrace), text: joinReason(c.Reason, c.Message)}
			if waited < placing {
				t.severity = starting
			}
			return t, true
		}
	}
	return trouble{}, false
}

// notReady explains a pod all of whose containers run: a probe has not passed.
func notReady(pod *corev1.Pod, warnings []*corev1.Event, now time.Time) (trouble, bool) {
	for _, s := range pod.Status.ContainerStatuses {
		if s.State.Running == nil || s.Ready {
			continue
		}
		t := trouble{severity: starting, container: s.Name}
		if now.Sub(s.State.Running.StartedAt.Time) > probeGrace {
			t.severity = troubled
		}
		probe := "readiness"
		if s.Started != nil && !*s.Started {
			probe = "startup"
		}
		t.text = fmt.Sprintf("%s runs, its %s probe has not passed", s.Name, probe)
		if w := lastWarning(warnings, pod.UID, "Unhealthy", "ProbeWarning"); w != nil {
			t.text = s.Name + ": " + short(w.Message)
		}
		return t, true
	}
	return trouble{}, false
}

func anyStarted(statuses []corev1.ContainerStatus) bool {
	return slices.ContainsFunc(statuses, func(s corev1.ContainerStatus) bool {
		return s.State.Running != nil || s.State.Terminated != nil
	})
}

func podReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// lastWarning returns the newest Warning event about the object, of one of
// the reasons where any are given, or nil.
func lastWarning(warnings []*corev1.Event, about types.UID, reasons ...string) *corev1.Event {
	var last *corev1.Event
	for _, w := range warnings {
		if w.InvolvedObject.UID != about || len(reasons) > 0 && !slices.Contains(reasons, w.Reason) {
			continue
		}
		if last == nil || eventTime(w).After(eventTime(last)) {
			last = w
		}
	}
	return last
}

// eventTime is when the event last happened; which field tells depends on who
// sent it.
func eventTime(e *corev1.Event) time.Time {
	latest := e.CreationTimestamp.Time
	for _, t := range []time.Time{e.FirstTimestamp.Time, e.LastTimestamp.Time, e.EventTime.Time} {
		if t.After(latest) {
			latest = t
		}
	}
	if e.Series != nil && e.Series.LastObservedTime.After(latest) {
		latest = e.Series.LastObservedTime.Time
	}
	return latest
}

// worstOf picks the trouble to tell of several pods: the most severe one, of
// equals that of the first pod by name.
func worstOf(pods []*corev1.Pod, warnings []*corev1.Event, now time.Time) (trouble, *corev1.Pod) {
	var worst trouble
	var of *corev1.Pod
	for _, p := range slices.SortedFunc(slices.Values(pods), func(a, b *corev1.Pod) int { return cmp.Compare(a.Name, b.Name) }) {
		if t := troubleOf(p, warnings, now); t.severity > worst.severity {
			worst, of = t, p
		}
	}
	return worst, of
}

func joinReason(reason, message string) string {
	switch {
	case message == "":
		return reason
	case reason == "":
		return short(message)
	}
	return reason + ": " + short(message)
}

// maxReason is the length in runes at which a foreign message is cut.
const maxReason = 240

// short makes a message one line that fits beside others.
func short(message string) string {
	runes := []rune(strings.Join(strings.Fields(message), " "))
	if len(runes) <= maxReason {
		return string(runes)
	}
	return string(runes[:maxReason]) + "…"
}
