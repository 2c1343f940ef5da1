package drill

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
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

// Load is requests to a Service, sent through the API server, so that no port has
// to be open on this host.
type Load struct {
	spec stack.DrillLoad
	send func(ctx context.Context) (status int, err error)

	mu       sync.Mutex
	answers  map[string]int // by status, or error
	requests int
}

// NewLoad returns the load of a drill. namespaces are where to look for the Service
// where spec names none.
func NewLoad(ctx context.Context, client kubernetes.Interface, spec stack.DrillLoad, namespaces []string) (*Load, error) {
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
	path, query, _ := strings.Cut(spec.Path, "?")
	return &Load{spec: spec, answers: map[string]int{}, send: func(ctx context.Context) (int, error) {
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
		status := 0
		err := req.Do(ctx).StatusCode(&status).Error()
		return status, err
	}}, nil
}

// Send sends so many requests a second until ctx ends, whatever the earlier ones
// take, but never more than a few at the same time.
func (l *Load) Send(ctx context.Context) {
	tick := time.NewTicker(time.Second / time.Duration(l.spec.Rate))
	defer tick.Stop()
	var requests errgroup.Group
	requests.SetLimit(max(2*l.spec.Rate, 8))
	for ctx.Err() == nil {
		requests.TryGo(func() error {
			l.request(ctx)
			return nil
		})
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	_ = requests.Wait() // they have no error
}

// request sends one request and counts how it was answered.
func (l *Load) request(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	status, err := l.send(bounded)
	if ctx.Err() != nil {
		return // the drill has ended meanwhile
	}
	answer := fmt.Sprintf("%d %s", status, http.StatusText(status))
	if status == 0 && err != nil {
		answer = "no answer"
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests++
	l.answers[answer]++
}

// note says how the requests were answered, to be put behind another text.
func (l *Load) note() string {
	if l == nil {
		return ""
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var parts []string
	for _, answer := range slices.Sorted(maps.Keys(l.answers)) {
		parts = append(parts, fmt.Sprintf("%d %s", l.answers[answer], answer))
	}
	return fmt.Sprintf("; %d requests to %s were answered: %s", l.requests, l.spec.Path, strings.Join(parts, ", "))
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
	what := fmt.Sprintf("no port %d in Service %s", want, svc.Name)
	if want == 0 {
		what = fmt.Sprintf("Service %s has several ports", svc.Name)
	}
	return 0, fault.New(fault.Invalid, what, fmt.Sprintf("there are %v", ports), "correct load: in the stack file")
}
