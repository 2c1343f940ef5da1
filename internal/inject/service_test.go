package inject

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	kubefake "k8s.io/client-go/kubernetes/fake"
	kubetesting "k8s.io/client-go/testing"

	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/fake"
	"github.com/sandbox-stack/sandbox/internal/stack"
)

// kube is a cluster with a node, the Service of the emulator and whatever else.
type kube struct{ *kubefake.Clientset }

func (k kube) give() (kubernetes.Interface, error) { return k, nil }

func kubeWith(objects ...kruntime.Object) kube {
	objects = append(objects,
		&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n-0"}},
		&corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "n-1"},
			Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}},
		},
		&corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: "aws-emulator", Namespace: "aws"},
			Spec:       corev1.ServiceSpec{ClusterIP: "10.96.0.9", Ports: []corev1.ServicePort{{Port: 4566}}},
		})
	k := kube{kubefake.NewClientset(objects...)}
	// As the API server does.
	k.PrependReactor("create", "services", func(action kubetesting.Action) (bool, kruntime.Object, error) {
		svc := action.(kubetesting.CreateAction).GetObject().(*corev1.Service)
		for i := range svc.Spec.Ports {
			svc.Spec.Ports[i].NodePort = int32(30000 + i)
		}
		return false, nil, nil
	})
	return k
}

func shop(change func(*corev1.Service)) *corev1.Service {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "shop", Namespace: "production", UID: "u-1"},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.96.0.7", Selector: map[string]string{"app": "shop"},
			Ports: []corev1.ServicePort{
				{Name: "http", Port: 80, TargetPort: intstr.FromString("web"), Protocol: corev1.ProtocolTCP},
				{Name: "admin", Port: 81, TargetPort: intstr.FromInt32(8081), Protocol: corev1.ProtocolTCP},
			},
		},
	}
	if change != nil {
		change(svc)
	}
	return svc
}

func sliceOf(name, service, manager string) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "production",
			Labels: map[string]string{discoveryv1.LabelServiceName: service, discoveryv1.LabelManagedBy: manager},
		},
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.244.0.5"}}},
	}
}

// proxyWorld is a World with a cluster, whose proxies are only noted.
func proxyWorld(t *testing.T, k kube) (World, map[string]ProxySpec, *[]string) {
	t.Helper()
	var calls []string
	w, engine := engineWorld(t, &calls)
	w.Kube, w.Namespaces = k.give, []string{"production", "staging"}
	w.Node = func(ctx context.Context, name string) (runtime.Container, error) {
		return engine.Container(ctx, "t-node-1")
	}
	proxies, addresses := map[string]ProxySpec{}, map[string]string{}
	w.Proxy = func(_ context.Context, name string, spec ProxySpec) (string, error) {
		proxies[name], addresses[name] = spec, fmt.Sprintf("10.89.9.%d", len(proxies)+1)
		return addresses[name], nil
	}
	w.ProxyAddress = func(_ context.Context, name string) (string, error) { return addresses[name], nil }
	w.StopProxy = func(_ context.Context, name string) error {
		delete(proxies, name)
		delete(addresses, name)
		return nil
	}
	w.Emulator = func(context.Context) (string, int, error) { return "10.89.0.24", 4566, nil }
	w.LeadEmulator = func(_ context.Context, address string, port int) error {
		calls = append(calls, fmt.Sprintf("lead %s:%d", address, port))
		return nil
	}
	return w, proxies, &calls
}

func delayShop(change func(*stack.DelayFault)) stack.Inject {
	d := stack.DelayFault{Service: "shop", Latency: stack.Duration(300 * time.Millisecond), Jitter: stack.Duration(50 * time.Millisecond)}
	if change != nil {
		change(&d)
	}
	return stack.Inject{Delay: &d}
}

func names[T any](items []T, name func(T) string) []string {
	var all []string
	for _, item := range items {
		all = append(all, name(item))
	}
	return all
}

func (k kube) slices(t *testing.T) []string {
	t.Helper()
	list, err := k.DiscoveryV1().EndpointSlices("production").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	return names(list.Items, func(s discoveryv1.EndpointSlice) string { return s.Name })
}

