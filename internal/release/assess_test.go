package release

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/sandbox-stack/sandbox/internal/event"
)

var web = refTo("apps", "v1", "Deployment", "web")

func TestAssessADeployment(t *testing.T) {
	sets := []*appsv1.ReplicaSet{replicaSet("web", "old", "9"), replicaSet("web", "new", "10"), replicaSet("other", "x", "11")}
	for name, tc := range map[string]struct {
		deployment *appsv1.Deployment
		pods       []*corev1.Pod
		warnings   []*corev1.Event
		want       string
		state      event.State
		severity   severity
	}{
		"ready": {
			deployment: deployment("web", 3), pods: []*corev1.Pod{pod("new", "a", ready), pod("new", "b", ready), pod("new", "c", ready)},
			want: "Deployment/web 3 of 3 ready", state: event.StateOK,
		},
		"started a moment ago, without a probe": {
			deployment: deployment("web", 3), pods: []*corev1.Pod{pod("new", "a", ready), pod("new", "b", ready), pod("new", "c", ready, runningSince(now.Add(-time.Second)))},
			want: "Deployment/web 3 of 3: web has only just started, and no readiness probe vouches for it", state: event.StateWorking, severity: starting,
		},
		"runs again after a crash, without a probe": {
			deployment: deployment("web", 3), pods: []*corev1.Pod{pod("new", "a", ready), pod("new", "b", ready), pod("new", "c", ready, runningSince(now.Add(-9*time.Second)), func(p *corev1.Pod) {
				p.Status.ContainerStatuses[0].RestartCount = 1
			})},
			want: "Deployment/web 3 of 3: web has only just started, and no readiness probe vouches for it", state: event.StateWorking, severity: starting,
		},
		"started a moment ago, with a probe": {
			deployment: deployment("web", 3), pods: []*corev1.Pod{pod("new", "a", ready), pod("new", "b", ready), pod("new", "c", ready, runningSince(now.Add(-time.Second)), func(p *corev1.Pod) {
				p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{}
			})},
			want: "Deployment/web 3 of 3 ready", state: event.StateOK,
		},
		"its status lags behind a crash": {
			deployment: deployment("web", 3), pods: []*corev1.Pod{pod("new", "a", ready), pod("new", "b", ready), pod("new", "c", crashLoop(1, 1, "Error"))},
			want: "Deployment/web 2 of 3: CrashLoopBackOff: web exited with code 1, 1 restart", state: event.StateDegraded, severity: troubled,
		},
		"missing": {want: "Deployment/web: is missing", state: event.StateFailed, severity: stuck},
		"starting": {
			deployment: deployment("web", 0), pods: []*corev1.Pod{pod("new", "a", waiting("ContainerCreating", ""))},
			want: "Deployment/web 0 of 3: ContainerCreating", state: event.StateWorking, severity: starting,
		},
		"part of it crashes": {
			deployment: deployment("web", 2), pods: []*corev1.Pod{pod("new", "a", ready), pod("new", "b", ready), pod("new", "c", crashLoop(5, 1, "Error"))},
			want: "Deployment/web 2 of 3: CrashLoopBackOff: web exited with code 1, 5 restarts", state: event.StateDegraded, severity: stuck,
		},
		"all of it crashes": {
			deployment: deployment("web", 0), pods: []*corev1.Pod{pod("new", "a", crashLoop(1, 1, "Error"))},
			want: "Deployment/web 0 of 3: CrashLoopBackOff: web exited with code 1, 1 restart", state: event.StateFailed, severity: troubled,
		},
		"an upgrade does not come through": {
			// The old pods still serve; what it waits for is the new ones.
			deployment: func() *appsv1.Deployment {
				d := deployment("web", 3)
				d.Status.UpdatedReplicas, d.Status.Replicas = 1, 4
				return d
			}(),
			pods:  []*corev1.Pod{pod("old", "a", ready), pod("old", "b", ready), pod("old", "c", ready), pod("new", "d", waiting("ErrImagePull", "no such image"))},
			want:  "Deployment/web 3 of 3: of an earlier revision, the new one is not ready: ErrImagePull: no such image",
			state: event.StateDegraded, severity: troubled,
		},
		"pods that go away do not count": {
			deployment: deployment("web", 0), pods: []*corev1.Pod{
				pod("new", "a", crashLoop(5, 1, "Error"), func(p *corev1.Pod) { p.DeletionTimestamp = ptr.To(metav1.NewTime(now)) }),
				pod("new", "b", waiting("ContainerCreating", "")),
			},
			want: "Deployment/web 0 of 3: ContainerCreating", state: event.StateWorking, severity: starting,
		},
		"no pods can be made": {
			deployment: deployment("web", 0), warnings: []*corev1.Event{warning("rs-new", "FailedCreate", "exceeded quota: small", 2*time.Minute)},
			want: "Deployment/web 0 of 3: FailedCreate: exceeded quota: small", state: event.StateFailed, severity: stuck,
		},
		"not seen by its controller": {
			deployment: func() *appsv1.Deployment { d := deployment("web", 3); d.Generation = 3; return d }(),
			want:       "Deployment/web 0 of 3: Deployment generation is 3, but latest observed generation is 2", state: event.StateWorking, severity: starting,
		},
		"its progress deadline is over": {
			deployment: func() *appsv1.Deployment {
				d := deployment("web", 0)
				d.Spec.ProgressDeadlineSeconds = ptr.To[int32](600)
				d.Status.Conditions[1] = appsv1.DeploymentCondition{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded"}
				return d
			}(),
			want: "Deployment/web 0 of 3: Progress deadline exceeded", state: event.StateFailed, severity: hopeless,
		},
		"going away": {
			deployment: func() *appsv1.Deployment {
				d := deployment("web", 3)
				d.DeletionTimestamp = ptr.To(metav1.Now())
				return d
			}(),
			want: "Deployment/web 0 of 3: is being deleted", state: event.StateWorking, severity: starting,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := snapshot{now: now, objects: map[ref]*unstructured.Unstructured{}, replicaSets: sets, pods: tc.pods, warnings: tc.warnings}
			if tc.deployment != nil {
				s.objects[web] = toUnstructured(t, tc.deployment)
			}
			got := assess([]ref{web}, s)
			require.Len(t, got, 1)
			assert.Equal(t, tc.want, got[0].String())
			assert.Equal(t, tc.state, got[0].state)
			assert.Equal(t, tc.severity, got[0].severity)
		})
	}
}

