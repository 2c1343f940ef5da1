package aws

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	applycore "k8s.io/client-go/applyconfigurations/core/v1"
	applydiscovery "k8s.io/client-go/applyconfigurations/discovery/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

const (
	// Namespace holds the Service by which pods reach the emulator.
	Namespace = "aws"
	// ObjectName is the name of the Service and, in each namespace, of the
	// ConfigMap and the Secret from which pods take their AWS environment.
	ObjectName = "aws-emulator"
	// ServiceHost is the name by which pods reach the emulator.
	ServiceHost = ObjectName + "." + Namespace + ".svc.cluster.local"
	// ServicePort is the port of that Service.
	ServicePort = 4566

	// AccessKey is, with SecretKey, what the emulator takes for its default
	// account. They open nothing else.
	AccessKey = "test"
	// SecretKey belongs to AccessKey.
	SecretKey = "test"

	fieldManager = "sandbox"
)

// Binding says how the pods of a cluster reach an emulator.
type Binding struct {
	// Sandbox is the sandbox's name, for the label of what is created.
	Sandbox string
	// Namespaces are those of the releases; each gets the ConfigMap and the
	// Secret, and is created where it does not exist.
	Namespaces []string
	// Address and Port are where the cluster's nodes reach the emulator.
	Address string
	Port    int
	Region  string
}

// Binding returns the binding of the running emulator for the namespaces.
func (e *Emulator) Binding(ctx context.Context, namespaces []string) (Binding, error) {
	ip, err := e.Address(ctx)
	if err != nil {
		return Binding{}, err
	}
	return Binding{
		Sandbox: e.cfg.Name, Namespaces: namespaces,
		Address: ip, Port: listenPort, Region: e.cfg.Region,
	}, nil
}

// Bind makes the emulator known in the cluster and reports whether anything
// changed there. It follows an address that has changed.
func Bind(ctx context.Context, client kubernetes.Interface, b Binding) (bool, error) {
	addr, err := netip.ParseAddr(b.Address)
	if err != nil {
		return false, fault.Wrap(fault.Invalid, err, "", "the AWS emulator's address %q", b.Address)
	}
	k := &binder{client: client, labels: map[string]string{
		runtime.LabelName:      b.Sandbox,
		runtime.LabelComponent: component,
	}}
	k.namespace(ctx, Namespace)
	clusterIP := k.service(ctx)
	k.endpoints(ctx, addr, b.Port)
	env := environment(cmp.Or(b.Region, DefaultRegion), clusterIP)
	k.credentials(ctx, Namespace, env)
	for _, ns := range b.Namespaces {
		if ns != Namespace {
			k.namespace(ctx, ns)
			k.credentials(ctx, ns, env)
		}
	}
	if k.err != nil {
		return k.changed, fault.Wrap(fault.Failed, k.err, "sandbox up", "make the AWS emulator known in the cluster")
	}
	return k.changed, nil
}

// environment is what the ConfigMap holds. SDKs take it as it is. S3 has an
// endpoint of its own: with a host name, SDKs put the bucket's name in front of
// it, which the cluster's DNS does not know; with an address they put it in the
// path.
func environment(region, clusterIP string) map[string]string {
	env := map[string]string{
		"AWS_ENDPOINT_URL":   "http://" + ServiceHost + ":" + strconv.Itoa(ServicePort),
		"AWS_REGION":         region,
		"AWS_DEFAULT_REGION": region,
		// Pods have no instance metadata to wait for.
		"AWS_EC2_METADATA_DISABLED": "true",
	}
	if clusterIP != "" {
		env["AWS_ENDPOINT_URL_S3"] = "http://" + clusterIP + ":" + strconv.Itoa(ServicePort)
	}
	return env
}

// binder applies objects on the server's side until one fails.
type binder struct {
	client  kubernetes.Interface
	labels  map[string]string
	changed bool
	err     error
}

// versioned is what both the stored and the applied object tell.
type versioned interface{ GetResourceVersion() string }