func (k kube) services(t *testing.T) []string {
	t.Helper()
	list, err := k.CoreV1().Services("production").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	return names(list.Items, func(s corev1.Service) string { return s.Name })
}

func TestAServiceIsLedThroughProxiesAndBack(t *testing.T) {
	t.Parallel()
	//nolint:staticcheck // clusters still have Endpoints, and mirror them
	k := kubeWith(shop(nil), sliceOf("shop-abc", "shop", controllers[0]), sliceOf("shop-own", "shop", "somebody"),
		sliceOf("till-abc", "till", controllers[0]), &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Name: "shop", Namespace: "production"}})
	w, proxies, _ := proxyWorld(t, k)
	in, err := New(delayShop(nil), w)
	require.NoError(t, err)
	rec, err := in.Prepare(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "delay what is sent to production/shop by 300ms ± 50ms", rec.What)
	assert.Equal(t, []string{"service production/shop"}, rec.Targets)
	assert.Equal(t, LevelCluster, rec.Level)
	assert.Equal(t, []string{"shop"}, k.services(t), "preparing changes nothing")
	require.NoError(t, Undo(t.Context(), kept(t, rec), w), "before it is injected")

	require.NoError(t, in.Inject(t.Context(), kept(t, rec)))
	tag := "-" + short(rec.ID)
	node, err := w.Engine.Container(t.Context(), "t-node-1")
	require.NoError(t, err)
	assert.Equal(t, map[string]ProxySpec{
		"proxy" + tag + "-80": {Listen: proxyPort, Upstream: node.IPs[testNetwork] + ":30000", Latency: 300 * time.Millisecond, Jitter: 50 * time.Millisecond},
		"proxy" + tag + "-81": {Listen: proxyPort, Upstream: node.IPs[testNetwork] + ":30001", Latency: 300 * time.Millisecond, Jitter: 50 * time.Millisecond},
	}, proxies)
	svc, err := k.CoreV1().Services("production").Get(t.Context(), "shop", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Empty(t, svc.Spec.Selector)
	bypass, err := k.CoreV1().Services("production").Get(t.Context(), "shop"+tag, metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"app": "shop"}, bypass.Spec.Selector)
	assert.Equal(t, corev1.ServiceTypeNodePort, bypass.Spec.Type)
	assert.Equal(t, rec.ID, bypass.Labels["sandbox.drill"])
	assert.Equal(t, "t", bypass.Labels[runtime.LabelName])
	assert.Equal(t, "drill", bypass.Labels[runtime.LabelComponent])
	assert.Equal(t, intstr.FromString("web"), bypass.Spec.Ports[0].TargetPort)
	assert.ElementsMatch(t, []string{"shop" + tag + "-80", "shop" + tag + "-81", "shop-own", "till-abc"}, k.slices(t))
	slice, err := k.DiscoveryV1().EndpointSlices("production").Get(t.Context(), "shop"+tag+"-81", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, []string{"10.89.9.2"}, slice.Endpoints[0].Addresses)
	assert.Equal(t, "admin", *slice.Ports[0].Name)
	assert.Equal(t, "shop", slice.Labels[discoveryv1.LabelServiceName])
	endpoints, err := k.CoreV1().Endpoints("production").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	assert.Empty(t, endpoints.Items)

	for range 2 {
		require.NoError(t, Undo(t.Context(), kept(t, rec), w))
		svc, err = k.CoreV1().Services("production").Get(t.Context(), "shop", metav1.GetOptions{})
		require.NoError(t, err)
		assert.Equal(t, map[string]string{"app": "shop"}, svc.Spec.Selector)
		assert.Equal(t, []string{"shop"}, k.services(t))
		assert.ElementsMatch(t, []string{"shop-own", "till-abc"}, k.slices(t))
		assert.Empty(t, proxies)
	}
}

