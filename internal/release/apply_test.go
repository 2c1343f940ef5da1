package release

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage"
	helmtime "helm.sh/helm/v3/pkg/time"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	k8stesting "k8s.io/client-go/testing"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
)

// deployed is a revision as Helm records it.
func deployed(version int, fingerprint string) *release.Release {
	return &release.Release{
		Name: "web", Namespace: ns, Version: version,
		Info:     &release.Info{Status: release.StatusDeployed, LastDeployed: helmtime.Time{Time: now}, FirstDeployed: helmtime.Time{Time: now}},
		Chart:    &chart.Chart{Metadata: &chart.Metadata{Name: "web", Version: "1.0.0", APIVersion: "v2"}},
		Manifest: manifestOf("web"),
		Labels:   map[string]string{labelName: "demo", labelFingerprint: fingerprint},
	}
}

func in(status release.Status, rel *release.Release) *release.Release {
	rel.Info.Status = status
	return rel
}

func readyCluster(t *testing.T) *fakeCluster {
	t.Helper()
	objects := []runtime.Object{deployment("web", 3), configMap("web"), replicaSet("web", "s", "1")}
	for _, name := range []string{"a", "b", "c"} {
		objects = append(objects, pod("s", name, ready))
	}
	return newFakeCluster(t, objects...)
}

func (f *fakeCluster) history(t *testing.T) map[int]release.Status {
	t.Helper()
	got := map[int]release.Status{}
	list, err := f.releases.Query(map[string]string{"name": "web", "owner": "helm"})
	if err != nil {
		return got
	}
	for _, r := range list {
		got[r.Version] = r.Info.Status
	}
	return got
}

func (f *fakeCluster) record(t *testing.T, revisions ...*release.Release) {
	t.Helper()
	for _, r := range revisions {
		require.NoError(t, storage.Init(f.releases).Create(r))
	}
}

func webSpec(t *testing.T) Spec {
	t.Helper()
	return Spec{Name: "web", Namespace: ns, Chart: writeChart(t, chartFiles()), Values: map[string]any{"replicas": 3}, Timeout: 10 * time.Second}
}

func TestApplyInstallsOnceAndUpgradesOnChange(t *testing.T) {
	f := readyCluster(t)
	spec := webSpec(t)
	r := f.manager().Release(spec)

	done, _, err := r.Check(t.Context())
	require.NoError(t, err)
	assert.False(t, done, "not installed yet")

	got, err := r.Apply(t.Context(), event.Discard)
	require.NoError(t, err)
	assert.Equal(t, Result{Changed: true, Note: "revision 1, 3 of 3 pods ready"}, got)
	space, err := f.kube.CoreV1().Namespaces().Get(t.Context(), ns, metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, "demo", space.Labels[labelName])

	got, err = r.Apply(t.Context(), event.Discard)
	require.NoError(t, err)
	assert.Equal(t, Result{Note: "revision 1, 3 of 3 pods ready"}, got)
	done, note, err := r.Check(t.Context())
	require.NoError(t, err)
	assert.True(t, done)
	assert.Equal(t, "revision 1, 3 of 3 pods ready", note)

	spec.Values = map[string]any{"replicas": 4}
	got, err = f.manager().Release(spec).Apply(t.Context(), event.Discard)
	require.NoError(t, err)
	assert.Equal(t, Result{Changed: true, Note: "revision 2, 3 of 3 pods ready"}, got)
	assert.Equal(t, map[int]release.Status{1: release.StatusSuperseded, 2: release.StatusDeployed}, f.history(t))
}

func TestCheckWantsTheObjectsToo(t *testing.T) {
	f := readyCluster(t)
	r := f.manager().Release(webSpec(t))
	_, err := r.Apply(t.Context(), event.Discard)
	require.NoError(t, err)

	gvr := refTo("", "v1", "ConfigMap", "web").gvr
	f.metadata = newFakeCluster(t).metadata // the ConfigMap is gone
	done, _, err := r.Check(t.Context())
	require.NoError(t, err)
	assert.False(t, done, "%s is missing", gvr.Resource)
}

