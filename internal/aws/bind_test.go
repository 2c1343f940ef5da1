package aws

import (
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// newClient is a fake API server that counts resource versions up when an
// apply changes something, as the real one does.
func newClient(t *testing.T, objects ...kruntime.Object) *fake.Clientset {
	t.Helper()
	client := fake.NewClientset(objects...)
	client.PrependReactor("patch", "services", func(clienttesting.Action) (bool, kruntime.Object, error) {
		svc := &corev1.Service{}
		svc.Name, svc.Namespace, svc.ResourceVersion = ObjectName, Namespace, "1"
		svc.Spec.ClusterIP = "10.96.7.7"
		_ = client.Tracker().Add(svc) // a second apply finds it there
		return true, svc, nil
	})
	return client
}

func binding() Binding {
	return Binding{Sandbox: "web", Namespaces: []string{"production", Namespace}, Address: "10.89.0.5", Port: 4566}
}

func TestBind(t *testing.T) {
	existing := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "production", Labels: map[string]string{"team": "a"}}}
	client := newClient(t, existing)
	ctx := t.Context()
	changed, err := Bind(ctx, client, binding())
	if err != nil {
		t.Fatal(err)
	}
	if !changed {
		t.Error("a first bind changed nothing")
	}

	slice, err := client.DiscoveryV1().EndpointSlices(Namespace).Get(ctx, ObjectName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := slice.Endpoints[0].Addresses; !slices.Equal(got, []string{"10.89.0.5"}) {
		t.Errorf("addresses %v", got)
	}
	if got := slice.Labels["kubernetes.io/service-name"]; got != ObjectName {
		t.Errorf("the slice belongs to service %q", got)
	}
	if got := *slice.Ports[0].Port; got != 4566 {
		t.Errorf("port %d", got)
	}
	for _, ns := range []string{Namespace, "production"} {
		cm, err := client.CoreV1().ConfigMaps(ns).Get(ctx, ObjectName, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]string{
			"AWS_ENDPOINT_URL":          "http://aws-emulator.aws.svc.cluster.local:4566",
			"AWS_ENDPOINT_URL_S3":       "http://10.96.7.7:4566",
			"AWS_REGION":                "us-east-1",
			"AWS_DEFAULT_REGION":        "us-east-1",
			"AWS_EC2_METADATA_DISABLED": "true",
		}
		if !maps.Equal(cm.Data, want) {
			t.Errorf("ConfigMap in %s: %v", ns, cm.Data)
		}
		secret, err := client.CoreV1().Secrets(ns).Get(ctx, ObjectName, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if string(secret.Data["AWS_ACCESS_KEY_ID"]) != AccessKey || len(secret.Data) != 2 {
			t.Errorf("Secret in %s: %v", ns, secret.Data)
		}
		if secret.Labels[runtime.LabelName] != "web" {
			t.Errorf("Secret in %s has labels %v", ns, secret.Labels)
		}
	}
	ns, err := client.CoreV1().Namespaces().Get(ctx, "production", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(ns.Labels, existing.Labels) {
		t.Errorf("a namespace that was there got labels %v", ns.Labels)
	}
}

func TestBindFollowsTheAddress(t *testing.T) {
	client := newClient(t)
	if _, err := Bind(t.Context(), client, binding()); err != nil {
		t.Fatal(err)
	}
	b := binding()
	b.Address = "10.89.0.9"
	if _, err := Bind(t.Context(), client, b); err != nil {
		t.Fatal(err)
	}
	slice, err := client.DiscoveryV1().EndpointSlices(Namespace).Get(t.Context(), ObjectName, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := slice.Endpoints[0].Addresses; !slices.Equal(got, []string{"10.89.0.9"}) {
		t.Errorf("addresses %v", got)
	}
}

func TestBindRejectsANameAsAddress(t *testing.T) {
	b := binding()
	b.Address = "aws"
	if _, err := Bind(t.Context(), newClient(t), b); err == nil {
		t.Error("an EndpointSlice with a name was accepted")
	}
}