func TestUndoLeavesAnotherServiceAlone(t *testing.T) {
	t.Parallel()
	k := kubeWith(shop(nil))
	w, proxies, _ := proxyWorld(t, k)
	in, err := New(delayShop(nil), w)
	require.NoError(t, err)
	rec, err := in.Prepare(t.Context())
	require.NoError(t, err)
	require.NoError(t, in.Inject(t.Context(), rec))
	require.NoError(t, k.CoreV1().Services("production").Delete(t.Context(), "shop", metav1.DeleteOptions{}))
	require.NoError(t, Undo(t.Context(), kept(t, rec), w), "it is gone")
	assert.Empty(t, k.services(t))
	assert.Empty(t, proxies)

	another := shop(func(s *corev1.Service) { s.UID, s.Spec.Selector = "u-2", nil })
	_, err = k.CoreV1().Services("production").Create(t.Context(), another, metav1.CreateOptions{})
	require.NoError(t, err)
	require.NoError(t, Undo(t.Context(), kept(t, rec), w))
	got, err := k.CoreV1().Services("production").Get(t.Context(), "shop", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Empty(t, got.Spec.Selector)
}

func TestProxiesStayWhileTheServiceLeadsToThem(t *testing.T) {
	t.Parallel()
	k := kubeWith(shop(nil))
	w, proxies, _ := proxyWorld(t, k)
	in, err := New(delayShop(nil), w)
	require.NoError(t, err)
	rec, err := in.Prepare(t.Context())
	require.NoError(t, err)
	require.NoError(t, in.Inject(t.Context(), rec))
	refuse := true
	k.PrependReactor("patch", "services", func(kubetesting.Action) (bool, kruntime.Object, error) {
		return refuse, nil, errors.New("not now")
	})
	require.ErrorContains(t, Undo(t.Context(), kept(t, rec), w), "not now")
	assert.Len(t, proxies, 2)
	assert.Len(t, k.slices(t), 2)
	refuse = false
	require.NoError(t, Undo(t.Context(), kept(t, rec), w))
	assert.Empty(t, proxies)
	assert.Empty(t, k.slices(t))
}

func TestProxiesStayUntilNoNodeLeadsToThem(t *testing.T) {
	t.Parallel()
	k := kubeWith(shop(nil))
	w, proxies, _ := proxyWorld(t, k)
	in, err := New(delayShop(nil), w)
	require.NoError(t, err)
	rec, err := in.Prepare(t.Context())
	require.NoError(t, err)
	require.NoError(t, in.Inject(t.Context(), rec))
	engine := w.Engine.(*fake.Runtime)
	asked := 0
	engine.Fail = func(method, subject string) error {
		if method != "Exec" || !strings.Contains(subject, "iptables-save") {
			return nil
		}
		asked++
		assert.Contains(t, subject, "sandbox 10.89.9.1 10.89.9.2")
		assert.Len(t, proxies, 2)
		assert.Empty(t, k.slices(t))
		assert.Len(t, k.services(t), 2, "the proxies reach the pods still")
		return errors.New("still led")
	}
	for range 2 {
		require.ErrorContains(t, Undo(t.Context(), kept(t, rec), w), "still led")
	}
	assert.Equal(t, 2*2, asked, "on both nodes")
	assert.Len(t, proxies, 2)
	engine.Fail = nil
	require.NoError(t, Undo(t.Context(), kept(t, rec), w))
	assert.Empty(t, proxies)
	assert.Equal(t, []string{"shop"}, k.services(t))
}

func TestAServiceLeadsToItsPodsBeforeItsProxiesAreLeft(t *testing.T) {
	t.Parallel()
	k := kubeWith(shop(nil))
	w, proxies, _ := proxyWorld(t, k)
	in, err := New(delayShop(nil), w)
	require.NoError(t, err)
	rec, err := in.Prepare(t.Context())
	require.NoError(t, err)
	require.NoError(t, in.Inject(t.Context(), rec))
	require.NoError(t, k.Tracker().Add(sliceOf("bypass-abc", "shop-"+short(rec.ID), controllers[0])))
	ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Millisecond, errors.New("the controller is slow"))
	defer cancel()
	require.ErrorContains(t, Undo(ctx, kept(t, rec), w), "the controller is slow")
	assert.Len(t, proxies, 2)
	assert.ElementsMatch(t, []string{"shop-" + short(rec.ID) + "-80", "shop-" + short(rec.ID) + "-81", "bypass-abc"}, k.slices(t))

	require.NoError(t, k.Tracker().Add(sliceOf("shop-new", "shop", controllers[0])))
	require.NoError(t, Undo(t.Context(), kept(t, rec), w))
	assert.Empty(t, proxies)
	assert.ElementsMatch(t, []string{"shop-new", "bypass-abc"}, k.slices(t), "the controller removes what is of the bypass")
}

