package drill

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/stack"
)

// requestTimeout is how long one request of a load may take.
const requestTimeout = 30 * time.Second

// Load returns a function that sends requests to a Service until its context ends,
// through the API server, so that no port has to be open on this host. namespaces
// are where to look for the Service where spec names none.
func Load(ctx context.Context, client kubernetes.Interface, spec stack.DrillLoad, namespaces []string) (func(context.Context), error) {
	if spec.Namespace != "" {
		namespaces = []string{spec.Namespace}
	}
	svc, err := findService(ctx, client, spec.Service, namespaces)
	if err != nil {
		return nil, err
	}
	port, err := portOf(svc, spec.Port)
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("%s:%d", svc.Name, port)
	send := func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		path, query, _ := strings.Cut(spec.Path, "?")
		req := client.CoreV1().RESTClient().Verb(spec.Method).Namespace(svc.Namespace).Resource("services").Name(name).
			SubResource("proxy").Suffix(path)
		for pair := range strings.SplitSeq(query, "&") {
			if key, value, _ := strings.Cut(pair, "="); key != "" {
				req = req.Param(key, value)
			}
		}
		if spec.Body != "" {
			req = req.SetHeader("Content-Type", "application/json").Body([]byte(spec.Body))
		}
		// What is answered, and whether, is for the alert to tell.
		_ = req.Do(ctx).Error()
	}
	return func(ctx context.Context) { keepSending(ctx, send, spec.Rate) }, nil
}

// keepSending sends so many requests a second, whatever the earlier ones take, but
// never more than a few at the same time.
func keepSending(ctx context.Context, send func(context.Context), rate int) {
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	var requests errgroup.Group
	requests.SetLimit(max(2*rate, 8))
	for ctx.Err() == nil {
		requests.TryGo(func() error {
			send(ctx)
			return nil
		})
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	_ = requests.Wait() // they have no error
}

func findService(ctx context.Context, client kubernetes.Interface, name string, namespaces []string) (*corev1.Service, error) {
	var there []string
	for _, ns := range namespaces {
		list, err := client.CoreV1().Services(ns).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, fmt.Errorf("list the services of %s: %w", ns, err)
		}
		for i := range list.Items {
			if list.Items[i].Name == name {
				return &list.Items[i], nil
			}
			there = append(there, list.Items[i].Name)
		}
	}
	why := "there are " + strings.Join(there, ", ")
	if len(there) == 0 {
		why = "there is none"
	}
	return nil, fault.New(fault.Invalid, fmt.Sprintf("no Service %s in namespace %s", name, strings.Join(namespaces, ", ")), why, "correct load: in the stack file")
}

func portOf(svc *corev1.Service, want int) (int32, error) {
	var ports []int32
	for _, p := range svc.Spec.Ports {
		ports = append(ports, p.Port)
	}
	if want == 0 && len(ports) == 1 {
		return ports[0], nil
	}
	if slices.Contains(ports, int32(want)) {
		return int32(want), nil
	}
	return 0, fault.New(fault.Invalid, fmt.Sprintf("no port %d in Service %s", want, svc.Name), fmt.Sprintf("there are %v", ports), "correct load: in the stack file")
}
