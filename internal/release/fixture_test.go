package release

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chartutil"
	kubefake "helm.sh/helm/v3/pkg/kube/fake"
	"helm.sh/helm/v3/pkg/storage"
	"helm.sh/helm/v3/pkg/storage/driver"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/kubernetes/scheme"
	metadatafake "k8s.io/client-go/metadata/fake"
	"k8s.io/utils/ptr"

	"github.com/sandbox-stack/sandbox/internal/event"
)

const ns = "production"

// now is the moment of the pure tests.
var now = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

// deployment is as its controller would have it: 3 replicas, ready of them.
func deployment(name string, ready int32) *appsv1.Deployment {
	available := corev1.ConditionTrue
	if ready < 3 {
		available = corev1.ConditionFalse
	}
	return &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: ns, UID: types.UID("deploy-" + name), Generation: 2},
		Spec:       appsv1.DeploymentSpec{Replicas: ptr.To[int32](3)},
		Status: appsv1.DeploymentStatus{
			ObservedGeneration: 2, Replicas: 3, UpdatedReplicas: 3, ReadyReplicas: ready, AvailableReplicas: ready,
			Conditions: []appsv1.DeploymentCondition{
				{Type: appsv1.DeploymentAvailable, Status: available},
				{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: "NewReplicaSetAvailable"},
			},
		},
	}
}

func replicaSet(deploy, name, revision string) *appsv1.ReplicaSet {
	return &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{
		Name: name, Namespace: ns, UID: types.UID("rs-" + name),
		Annotations:     map[string]string{"deployment.kubernetes.io/revision": revision},
		OwnerReferences: []metav1.OwnerReference{{Kind: "Deployment", Name: deploy, UID: types.UID("deploy-" + deploy), Controller: ptr.To(true)}},
	}}
}

// pod is a pod of a ReplicaSet in the state that change gives it.
func pod(set, name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: ns, UID: types.UID("pod-" + name), CreationTimestamp: metav1.NewTime(now.Add(-30 * time.Second)),
			OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: set, UID: types.UID("rs-" + set), Controller: ptr.To(true)}},
		},
		Spec:   corev1.PodSpec{Containers: []corev1.Container{{Name: "web"}}},
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
	for _, c := range change {
		c(p)
	}
	return p
}

func ready(p *corev1.Pod) {
	p.Status.Phase = corev1.PodRunning
	p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: corev1.ConditionTrue})
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "web", Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
}

func runningSince(at time.Time) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.ContainerStatuses[0].State.Running.StartedAt = metav1.NewTime(at) }
}

func aged(d time.Duration) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.CreationTimestamp = metav1.NewTime(now.Add(-d)) }
}

func waiting(reason, message string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{
			Name: "web", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}},
		}}
	}
}

func crashLoop(restarts, code int32, reason string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.Phase = corev1.PodRunning
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{
			Name: "web", RestartCount: restarts,
			State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off 40s restarting failed container"}},
			LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason}},
		}}
	}
}

func warning(about types.UID, reason, message string, ago time.Duration) *corev1.Event {
	return &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Name: reason + ago.String(), Namespace: ns, UID: types.UID(reason + ago.String())},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Name: "p", UID: about},
		Type:           corev1.EventTypeWarning, Reason: reason, Message: message,
		FirstTimestamp: metav1.NewTime(now.Add(-ago)), LastTimestamp: metav1.NewTime(now.Add(-ago)),
	}
}

func refTo(group, version, kind, name string) ref {
	gvk := schema.GroupVersionKind{Group: group, Version: version, Kind: kind}
	gvr, _ := meta.UnsafeGuessKindToResource(gvk)
	return ref{gvk: gvk, gvr: gvr, namespace: ns, name: name}
}

func toUnstructured(t *testing.T, obj runtime.Object) *unstructured.Unstructured {
	t.Helper()
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		t.Fatal(err)
	}
	return &unstructured.Unstructured{Object: m}
}

// listener is a Reporter that keeps what it hears.
type listener struct {
	mu       sync.Mutex
	lines    []string
	progress []event.Progress
}

func (l *listener) Progress(p event.Progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.progress = append(l.progress, p)
}

func (l *listener) Log(source, line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, source+": "+line)
}

func (l *listener) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

func (l *listener) last() event.Progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.progress) == 0 {
		return event.Progress{}
	}
	return l.progress[len(l.progress)-1]
}

// resettable is a mapper that knows a fixed set of kinds.
type resettable struct{ meta.RESTMapper }

func (resettable) Reset() {}

// fakeCluster is a cluster in memory. Helm keeps its records in it, but what
// Helm "applies" goes nowhere: a test puts the objects there itself.
type fakeCluster struct {
	*cluster
	kube     *fake.Clientset
	dynamic  *dynamicfake.FakeDynamicClient
	releases *driver.Memory
	applied  *kubefake.FailingKubeClient
}

func newFakeCluster(t *testing.T, objects ...runtime.Object) *fakeCluster {
	t.Helper()
	mapper := meta.NewDefaultRESTMapper(nil)
	for _, gv := range []schema.GroupVersion{appsv1.SchemeGroupVersion, batchv1.SchemeGroupVersion, corev1.SchemeGroupVersion} {
		for kind := range scheme.Scheme.KnownTypes(gv) {
			mapper.Add(gv.WithKind(kind), meta.RESTScopeNamespace)
		}
	}
	mapper.Add(schema.GroupVersionKind{Group: "db.example", Version: "v1", Kind: "Postgres"}, meta.RESTScopeNamespace)

	var typed, untyped, metas []runtime.Object
	partial := metadatafake.NewTestScheme()
	if err := metav1.AddMetaToScheme(partial); err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		switch o := o.(type) {
		case *corev1.Pod, *appsv1.ReplicaSet, *corev1.Event, *corev1.Namespace:
			typed = append(typed, o)
		case *corev1.ConfigMap:
			metas = append(metas, &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"}, ObjectMeta: o.ObjectMeta})
		default:
			untyped = append(untyped, o)
		}
	}
	mem := driver.NewMemory()
	mem.SetNamespace(ns)
	f := &fakeCluster{
		kube:     fake.NewClientset(typed...),
		dynamic:  dynamicfake.NewSimpleDynamicClient(scheme.Scheme, untyped...),
		releases: mem,
		applied:  &kubefake.FailingKubeClient{PrintingKubeClient: kubefake.PrintingKubeClient{Out: io.Discard}},
	}
	f.cluster = &cluster{
		kube: f.kube, dynamic: f.dynamic, mapper: resettable{mapper},
		metadata: metadatafake.NewSimpleMetadataClient(partial, metas...),
		helm: func(_ string, rep event.Reporter) (*action.Configuration, error) {
			return &action.Configuration{
				Releases: storage.Init(mem), KubeClient: f.applied, Capabilities: chartutil.DefaultCapabilities,
				Log: debugLog(rep), HookOutputFunc: hookOutput(rep),
			}, nil
		},
	}
	return f
}

func (f *fakeCluster) manager() *Manager {
	return &Manager{cfg: Config{Sandbox: "demo", Run: "run-1"}, connect: func() (*cluster, error) { return f.cluster, nil }}
}

func configMap(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: ns}}
}

// manifestOf is a release's manifest of the Deployments of these names.
func manifestOf(names ...string) string {
	var b strings.Builder
	for _, n := range names {
		fmt.Fprintf(&b, "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: %s}\n", n)
	}
	return b.String()
}
