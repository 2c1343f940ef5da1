package inject

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

const (
	fieldManager = "sandbox"
	// nameLength is the most characters that the name of a Service has.
	nameLength = 63
	// settled is how often in a row nothing has to be found of what leads past
	// the proxy: a controller that has not yet seen the change may bring it back.
	settled    = 4
	settlePoll = 200 * time.Millisecond
	settleTime = 30 * time.Second
)

// controllers make the EndpointSlices of Services that select pods, and of
// Endpoints.
var controllers = []string{"endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"}

// ledService is a Service that leads to proxies in place of its pods, which
// the proxies reach by another Service.
type ledService struct {
	Namespace string            `json:"namespace"`
	Name      string            `json:"name"`
	UID       types.UID         `json:"uid"`
	Selector  map[string]string `json:"selector"`
	// Bypass is the Service by which the proxies reach the pods.
	Bypass string `json:"bypass"`
}

func (s ledService) String() string { return s.Namespace + "/" + s.Name }

// prepareService finds the Service and a node through which its pods can be reached.
func (f proxyFault) prepareService(ctx context.Context) (Record, error) {
	client, err := f.w.Kube()
	if err != nil {
		return Record{}, err
	}
	svc, err := f.findService(ctx, client)
	if err != nil {
		return Record{}, err
	}
	led := ledService{Namespace: svc.Namespace, Name: svc.Name, UID: svc.UID, Selector: svc.Spec.Selector}
	if why := unfit(svc); why != "" {
		return Record{}, noProxy(led.String(), why)
	}
	if _, err := f.nodeAddress(ctx, client); err != nil {
		return Record{}, err
	}
	rec, err := newRecord(f.kind, f.what(led.String()), LevelCluster, nil, "service "+led.String())
	if err != nil {
		return rec, err
	}
	tag := "-" + short(rec.ID)
	led.Bypass = strings.TrimRight(svc.Name[:min(len(svc.Name), nameLength-len(tag))], "-") + tag
	d := detour{Spec: f.spec, Service: &led}
	for _, port := range svc.Spec.Ports {
		d.Proxies = append(d.Proxies, fmt.Sprintf("proxy%s-%d", tag, port.Port))
	}
	return rec, rec.keep(d)
}

// findService finds the Service, in the namespaces of the releases where none
// was named.
func (f proxyFault) findService(ctx context.Context, client kubernetes.Interface) (*corev1.Service, error) {
	namespaces := f.w.Namespaces
	if f.namespace != "" {
		namespaces = []string{f.namespace}
	}
	var found []*corev1.Service
	var there, in []string
	for _, namespace := range namespaces {
		list, err := client.CoreV1().Services(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, fmt.Errorf("list the Services of %s: %w", namespace, err)
		}
		for i := range list.Items {
			there = append(there, list.Items[i].Name)
			if list.Items[i].Name == f.service {
				found, in = append(found, &list.Items[i]), append(in, namespace)
			}
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, fault.New(fault.Invalid, "no Service "+f.service, "looked for it in the namespaces "+strings.Join(namespaces, ", "),
			suggest(f.service, there))
	}
	return nil, fault.New(fault.Invalid, "more than one Service "+f.service, "there is one in each of the namespaces "+strings.Join(in, ", "),
		"name the namespace")
}

// unfit says why no proxy can be put in front of a Service, "" where one can.
func unfit(svc *corev1.Service) string {
	switch {
	case svc.Spec.Type == corev1.ServiceTypeExternalName:
		return "it is only another name for " + svc.Spec.ExternalName
	case len(svc.Spec.Selector) == 0:
		return "it selects no pods"
	case svc.Spec.ClusterIP == corev1.ClusterIPNone:
		return "it is headless: clients connect to its pods themselves"
	case len(svc.Spec.Ports) == 0:
		return "it has no port"
	}
	for _, port := range svc.Spec.Ports {
		if port.Protocol != corev1.ProtocolTCP && port.Protocol != "" {
			return fmt.Sprintf("its port %d is %s, and the proxy takes TCP only", port.Port, port.Protocol)
		}
	}
	return ""
}

// nodeAddress returns the address of a node that is ready on the sandbox's network.
func (f proxyFault) nodeAddress(ctx context.Context, client kubernetes.Interface) (string, error) {
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", fmt.Errorf("list the nodes: %w", err)
	}
	for _, node := range nodes.Items {
		ready := func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		}
		if !slices.ContainsFunc(node.Status.Conditions, ready) {
			continue
		}
		container, err := f.w.Node(ctx, node.Name)
		if err != nil {
			return "", err
		}
		if ip := container.IPs[f.w.Network]; ip != "" {
			return ip, nil
		}
	}
	return "", fault.New(fault.Unavailable, "no node can be reached", "none that is ready is on the network "+f.w.Network, "sandbox status")
}

