package release

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	k8stesting "k8s.io/client-go/testing"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

var (
	podsResource        = corev1.SchemeGroupVersion.WithResource("pods")
	deploymentsResource = appsv1.SchemeGroupVersion.WithResource("deployments")
)

// born gives a pod the age it has within a synctest bubble, whose clock does
// not show the moment of the pure tests.
func born(at time.Time) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.CreationTimestamp = metav1.NewTime(at) }
}

func TestWaitNamesBlockersUntilAllIsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		f := newFakeCluster(t, deployment("web", 0), replicaSet("web", "s", "1"), pod("s", "a", born(begin), waiting("ErrImagePull", "slow registry")),
			pod("s", "b", born(begin), ready), pod("s", "c", born(begin), ready))
		var heard listener
		go func() {
			<-time.After(30 * time.Second)
			assert.NoError(t, f.kube.Tracker().Update(podsResource, pod("s", "a", born(begin), waiting("ContainerCreating", "")), ns))
			<-time.After(30 * time.Second)
			assert.NoError(t, f.kube.Tracker().Update(podsResource, pod("s", "a", born(begin), ready), ns))
			assert.NoError(t, f.dynamic.Tracker().Update(deploymentsResource, toUnstructured(t, deployment("web", 3)), ns))
		}()
		objects, err := f.waitReady(t.Context(), Spec{Name: "web", Namespace: ns}, manifestOf("web"), &heard)
		require.NoError(t, err)
		require.Len(t, objects, 1)
		assert.Equal(t, time.Minute, time.Since(begin), "it ends with the change, not some poll later")

		assert.Contains(t, heard.text(), "sandbox: Deployment/web 2 of 3: ErrImagePull: slow registry")
		assert.Contains(t, heard.text(), "sandbox: Deployment/web 2 of 3: ContainerCreating")
		assert.GreaterOrEqual(t, len(heard.progress), 10, "it speaks every few seconds")
		assert.Equal(t, int64(1), heard.last().Done)
		assert.Empty(t, heard.last().Blockers)
	})
}

func TestWaitGivesUpOnACrashLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		f := newFakeCluster(t, deployment("web", 0), replicaSet("web", "s", "1"), pod("s", "a", born(begin), crashLoop(1, 1, "Error")),
			warning("pod-a", "BackOff", "Back-off restarting failed container", 0))
		var heard listener
		go func() {
			<-time.After(40 * time.Second)
			assert.NoError(t, f.kube.Tracker().Update(podsResource, pod("s", "a", born(begin), crashLoop(3, 1, "Error")), ns))
		}()
		_, err := f.waitReady(t.Context(), Spec{Name: "web", Namespace: ns}, manifestOf("web"), &heard)
		var failed *fault.Error
		require.ErrorAs(t, err, &failed)
		assert.Equal(t, 40*time.Second, time.Since(begin), "the rest of the five minutes is spared")
		assert.Equal(t, fault.Failed, failed.Code)
		assert.Equal(t, `release "web" will not become ready`, failed.What)
		assert.Equal(t, "Deployment/web 0 of 3: CrashLoopBackOff: web exited with code 1, 3 restarts", failed.Why)
		assert.Equal(t, []string{"--- last lines of pod a, container web", "fake logs"}, failed.Log)
		assert.Contains(t, heard.text(), "kubernetes: Pod/p: BackOff: Back-off restarting failed container")
	})
}

func TestWaitGivesAStuckObjectTheTimeOfTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		f := newFakeCluster(t,
			deployment("app", 0), replicaSet("app", "app", "1"), pod("app", "app-1", born(begin), crashLoop(7, 1, "Error")),
			deployment("db", 0), replicaSet("db", "db", "1"), pod("db", "db-1", born(begin), waiting("ContainerCreating", "")))
		_, err := f.waitReady(t.Context(), Spec{Name: "web", Namespace: ns, Timeout: 3 * time.Minute}, manifestOf("app", "db"), &listener{})
		var failed *fault.Error
		require.ErrorAs(t, err, &failed)
		assert.Equal(t, 3*time.Minute, time.Since(begin))
		assert.Equal(t, `release "web" is not ready after 3m0s`, failed.What)
		assert.Equal(t, "Deployment/app 0 of 3: CrashLoopBackOff: web exited with code 1, 7 restarts (and 1 more)", failed.Why)
		assert.Equal(t, "Deployment/db 0 of 3: ContainerCreating", failed.Log[0])
	})
}