// apply records whether applying what changed the stored object.
func apply[T versioned](k *binder, what string, get, apply func() (T, error)) (applied T) {
	if k.err != nil {
		return applied
	}
	var before string
	switch old, err := get(); {
	case err == nil:
		before = old.GetResourceVersion()
	case !apierrors.IsNotFound(err):
		k.err = fmt.Errorf("read %s: %w", what, err)
		return applied
	}
	applied, err := apply()
	if err != nil {
		k.err = fmt.Errorf("apply %s: %w", what, err)
		return applied
	}
	k.changed = k.changed || applied.GetResourceVersion() != before
	return applied
}

func options() metav1.ApplyOptions {
	return metav1.ApplyOptions{FieldManager: fieldManager, Force: true}
}

// namespace creates a namespace that does not exist. One that does belongs to
// whoever made it and is left as it is.
func (k *binder) namespace(ctx context.Context, name string) {
	if k.err != nil {
		return
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: k.labels}}
	switch _, err := k.client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{FieldManager: fieldManager}); {
	case err == nil:
		k.changed = true
	case !apierrors.IsAlreadyExists(err):
		k.err = fmt.Errorf("create namespace %s: %w", name, err)
	}
}

// service applies the Service, which selects no pods, and returns its address.
func (k *binder) service(ctx context.Context) (clusterIP string) {
	services := k.client.CoreV1().Services(Namespace)
	want := applycore.Service(ObjectName, Namespace).WithLabels(k.labels).
		WithSpec(applycore.ServiceSpec().WithPorts(
			applycore.ServicePort().WithName("http").WithProtocol(corev1.ProtocolTCP).WithPort(ServicePort),
		))
	svc := apply(k, "Service/"+ObjectName,
		func() (*corev1.Service, error) { return services.Get(ctx, ObjectName, metav1.GetOptions{}) },
		func() (*corev1.Service, error) { return services.Apply(ctx, want, options()) })
	if svc == nil {
		return ""
	}
	return svc.Spec.ClusterIP
}

// endpoints points the Service at the emulator.
func (k *binder) endpoints(ctx context.Context, addr netip.Addr, port int) {
	family := discoveryv1.AddressTypeIPv4
	if addr.Is6() {
		family = discoveryv1.AddressTypeIPv6
	}
	labels := map[string]string{
		discoveryv1.LabelServiceName: ObjectName,
		discoveryv1.LabelManagedBy:   fieldManager,
	}
	for key, value := range k.labels {
		labels[key] = value
	}
	slices := k.client.DiscoveryV1().EndpointSlices(Namespace)
	want := applydiscovery.EndpointSlice(ObjectName, Namespace).WithLabels(labels).
		WithAddressType(family).
		WithEndpoints(applydiscovery.Endpoint().WithAddresses(addr.String()).
			WithConditions(applydiscovery.EndpointConditions().WithReady(true))).
		WithPorts(applydiscovery.EndpointPort().WithName("http").WithProtocol(corev1.ProtocolTCP).
			WithPort(int32(port)))
	apply(k, "EndpointSlice/"+ObjectName,
		func() (*discoveryv1.EndpointSlice, error) { return slices.Get(ctx, ObjectName, metav1.GetOptions{}) },
		func() (*discoveryv1.EndpointSlice, error) { return slices.Apply(ctx, want, options()) })
}

// credentials applies the ConfigMap and the Secret of a namespace.
func (k *binder) credentials(ctx context.Context, namespace string, env map[string]string) {
	maps := k.client.CoreV1().ConfigMaps(namespace)
	apply(k, "ConfigMap/"+ObjectName+" in "+namespace,
		func() (*corev1.ConfigMap, error) { return maps.Get(ctx, ObjectName, metav1.GetOptions{}) },
		func() (*corev1.ConfigMap, error) {
			return maps.Apply(ctx, applycore.ConfigMap(ObjectName, namespace).WithLabels(k.labels).WithData(env), options())
		})
	secrets := k.client.CoreV1().Secrets(namespace)
	apply(k, "Secret/"+ObjectName+" in "+namespace,
		func() (*corev1.Secret, error) { return secrets.Get(ctx, ObjectName, metav1.GetOptions{}) },
		func() (*corev1.Secret, error) {
			return secrets.Apply(ctx, applycore.Secret(ObjectName, namespace).WithLabels(k.labels).
				WithData(map[string][]byte{"AWS_ACCESS_KEY_ID": []byte(AccessKey), "AWS_SECRET_ACCESS_KEY": []byte(SecretKey)}), options())
		})
}