// leadService puts the proxies between a Service and its pods.
func (f proxyFault) leadService(ctx context.Context, rec Record, d detour) error {
	client, err := f.w.Kube()
	if err != nil {
		return err
	}
	led := *d.Service
	services := client.CoreV1().Services(led.Namespace)
	svc, err := services.Get(ctx, led.Name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read the Service %s: %w", led, err)
	}
	node, err := f.nodeAddress(ctx, client)
	if err != nil {
		return err
	}
	bypass, err := services.Create(ctx, f.bypass(rec, led, svc), metav1.CreateOptions{FieldManager: fieldManager})
	if err != nil {
		return fmt.Errorf("create the Service %s: %w", led.Bypass, err)
	}
	if len(bypass.Spec.Ports) != len(d.Proxies) {
		return fmt.Errorf("the ports of the Service %s have changed since it was looked at", led)
	}
	for i, port := range bypass.Spec.Ports {
		d.Spec.Listen, d.Spec.Upstream = proxyPort, net.JoinHostPort(node, strconv.Itoa(int(port.NodePort)))
		address, err := f.w.Proxy(ctx, d.Proxies[i], d.Spec)
		if err != nil {
			return err
		}
		slice, err := f.slice(rec, led, port, address)
		if err != nil {
			return err
		}
		if _, err := client.DiscoveryV1().EndpointSlices(led.Namespace).Create(ctx, slice, metav1.CreateOptions{FieldManager: fieldManager}); err != nil {
			return fmt.Errorf("create the EndpointSlice %s: %w", slice.Name, err)
		}
	}
	if err := f.patch(ctx, client, led,
		operation{Op: "test", Path: "/metadata/uid", Value: led.UID},
		operation{Op: "test", Path: "/spec/selector", Value: led.Selector},
		operation{Op: "remove", Path: "/spec/selector"}); err != nil {
		return fmt.Errorf("take the selector from the Service %s: %w", led, err)
	}
	return f.settle(ctx, client, led)
}

// bypass is the Service by which the proxies reach the pods: at a port of every node.
func (f proxyFault) bypass(rec Record, led ledService, svc *corev1.Service) *corev1.Service {
	b := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: led.Bypass, Namespace: led.Namespace, Labels: f.w.labels(rec)},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeNodePort, Selector: led.Selector, IPFamilies: svc.Spec.IPFamilies,
			IPFamilyPolicy: svc.Spec.IPFamilyPolicy, PublishNotReadyAddresses: svc.Spec.PublishNotReadyAddresses,
		},
	}
	for _, port := range svc.Spec.Ports {
		port.NodePort = 0
		b.Spec.Ports = append(b.Spec.Ports, port)
	}
	return b
}

// slice leads a port of the Service to a proxy.
func (f proxyFault) slice(rec Record, led ledService, port corev1.ServicePort, address string) (*discoveryv1.EndpointSlice, error) {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return nil, fmt.Errorf("the address of the proxy: %w", err)
	}
	family := discoveryv1.AddressTypeIPv4
	if addr.Is6() {
		family = discoveryv1.AddressTypeIPv6
	}
	labels := f.w.labels(rec)
	labels[discoveryv1.LabelServiceName] = led.Name
	labels[discoveryv1.LabelManagedBy] = fieldManager
	ready, protocol, number := true, corev1.ProtocolTCP, int32(proxyPort)
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", led.Bypass, port.Port), Namespace: led.Namespace, Labels: labels},
		AddressType: family,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{addr.String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
		Ports:       []discoveryv1.EndpointPort{{Name: &port.Name, Protocol: &protocol, Port: &number, AppProtocol: port.AppProtocol}},
	}, nil
}

// settle takes what leads past the proxies from the Service until nothing of it
// comes back.
func (f proxyFault) settle(ctx context.Context, client kubernetes.Interface, led ledService) error {
	ctx, cancel := context.WithTimeoutCause(ctx, settleTime, errors.New("the cluster's controllers keep bringing it back"))
	defer cancel()
	ticker := time.NewTicker(settlePoll)
	defer ticker.Stop()
	for quiet := 0; quiet < settled; {
		found, err := f.clear(ctx, client, led)
		if err != nil {
			return err
		}
		quiet++
		if found {
			quiet = 0
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("take its pods from the Service %s: %w", led, context.Cause(ctx))
		case <-ticker.C:
		}
	}
	return nil
}