func TestApplyRepairsWhatAnInterruptedRunLeft(t *testing.T) {
	for name, tc := range map[string]struct {
		before []*release.Release
		after  map[int]release.Status
		says   string
	}{
		"first install": {
			[]*release.Release{in(release.StatusPendingInstall, deployed(1, "x"))},
			map[int]release.Status{1: release.StatusDeployed},
			"sandbox: revision 1 was left pending-install by an interrupted run: removing it to install anew",
		},
		"upgrade": {
			[]*release.Release{deployed(1, "x"), in(release.StatusPendingUpgrade, deployed(2, "y"))},
			map[int]release.Status{1: release.StatusSuperseded, 2: release.StatusPendingUpgrade, 3: release.StatusSuperseded, 4: release.StatusDeployed},
			"sandbox: revision 2 was left pending-upgrade by an interrupted run: rolling back to revision 1",
		},
		"rollback": {
			[]*release.Release{deployed(1, "x"), in(release.StatusFailed, deployed(2, "y")), in(release.StatusPendingRollback, deployed(3, "x"))},
			map[int]release.Status{1: release.StatusSuperseded, 2: release.StatusFailed, 3: release.StatusPendingRollback, 4: release.StatusSuperseded, 5: release.StatusDeployed},
			"sandbox: revision 3 was left pending-rollback by an interrupted run: rolling back to revision 1",
		},
		"upgrade, killed at its very end": {
			[]*release.Release{in(release.StatusSuperseded, deployed(1, "x")), in(release.StatusPendingUpgrade, deployed(2, "y"))},
			map[int]release.Status{1: release.StatusSuperseded, 2: release.StatusPendingUpgrade, 3: release.StatusSuperseded, 4: release.StatusDeployed},
			"rolling back to revision 1",
		},
		"upgrade of what never worked": {
			[]*release.Release{in(release.StatusFailed, deployed(1, "x")), in(release.StatusPendingUpgrade, deployed(2, "y"))},
			map[int]release.Status{1: release.StatusDeployed},
			"removing it to install anew",
		},
		"uninstall": {
			[]*release.Release{in(release.StatusUninstalling, deployed(1, "x"))},
			map[int]release.Status{1: release.StatusDeployed},
			"removing it to install anew",
		},
		"failed install": {
			[]*release.Release{in(release.StatusFailed, deployed(1, "x"))},
			map[int]release.Status{1: release.StatusSuperseded, 2: release.StatusDeployed},
			"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := readyCluster(t)
			f.record(t, tc.before...)
			var heard listener
			got, err := f.manager().Release(webSpec(t)).Apply(t.Context(), &heard)
			require.NoError(t, err)
			assert.True(t, got.Changed)
			assert.Equal(t, tc.after, f.history(t))
			assert.Contains(t, heard.text(), tc.says)
		})
	}
}

func TestAReleaseOfSomebodyElseIsLeftAlone(t *testing.T) {
	for _, status := range []release.Status{release.StatusDeployed, release.StatusPendingInstall} {
		f := readyCluster(t)
		foreign := in(status, deployed(1, "x"))
		foreign.Labels = nil
		f.record(t, foreign)
		r := f.manager().Release(webSpec(t))

		_, err := r.Apply(t.Context(), event.Discard)
		assert.Equal(t, fault.Conflict, fault.CodeOf(err), "%v", err)
		err = r.Uninstall(t.Context(), event.Discard)
		assert.Equal(t, fault.Conflict, fault.CodeOf(err), "%v", err)
		assert.Equal(t, map[int]release.Status{1: status}, f.history(t))
	}
}