func TestAssessOtherKinds(t *testing.T) {
	object := func(apiVersion, kind string, spec, status map[string]any) runtime.Object {
		return &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": apiVersion, "kind": kind, "metadata": map[string]any{"name": "x", "namespace": ns, "uid": "u", "generation": int64(1)}, "spec": spec, "status": status,
		}}
	}
	for name, tc := range map[string]struct {
		ref   ref
		obj   runtime.Object
		want  string
		state event.State
	}{
		"failed job": {
			refTo("batch", "v1", "Job", "x"),
			&batchv1.Job{
				TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"}, ObjectMeta: metav1.ObjectMeta{Name: "x", Namespace: ns},
				Status: batchv1.JobStatus{Failed: 7, StartTime: ptr.To(metav1.NewTime(now)), Conditions: []batchv1.JobCondition{{Type: batchv1.JobFailed, Status: corev1.ConditionTrue, Reason: "BackoffLimitExceeded", Message: "Job has reached the specified backoff limit"}}},
			},
			"Job/x 0 of 1: Job Failed. failed: 7/1", event.StateFailed,
		},
		"running job": {
			refTo("batch", "v1", "Job", "x"),
			&batchv1.Job{
				TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"}, ObjectMeta: metav1.ObjectMeta{Name: "x", Namespace: ns},
				Status: batchv1.JobStatus{Active: 1, StartTime: ptr.To(metav1.NewTime(now))},
			},
			"Job/x 0 of 1 ready", event.StateOK,
		},
		"stateful set": {
			refTo("apps", "v1", "StatefulSet", "x"),
			object("apps/v1", "StatefulSet", map[string]any{"replicas": int64(2)}, map[string]any{"observedGeneration": int64(1), "replicas": int64(1), "readyReplicas": int64(0)}),
			"StatefulSet/x 0 of 2: Replicas: 1/2", event.StateWorking,
		},
		"daemon set": {
			refTo("apps", "v1", "DaemonSet", "x"),
			object("apps/v1", "DaemonSet", nil, map[string]any{"observedGeneration": int64(1), "desiredNumberScheduled": int64(1), "currentNumberScheduled": int64(1), "updatedNumberScheduled": int64(1), "numberAvailable": int64(0)}),
			"DaemonSet/x 0 of 1: Available: 0/1", event.StateWorking,
		},
		"operator says no": {
			refTo("db.example", "v1", "Postgres", "x"),
			object("db.example/v1", "Postgres", nil, map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": "False", "reason": "NoDisk", "message": "no disk left"}}}),
			"Postgres/x: no disk left", event.StateWorking,
		},
		"operator says yes": {
			refTo("db.example", "v1", "Postgres", "x"),
			object("db.example/v1", "Postgres", nil, map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": "True"}}}),
			"Postgres/x", event.StateOK,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := snapshot{now: now, objects: map[ref]*unstructured.Unstructured{tc.ref: toUnstructured(t, tc.obj)}}
			got := assess([]ref{tc.ref}, s)
			require.Len(t, got, 1)
			assert.Equal(t, tc.want, got[0].String())
			assert.Equal(t, tc.state, got[0].state)
		})
	}
}

