package release

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	k8stesting "k8s.io/client-go/testing"

	"github.com/sandbox-stack/sandbox/internal/event"
)

func installed(t *testing.T) (*fakeCluster, *Release) {
	t.Helper()
	f := readyCluster(t)
	r := f.manager().Release(webSpec(t))
	_, err := r.Apply(t.Context(), event.Discard)
	require.NoError(t, err)
	return f, r
}

func TestRestartOfWorkloads(t *testing.T) {
	for _, part := range []string{"", "Deployment/web"} {
		f, r := installed(t)
		var patched []string
		f.dynamic.PrependReactor("patch", "*", func(a k8stesting.Action) (bool, runtime.Object, error) {
			p := a.(k8stesting.PatchAction)
			patched = append(patched, p.GetResource().Resource+"/"+p.GetName()+" "+string(p.GetPatch()))
			return true, toUnstructured(t, deployment("web", 3)), nil
		})
		require.NoError(t, r.Restart(t.Context(), part))
		require.Len(t, patched, 1, "part %q", part)
		assert.Contains(t, patched[0], "deployments/web ")
		assert.Contains(t, patched[0], restarted)
	}
}

func TestRestartOfAPod(t *testing.T) {
	f, r := installed(t)
	require.NoError(t, r.Restart(t.Context(), "Deployment/web/Pod/a"))
	pods, err := f.kube.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	for _, p := range pods.Items {
		assert.NotEqual(t, "a", p.Name, "it was not deleted")
	}
	require.NoError(t, r.Restart(t.Context(), "Deployment/web/Pod/a"), "one that is gone already")
}

func TestPod(t *testing.T) {
	f, r := installed(t)
	require.NoError(t, f.kube.Tracker().Update(podsResource, pod("s", "a", crashLoop(4, 1, "Error")), ns))
	namespace, name, err := r.Pod(t.Context(), "Deployment/web")
	require.NoError(t, err)
	assert.Equal(t, ns, namespace)
	assert.Equal(t, "b", name, "a ready one")
	_, name, err = r.Pod(t.Context(), "Deployment/web/Pod/a")
	require.NoError(t, err)
	assert.Equal(t, "a", name, "the one that was asked for")
}

func TestPartsThatAreNotThere(t *testing.T) {
	_, r := installed(t)
	for _, part := range []string{"Deployment/other", "Deployment/web/Pod/"} {
		assert.ErrorIs(t, r.Restart(t.Context(), part), errNoPart, part)
		_, err := r.Describe(t.Context(), part)
		assert.ErrorIs(t, err, errNoPart, part)
	}
	f := readyCluster(t)
	assert.ErrorContains(t, f.manager().Release(webSpec(t)).Restart(t.Context(), ""), "not installed")
}
