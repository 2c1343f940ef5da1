package release

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func TestTroubleOfAPod(t *testing.T) {
	running := func(started *bool, since time.Duration) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodRunning
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{
				Name: "web", Started: started,
				State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(now.Add(-since))}},
			}}
		}
	}
	for name, tc := range map[string]struct {
		pod      *corev1.Pod
		warnings []*corev1.Event
		severity severity
		text     string
		crashed  bool
	}{
		"ready":          {pod: pod("s", "p", ready)},
		"succeeded":      {pod: pod("s", "p", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })},
		"just created":   {pod: pod("s", "p"), severity: starting, text: "pending"},
		"creating":       {pod: pod("s", "p", waiting("ContainerCreating", "")), severity: starting, text: "ContainerCreating"},
		"pull, at first": {pod: pod("s", "p", waiting("ErrImagePull", "not found")), severity: troubled, text: "ErrImagePull: not found"},
		"pull, for long": {pod: pod("s", "p", aged(2*time.Minute), waiting("ImagePullBackOff", "Back-off pulling\nimage")), severity: stuck, text: "ImagePullBackOff: Back-off pulling image"},
		"bad name, new":  {pod: pod("s", "p", aged(time.Second), waiting("InvalidImageName", "x")), severity: troubled, text: "InvalidImageName: x"},
		"bad name":       {pod: pod("s", "p", waiting("InvalidImageName", "x")), severity: hopeless, text: "InvalidImageName: x"},
		"never pull":     {pod: pod("s", "p", waiting("ErrImageNeverPull", "x")), severity: hopeless, text: "ErrImageNeverPull: x"},
		"config":         {pod: pod("s", "p", waiting("CreateContainerConfigError", `secret "db" not found`)), severity: troubled, text: `CreateContainerConfigError: secret "db" not found`},
		"config, long":   {pod: pod("s", "p", aged(2*time.Minute), waiting("CreateContainerConfigError", `secret "db" not found`)), severity: stuck, text: `CreateContainerConfigError: secret "db" not found`},
		"first crash":    {pod: pod("s", "p", crashLoop(1, 1, "Error")), severity: troubled, text: "CrashLoopBackOff: web exited with code 1, 1 restart", crashed: true},
		"crash loop":     {pod: pod("s", "p", crashLoop(3, 137, "Error")), severity: stuck, text: "CrashLoopBackOff: web exited with code 137, 3 restarts", crashed: true},
		"out of memory":  {pod: pod("s", "p", crashLoop(4, 137, "OOMKilled")), severity: stuck, text: "CrashLoopBackOff: web was OOMKilled, 4 restarts", crashed: true},
		"memory, limited": {
			pod: pod("s", "p", crashLoop(4, 137, "OOMKilled"), func(p *corev1.Pod) {
				p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Mi")}
			}),
			severity: stuck, text: "CrashLoopBackOff: web was OOMKilled (limit 256Mi), 4 restarts", crashed: true,
		},
		"just crashed": {
			pod: pod("s", "p", func(p *corev1.Pod) {
				p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "web", State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 2}}}}
			}),
			severity: troubled, text: "web exited with code 2", crashed: true,
		},
		"runs again after a crash": {
			pod: pod("s", "p", running(nil, time.Second), func(p *corev1.Pod) {
				p.Status.ContainerStatuses[0].RestartCount = 2
				p.Status.ContainerStatuses[0].LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 3, Message: "no queue"}
			}),
			severity: troubled, text: "web exited with code 3 (no queue), 2 restarts", crashed: true,
		},
		"init container fails": {
			pod: pod("s", "p", waiting("PodInitializing", ""), func(p *corev1.Pod) {
				p.Status.InitContainerStatuses = []corev1.ContainerStatus{{
					Name: "migrate", RestartCount: 3,
					State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
					LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1}},
				}}
			}),
			severity: stuck, text: "CrashLoopBackOff: migrate exited with code 1, 3 restarts", crashed: true,
		},
		"unschedulable": {
			pod: pod("s", "p", func(p *corev1.Pod) {
				p.Status.Conditions = []corev1.PodCondition{{
					Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable",
					Message: "0/1 nodes are available: 1 Insufficient cpu.", LastTransitionTime: metav1.NewTime(now.Add(-5 * time.Minute)),
				}}
			}),
			severity: stuck, text: "Unschedulable: 0/1 nodes are available: 1 Insufficient cpu.",
		},
		"mount": {
			pod:      pod("s", "p", waiting("ContainerCreating", "")),
			warnings: []*corev1.Event{warning("pod-p", "FailedMount", `secret "a" not found`, time.Minute), warning("pod-p", "FailedMount", `secret "b" not found`, time.Second), warning("pod-q", "FailedMount", "other pod", 0)},
			severity: troubled, text: `FailedMount: secret "b" not found`,
		},
		"not ready yet": {pod: pod("s", "p", running(ptr.To(true), 5*time.Second)), severity: starting, text: "web runs, its readiness probe has not passed"},
		"starting up":   {pod: pod("s", "p", running(ptr.To(false), 5*time.Second)), severity: starting, text: "web runs, its startup probe has not passed"},
		"probe fails": {
			pod:      pod("s", "p", running(ptr.To(true), 2*time.Minute)),
			warnings: []*corev1.Event{warning("pod-p", "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503", time.Second), warning("pod-p", "FailedMount", "long ago", time.Minute)},
			severity: troubled, text: "web: Readiness probe failed: HTTP probe failed with statuscode: 503",
		},
		"evicted": {
			pod: pod("s", "p", func(p *corev1.Pod) {
				p.Status.Phase, p.Status.Reason, p.Status.Message = corev1.PodFailed, "Evicted", "disk pressure"
			}),
			severity: troubled, text: "Evicted: disk pressure",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := troubleOf(tc.pod, tc.warnings, now)
			assert.Equal(t, tc.text, got.text)
			assert.Equal(t, tc.severity, got.severity)
			assert.Equal(t, tc.crashed, got.crashed)
		})
	}
}

func TestLongMessagesAreCut(t *testing.T) {
	got := troubleOf(pod("s", "p", waiting("ErrImagePull", strings.Repeat("ü", 1000))), nil, now)
	assert.Len(t, []rune(got.text), len("ErrImagePull: ")+maxReason+1)
}

func TestTheWorstPodIsTold(t *testing.T) {
	pods := []*corev1.Pod{
		pod("s", "c", crashLoop(3, 1, "Error")),
		pod("s", "b", crashLoop(3, 2, "Error")),
		pod("s", "a", waiting("ContainerCreating", "")),
	}
	worst, of := worstOf(pods, nil, now)
	assert.Equal(t, "b", of.Name)
	assert.Contains(t, worst.text, "code 2")

	_, of = worstOf([]*corev1.Pod{pod("s", "a", ready)}, nil, now)
	assert.Nil(t, of)
}