func TestWaitGivesUpWhenTimeTurnsTroubleIntoStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		f := newFakeCluster(t, deployment("web", 0), replicaSet("web", "s", "1"), pod("s", "a", born(begin), waiting("ImagePullBackOff", "no such image")))
		_, err := f.waitReady(t.Context(), Spec{Name: "web", Namespace: ns}, manifestOf("web"), &listener{})
		require.ErrorContains(t, err, "ImagePullBackOff: no such image")
		assert.InDelta(t, imageGrace.Seconds(), time.Since(begin).Seconds(), 3, "although nothing changed any more")
	})
}

func TestWaitIsCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCluster(t, deployment("web", 0))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err := f.waitReady(ctx, Spec{Name: "web", Namespace: ns}, manifestOf("web"), &listener{})
		require.ErrorIs(t, err, context.Canceled)
	})
}

func TestWaitSaysThatTheClusterDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeCluster(t, deployment("web", 3))
		refused := func(k8stesting.Action) (bool, runtime.Object, error) {
			return true, nil, apierrors.NewServiceUnavailable("connection refused")
		}
		f.kube.PrependReactor("list", "pods", refused)
		var heard listener
		_, err := f.waitReady(t.Context(), Spec{Name: "web", Namespace: ns, Timeout: time.Minute}, manifestOf("web"), &heard)
		require.ErrorContains(t, err, "the state of the cluster could not be read")
		require.NotEmpty(t, heard.last().Blockers)
		assert.Contains(t, heard.last().Blockers[0], "the API server does not answer: failed to list *v1.Pod: connection refused")
	})
}

func TestStuckPodsAreReplacedByNewOnes(t *testing.T) {
	alone := pod("s", "alone", crashLoop(9, 1, "Error"))
	alone.OwnerReferences = nil
	f := newFakeCluster(t, deployment("web", 0), replicaSet("web", "s", "1"), replicaSet("other", "o", "1"),
		pod("s", "crashing", crashLoop(9, 1, "Error")), pod("s", "pulling", waiting("ImagePullBackOff", "")),
		pod("s", "starting", waiting("ContainerCreating", "")), pod("s", "running", ready),
		pod("o", "not ours", crashLoop(9, 1, "Error")), alone,
		pod("s", "new", crashLoop(1, 1, "Error"), func(p *corev1.Pod) { p.CreationTimestamp = metav1.NewTime(now.Add(time.Minute)) }))
	var heard listener
	require.NoError(t, f.restartStuck(t.Context(), Spec{Name: "web", Namespace: ns}, manifestOf("web"), now, &heard))

	left, err := f.kube.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	var names []string
	for _, p := range left.Items {
		names = append(names, p.Name)
	}
	assert.ElementsMatch(t, []string{"starting", "running", "not ours", "alone", "new"}, names)
	assert.Contains(t, heard.text(), "Pod/crashing has been failing since before this run")
}

func TestManifestRefs(t *testing.T) {
	f := newFakeCluster(t)
	refs, err := f.manifestRefs(`---
# a comment only
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}
- {apiVersion: apps/v1, kind: Deployment, metadata: {name: b, namespace: elsewhere}}
---
apiVersion: db.example/v1
kind: Postgres
metadata: {name: c}
`, ns)
	require.NoError(t, err)
	var got []string
	for _, r := range refs {
		got = append(got, r.namespace+" "+r.String())
	}
	assert.Equal(t, []string{"production ConfigMap/a", "elsewhere Deployment/b", "production Postgres/c"}, got)
	assert.Equal(t, []string{"elsewhere", "production"}, namespaces(refs))

	_, err = f.manifestRefs("apiVersion: none/v1\nkind: Unknown\nmetadata: {name: x}\n", ns)
	require.ErrorContains(t, err, `find the API of Unknown "x"`)
}