func TestApplyPassesOnWhyHelmFailed(t *testing.T) {
	f := readyCluster(t)
	spec := webSpec(t)
	files := chartFiles()
	files["values.schema.json"] = `{"properties":{"replicas":{"type":"string"}}}`
	spec.Chart = writeChart(t, files)
	_, err := f.manager().Release(spec).Apply(t.Context(), event.Discard)
	var failed *fault.Error
	require.ErrorAs(t, err, &failed)
	assert.Equal(t, `installing release "web" failed`, failed.What)
	assert.Contains(t, failed.Reason(), "replicas")
	assert.Equal(t, "sandbox logs release/web", failed.Try)
}

func TestUninstall(t *testing.T) {
	f := readyCluster(t)
	r := f.manager().Release(webSpec(t))
	require.NoError(t, r.Uninstall(t.Context(), event.Discard), "nothing there")
	_, err := r.Apply(t.Context(), event.Discard)
	require.NoError(t, err)
	require.NoError(t, r.Uninstall(t.Context(), event.Discard))
	assert.Empty(t, f.history(t))
}

func TestHealth(t *testing.T) {
	f := readyCluster(t)
	r := f.manager().Release(webSpec(t))
	assert.Equal(t, []event.Health{{Component: "release/web", State: event.StateFailed, Reason: "is not installed", Try: "sandbox up"}}, r.Health(t.Context()))

	_, err := r.Apply(t.Context(), event.Discard)
	require.NoError(t, err)
	deployed := r.Health(t.Context())
	require.Len(t, deployed, 5)
	assert.WithinDuration(t, time.Now(), deployed[0].Since, time.Minute, "since it was deployed")
	deployed[0].Since = time.Time{}
	assert.Equal(t, []event.Health{
		{Component: "release/web", State: event.StateOK, Reason: "3 of 3 pods ready"},
		{Component: "release/web/Deployment/web", State: event.StateOK, Reason: "3 of 3 ready"},
		{Component: "release/web/Deployment/web/Pod/a", State: event.StateOK},
		{Component: "release/web/Deployment/web/Pod/b", State: event.StateOK},
		{Component: "release/web/Deployment/web/Pod/c", State: event.StateOK},
	}, deployed)

	f.dynamic.PrependReactor("get", "deployments", func(k8stesting.Action) (bool, runtime.Object, error) {
		return true, toUnstructured(t, deployment("web", 2)), nil
	})
	require.NoError(t, f.kube.Tracker().Update(podsResource, pod("s", "c", crashLoop(4, 1, "Error")), ns))
	got := r.Health(t.Context())
	require.Len(t, got, 5)
	assert.Equal(t, event.StateDegraded, got[0].State)
	assert.Equal(t, "Deployment/web 2 of 3: CrashLoopBackOff: web exited with code 1, 4 restarts", got[0].Reason)
	assert.Equal(t, "2 of 3: CrashLoopBackOff: web exited with code 1, 4 restarts", got[1].Reason)
	assert.Equal(t, event.Health{
		Component: "release/web/Deployment/web/Pod/c", State: event.StateFailed,
		Reason: "CrashLoopBackOff: web exited with code 1, 4 restarts",
	}, got[4])

	f.kube.PrependReactor("list", "pods", func(k8stesting.Action) (bool, runtime.Object, error) {
		return true, nil, apierrors.NewServiceUnavailable("connection refused")
	})
	got = r.Health(t.Context())
	require.Len(t, got, 1)
	assert.Equal(t, event.StateStale, got[0].State)
	assert.Equal(t, "cluster", got[0].Blames)
	assert.Contains(t, got[0].Reason, "connection refused")
}

func TestHealthOfAnUnfinishedRelease(t *testing.T) {
	for status, want := range map[release.Status]event.State{
		release.StatusPendingUpgrade: event.StateWorking,
		release.StatusUninstalling:   event.StateWorking,
		release.StatusFailed:         event.StateFailed,
	} {
		f := readyCluster(t)
		f.record(t, in(status, deployed(1, "x")))
		assert.Equal(t, want, f.manager().Release(webSpec(t)).Health(t.Context())[0].State, status)
	}
}