// clear deletes what leads to the Service's pods and reports whether there was
// any. Endpoints go too: without a selector they would be mirrored.
func (f proxyFault) clear(ctx context.Context, client kubernetes.Interface, led ledService) (found bool, err error) {
	slicesOf := client.DiscoveryV1().EndpointSlices(led.Namespace)
	list, err := slicesOf.List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + led.Name})
	if err != nil {
		return false, fmt.Errorf("list the EndpointSlices of the Service %s: %w", led, err)
	}
	for _, s := range list.Items {
		if !slices.Contains(controllers, s.Labels[discoveryv1.LabelManagedBy]) {
			continue
		}
		found = true
		if err := slicesOf.Delete(ctx, s.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return found, fmt.Errorf("delete the EndpointSlice %s: %w", s.Name, err)
		}
	}
	switch err := client.CoreV1().Endpoints(led.Namespace).Delete(ctx, led.Name, metav1.DeleteOptions{}); {
	case err == nil:
		found = true
	case !apierrors.IsNotFound(err):
		return found, fmt.Errorf("delete the Endpoints of the Service %s: %w", led, err)
	}
	return found, nil
}

// keepService takes from the Service what came back, and cuts the connections
// that lead past the proxies.
func (f proxyFault) keepService(ctx context.Context, client kubernetes.Interface, led ledService) error {
	if _, err := f.clear(ctx, client, led); err != nil {
		return err
	}
	pods, err := endpointsOf(ctx, client, led.Namespace, led.Bypass, "")
	if err != nil {
		return err
	}
	return f.w.cutOff(ctx, client, led.Namespace, led.Name, pods)
}

// operation is one of a JSON patch.
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

func (f proxyFault) patch(ctx context.Context, client kubernetes.Interface, led ledService, operations ...operation) error {
	data, err := json.Marshal(operations)
	if err != nil {
		return err
	}
	_, err = client.CoreV1().Services(led.Namespace).Patch(ctx, led.Name, types.JSONPatchType, data, metav1.PatchOptions{FieldManager: fieldManager})
	return err
}

// mendService leads the Service to its pods again. A Service that is gone, or
// another one of that name, is left alone.
func (f proxyFault) mendService(ctx context.Context, rec Record, led ledService) error {
	client, err := f.w.Kube()
	if err != nil {
		return err
	}
	fail := func(doing string, err error) error { return fmt.Errorf("%s of the fault %s: %w", doing, rec.ID, err) }
	svc, err := client.CoreV1().Services(led.Namespace).Get(ctx, led.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return fail("read the Service", err)
	case svc.UID == led.UID:
		if len(svc.Spec.Selector) == 0 {
			if err := f.patch(ctx, client, led,
				operation{Op: "test", Path: "/metadata/uid", Value: led.UID},
				operation{Op: "add", Path: "/spec/selector", Value: led.Selector}); err != nil {
				return fail("give its selector back to the Service", err)
			}
		}
		// Without anything to lead to, kube-proxy would refuse its clients.
		if err := f.awaitPods(ctx, client, rec, led); err != nil {
			return err
		}
	}
	slicesOf := client.DiscoveryV1().EndpointSlices(led.Namespace)
	made, err := slicesOf.List(ctx, f.made(rec))
	if err != nil {
		return fail("list the EndpointSlices", err)
	}
	for _, s := range made.Items {
		if s.Labels[discoveryv1.LabelManagedBy] != fieldManager {
			continue // the controller's, of the bypass, whose labels they have
		}
		if err := slicesOf.Delete(ctx, s.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return fail("delete an EndpointSlice", err)
		}
	}
	return nil
}

// made selects what was made for a fault.
func (f proxyFault) made(rec Record) metav1.ListOptions {
	return metav1.ListOptions{LabelSelector: runtime.LabelName + "=" + f.w.Sandbox + "," + labelDrill + "=" + rec.ID}
}

// awaitPods waits until the cluster's controller leads the Service to its pods
// again, if there are any.
func (f proxyFault) awaitPods(ctx context.Context, client kubernetes.Interface, rec Record, led ledService) error {
	ctx, cancel := context.WithTimeoutCause(ctx, settleTime, errors.New("the cluster's controller does not"))
	defer cancel()
	ticker := time.NewTicker(settlePoll)
	defer ticker.Stop()
	for {
		pods, err := endpointsOf(ctx, client, led.Namespace, led.Bypass, "")
		if err != nil {
			return err
		}
		back, err := endpointsOf(ctx, client, led.Namespace, led.Name, rec.ID)
		if err != nil {
			return err
		}
		if len(pods) == 0 || len(back) > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("lead the Service %s to its pods: %w", led, context.Cause(ctx))
		case <-ticker.C:
		}
	}
}

// removeBypass removes the Services by which proxies reached the pods.
func (f proxyFault) removeBypass(ctx context.Context, rec Record, led ledService) error {
	client, err := f.w.Kube()
	if err != nil {
		return err
	}
	services := client.CoreV1().Services(led.Namespace)
	list, err := services.List(ctx, f.made(rec))
	if err != nil {
		return fmt.Errorf("list the Services of the fault %s: %w", rec.ID, err)
	}
	for _, s := range list.Items {
		if err := services.Delete(ctx, s.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete the Service %s/%s: %w", s.Namespace, s.Name, err)
		}
	}
	return nil
}