func TestPassiveObjectsAreNotJudged(t *testing.T) {
	for _, r := range []ref{
		refTo("", "v1", "Service", "x"), refTo("", "v1", "Secret", "x"), refTo("", "v1", "PersistentVolumeClaim", "x"),
		refTo("networking.k8s.io", "v1", "Ingress", "x"), refTo("autoscaling", "v2", "HorizontalPodAutoscaler", "x"),
		refTo("rbac.authorization.k8s.io", "v1", "ClusterRole", "x"), refTo("policy", "v1", "PodDisruptionBudget", "x"),
	} {
		assert.False(t, r.active(), r)
	}
	assert.True(t, refTo("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "x").active())
}

func TestGiveUp(t *testing.T) {
	of := func(severities ...severity) []object {
		var out []object
		for _, s := range severities {
			out = append(out, object{severity: s})
		}
		return out
	}
	assert.False(t, giveUp(nil))
	assert.False(t, giveUp(of(starting)))
	assert.False(t, giveUp(of(troubled, troubled)))
	assert.False(t, giveUp(of(stuck, starting)), "what still starts may free what is stuck")
	assert.True(t, giveUp(of(stuck, stuck)))
	assert.True(t, giveUp(of(stuck, hopeless)))
	assert.True(t, giveUp(of(starting, hopeless)), "nothing can help what is hopeless")
}

func TestOverallReasonNamesTheWorst(t *testing.T) {
	objects := []object{
		{ref: web, state: event.StateOK, ready: 3, want: 3},
		{ref: refTo("apps", "v1", "Deployment", "a"), state: event.StateWorking, ready: 1, want: 2, reason: "pending"},
		{ref: refTo("apps", "v1", "Deployment", "b"), state: event.StateFailed, want: 1, reason: "ErrImagePull: x"},
	}
	state, reason := overall(deployed(1, "f"), objects)
	assert.Equal(t, event.StateFailed, state)
	assert.Equal(t, "Deployment/b 0 of 1: ErrImagePull: x (and 1 more)", reason)

	state, reason = overall(deployed(1, "f"), objects[:1])
	assert.Equal(t, event.StateOK, state)
	assert.Equal(t, "3 of 3 pods ready", reason)
}
