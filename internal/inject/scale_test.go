package inject

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	kubefake "k8s.io/client-go/kubernetes/fake"
	kubetest "k8s.io/client-go/testing"

	"github.com/sandbox-stack/sandbox/internal/stack"
)

// replicaSetOf is a ReplicaSet of a Deployment.
func replicaSetOf(deployment, name string) *appsv1.ReplicaSet {
	return &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{
		Namespace: "production", Name: name, OwnerReferences: []metav1.OwnerReference{{Kind: "Deployment", Name: deployment, Controller: new(true)}},
	}}
}

// scales makes the cluster answer for the scale of the workloads, by name; a
// number below 0 is for one that is gone.
func scales(client *kubefake.Clientset, replicas map[string]int32) {
	for _, kind := range []string{"deployments", "statefulsets", "replicasets"} {
		client.PrependReactor("get", kind+"/scale", func(a kubetest.Action) (bool, kruntime.Object, error) {
			name := a.(kubetest.GetAction).GetName()
			n, ok := replicas[name]
			if !ok || n < 0 || a.GetNamespace() != "production" {
				return true, &autoscalingv1.Scale{}, apierrors.NewNotFound(a.GetResource().GroupResource(), name)
			}
			return true, &autoscalingv1.Scale{
				ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "production"},
				Spec:       autoscalingv1.ScaleSpec{Replicas: n}, Status: autoscalingv1.ScaleStatus{Replicas: n},
			}, nil
		})
		conflicts := 1
		client.PrependReactor("update", kind+"/scale", func(a kubetest.Action) (bool, kruntime.Object, error) {
			s := a.(kubetest.UpdateAction).GetObject().(*autoscalingv1.Scale)
			if conflicts > 0 { // which is tried again
				conflicts--
				return true, s, apierrors.NewConflict(a.GetResource().GroupResource(), s.Name, errors.New("changed"))
			}
			replicas[s.Name] = s.Spec.Replicas
			return true, s, nil
		})
	}
}

func TestScaleAndBack(t *testing.T) {
	for _, kind := range []string{"deployment", "statefulset", "replicaset"} {
		w, client, _ := podWorld(t, nil, &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{Namespace: "production", Name: "web"}})
		replicas := map[string]int32{"web": 3}
		scales(client, replicas)
		injector, rec := prepare(t, stack.Inject{Scale: &stack.ScaleFault{Workload: kind + "/web"}}, w)
		assert.Equal(t, "scale production/"+kind+"/web to 0", rec.What)
		assert.Equal(t, []string{kind + " production/web"}, rec.Targets)
		assert.Equal(t, LevelCluster, rec.Level)
		assert.EqualValues(t, 3, replicas["web"], "preparing changes nothing")

		require.NoError(t, injector.Inject(t.Context(), rec))
		assert.EqualValues(t, 0, replicas["web"])
		require.NoError(t, Undo(t.Context(), rec, w))
		assert.EqualValues(t, 3, replicas["web"])
		require.NoError(t, Undo(t.Context(), rec, w))
		assert.EqualValues(t, 3, replicas["web"])

		replicas["web"] = 5
		require.NoError(t, Undo(t.Context(), rec, w))
		assert.EqualValues(t, 5, replicas["web"], "somebody else's number is left alone")
		replicas["web"] = -1
		require.NoError(t, Undo(t.Context(), rec, w), "it is gone")
	}
}

func TestScaleTellsOfOthers(t *testing.T) {
	w, client, _ := podWorld(t, nil)
	replicas := map[string]int32{"web": 3}
	scales(client, replicas)
	injector, rec := prepare(t, stack.Inject{Scale: &stack.ScaleFault{Workload: "deployment/web"}}, w)
	require.ErrorContains(t, injector.Sustain(t.Context(), rec), "was scaled to 3 during the drill")
}

func TestScaleRefuses(t *testing.T) {
	meta := metav1.ObjectMeta{Namespace: "production", Name: "web"}
	hpa := &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: meta, Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
		ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{Kind: "Deployment", Name: "web"},
	}}
	w, client, _ := podWorld(t, nil, hpa, replicaSetOf("web", "web-abc"),
		&appsv1.Deployment{ObjectMeta: meta}, &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "production", Name: "db"}})
	scales(client, map[string]int32{"web": 3, "web-abc": 3, "db": 0})
	for _, c := range []struct {
		spec  stack.ScaleFault
		words []string
	}{
		{stack.ScaleFault{Workload: "deployment/wep"}, []string{"no deployment/wep in namespace production", "there are: deployment/web, statefulset/db"}},
		{stack.ScaleFault{Workload: "deployment/web", Namespace: "prod"}, []string{"no deployment/web in namespace prod", "there are no workloads"}},
		{stack.ScaleFault{Workload: "statefulset/db"}, []string{"production/statefulset/db is already at 0"}},
		{stack.ScaleFault{Workload: "deployment/web", Replicas: 1}, []string{"can't be kept at 1", "HorizontalPodAutoscaler web"}},
		{stack.ScaleFault{Workload: "replicaset/web-abc"}, []string{"deployment/web would scale it back"}},
	} {
		injector, err := New(stack.Inject{Scale: &c.spec}, w)
		require.NoError(t, err)
		_, err = injector.Prepare(t.Context())
		invalid(t, err, c.words...)
	}
	w.Namespaces = []string{"production", "production"}
	injector, err := New(stack.Inject{Scale: &stack.ScaleFault{Workload: "deployment/web"}}, w)
	require.NoError(t, err)
	_, err = injector.Prepare(t.Context())
	invalid(t, err, "more than one of the namespaces")
}