func TestServicesThatTakeNoProxy(t *testing.T) {
	for name, tc := range map[string]struct {
		service *corev1.Service
		fault   func(*stack.DelayFault)
		words   []string
	}{
		"external": {shop(func(s *corev1.Service) {
			s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, "example.com"
		}), nil, []string{"production/shop", "another name for example.com"}},
		"selects nothing": {shop(func(s *corev1.Service) { s.Spec.Selector = nil }), nil, []string{"it selects no pods"}},
		"headless":        {shop(func(s *corev1.Service) { s.Spec.ClusterIP = "None" }), nil, []string{"it is headless"}},
		"udp":             {shop(func(s *corev1.Service) { s.Spec.Ports[1].Protocol = corev1.ProtocolUDP }), nil, []string{"port 81 is UDP"}},
		"misspelled":      {shop(nil), func(d *stack.DelayFault) { d.Service = "shpo" }, []string{"no Service shpo", "production, staging", `did you mean "shop"?`}},
		"in no such namespace": {shop(nil), func(d *stack.DelayFault) { d.Namespace = "staging" }, []string{
			"no Service shop", "in the namespaces staging", "there is none",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w, _, _ := proxyWorld(t, kubeWith(tc.service))
			in, err := New(delayShop(tc.fault), w)
			require.NoError(t, err)
			_, err = in.Prepare(t.Context())
			invalid(t, err, tc.words...)
		})
	}
	t.Run("in two namespaces", func(t *testing.T) {
		w, _, _ := proxyWorld(t, kubeWith(shop(nil), shop(func(s *corev1.Service) { s.Namespace = "staging" })))
		in, err := New(delayShop(nil), w)
		require.NoError(t, err)
		_, err = in.Prepare(t.Context())
		invalid(t, err, "more than one Service shop", "production, staging")
	})
}

func TestWhatComesBackIsTakenAwayAgain(t *testing.T) {
	t.Parallel()
	k := kubeWith(shop(nil), sliceOf("shop-abc", "shop", controllers[0]))
	w, _, _ := proxyWorld(t, k)
	in, err := New(delayShop(nil), w)
	require.NoError(t, err)
	rec, err := in.Prepare(t.Context())
	require.NoError(t, err)
	// A controller that has not seen the change brings it back, once.
	back := 0
	k.PrependReactor("delete", "endpointslices", func(action kubetesting.Action) (bool, kruntime.Object, error) {
		if back++; back == 1 {
			return false, nil, k.Tracker().Add(sliceOf("shop-def", "shop", controllers[0]))
		}
		return false, nil, nil
	})
	require.NoError(t, in.Inject(t.Context(), rec))
	assert.Len(t, k.slices(t), 2, "%v", k.slices(t))

	require.NoError(t, k.Tracker().Add(sliceOf("shop-ghi", "shop", controllers[1])))
	require.NoError(t, k.Tracker().Add(sliceOf("bypass-abc", "shop-"+short(rec.ID), controllers[0])))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- in.Sustain(ctx, kept(t, rec)) }()
	require.Eventually(t, func() bool {
		calls := strings.Join(w.Engine.(interface{ Calls() []string }).Calls(), "\n")
		return strings.Contains(calls, "conntrack -D -p tcp") && strings.Contains(calls, "sandbox 10.96.0.7 10.244.0.5")
	}, 10*time.Second, 5*time.Millisecond)
	assert.NotContains(t, k.slices(t), "shop-ghi")
	cancel()
	require.NoError(t, <-ended)
}

func TestALongNameIsCut(t *testing.T) {
	long := strings.Repeat("a", 55) + "-bcdefgh"
	w, _, _ := proxyWorld(t, kubeWith(shop(func(s *corev1.Service) { s.Name = long })))
	in, err := New(delayShop(func(d *stack.DelayFault) { d.Service = long }), w)
	require.NoError(t, err)
	rec, err := in.Prepare(t.Context())
	require.NoError(t, err)
	var d detour
	require.NoError(t, kept(t, rec).read(&d))
	assert.Equal(t, strings.Repeat("a", 55)+"-"+short(rec.ID), d.Service.Bypass)
}
