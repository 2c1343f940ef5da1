package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
)

const (
	// apiInterval is the pause between two attempts to reach the API server.
	apiInterval = 250 * time.Millisecond
	// apiTimeout bounds one attempt.
	apiTimeout = 2 * time.Second
	// reportInterval is how often a wait says what it waits for, although
	// nothing has changed; events may tell more by then.
	reportInterval = 2 * time.Second
)

// WaitReady waits until the cluster can run pods: the API answers, all nodes
// are ready, and DNS, the service proxy and the volume provisioner work. It
// reports what is not ready, and why, while it waits. A wait that takes longer
// than the Config's ReadyTimeout, or a node that ends, is a fault that says so.
func (c *Cluster) WaitReady(ctx context.Context, rep event.Reporter) error {
	nodes, err := c.nodes(ctx)
	if err != nil {
		return err
	}
	if len(nodes) == 0 {
		return c.down("no cluster to wait for")
	}
	client, err := c.Client()
	if err != nil {
		return err
	}
	started := since(nodes)
	// The fault of a timeout is made from what the wait last saw.
	seen := &witness{Reporter: rep}
	wait, cancel := context.WithTimeout(ctx, c.cfg.ReadyTimeout)
	defer cancel()
	err = c.waitAPI(wait, client, seen)
	if err == nil {
		err = waitSystem(wait, client, c.cfg.Nodes, started, seen)
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case wait.Err() != nil:
		f := fault.New(fault.Failed, fmt.Sprintf("cluster %q is not ready after %s", c.Name(), c.cfg.ReadyTimeout),
			"", "sandbox status, sandbox logs cluster")
		last := seen.last()
		if len(last) > 0 {
			f.Why = last[0]
		}
		f.Log, f.Cause = slices.Concat(last, c.evidence(ctx)), err
		return f
	}
	return err
}

// witness is a Reporter that remembers what a wait last waited for.
type witness struct {
	event.Reporter
	mu       sync.Mutex
	blockers []string
}

// Progress implements event.Reporter.
func (w *witness) Progress(p event.Progress) {
	w.mu.Lock()
	w.blockers = p.Blockers
	w.mu.Unlock()
	w.Reporter.Progress(p)
}

func (w *witness) last() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.blockers)
}

// waitAPI waits until the API server says that it is ready. A node container
// that ends meanwhile ends the wait.
func (c *Cluster) waitAPI(ctx context.Context, client kubernetes.Interface, rep event.Reporter) error {
	var reported time.Time
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := ping(ctx, client, apiTimeout)
		if err == nil {
			return struct{}{}, nil
		}
		if time.Since(reported) < reportInterval {
			return struct{}{}, err
		}
		reported = time.Now()
		rep.Progress(event.Progress{Text: "waiting for the API server", Blockers: []string{"API server: " + firstLine(err.Error())}})
		if dead := c.deadNode(ctx); dead != nil {
			return struct{}{}, backoff.Permanent(dead)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(backoff.NewConstantBackOff(apiInterval)), backoff.WithMaxElapsedTime(0))
	return err
}

// deadNode returns the fault of a node container that does not run.
func (c *Cluster) deadNode(ctx context.Context) error {
	nodes, err := c.nodes(ctx)
	if err != nil {
		return nil //nolint:nilerr // the wait itself reports what matters
	}
	for _, n := range nodes {
		if !n.Running() {
			f := fault.New(fault.Failed, fmt.Sprintf("node %s ended while the cluster was starting", n.Name),
				exitReason(n), "sandbox up, which starts it again")
			f.Log = c.evidence(ctx)
			return f
		}
	}
	return nil
}

// ping asks the API server whether it is ready.
func ping(ctx context.Context, client kubernetes.Interface, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	body, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
	if failed := failedChecks(string(body)); err != nil && failed != "" {
		return fmt.Errorf("not ready: %s", failed)
	}
	return err
}

// failedChecks names the checks that failed in an answer of /readyz, in which
// each has a line that begins with "[+]" or "[-]".
func failedChecks(body string) string {
	var failed []string
	for line := range strings.SplitSeq(body, "\n") {
		if check, bad := strings.CutPrefix(line, "[-]"); bad {
			name, _, _ := strings.Cut(check, " ")
			failed = append(failed, name)
		}
	}
	return strings.Join(failed, ", ")
}

// waitSystem watches nodes and system workloads until nothing blocks.
func waitSystem(ctx context.Context, client kubernetes.Interface, wantNodes int, since time.Time, rep event.Reporter) error {
	ctx, cancel := context.WithCancel(ctx)
	factory := informers.NewSharedInformerFactory(client, 0)
	nodes, pods := factory.Core().V1().Nodes(), factory.Core().V1().Pods()
	deployments, daemonSets := factory.Apps().V1().Deployments(), factory.Apps().V1().DaemonSets()

	changed := make(chan struct{}, 1)
	poke := func(any) {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc:    poke,
		UpdateFunc: func(_, now any) { poke(now) },
		DeleteFunc: poke,
	}
	for _, informer := range []cache.SharedIndexInformer{
		nodes.Informer(), pods.Informer(), deployments.Informer(), daemonSets.Informer(),
	} {
		// Without a handler, client-go writes a watch that broke to stderr.
		if err := informer.SetWatchErrorHandler(func(_ *cache.Reflector, err error) {
			rep.Progress(event.Progress{Text: "waiting for the API server", Blockers: []string{"API server: " + firstLine(err.Error())}})
		}); err != nil {
			cancel()
			return fmt.Errorf("watch the cluster: %w", err)
		}
		if _, err := informer.AddEventHandler(handler); err != nil {
			cancel()
			return fmt.Errorf("watch the cluster: %w", err)
		}
	}
	factory.Start(ctx.Done())
	defer func() { cancel(); factory.Shutdown() }()
	for kind, ok := range factory.WaitForCacheSync(ctx.Done()) {
		if !ok {
			return errors.Join(ctx.Err(), fmt.Errorf("list %s of the cluster", kind))
		}
	}

	look := func() ([]blocker, error) {
		v := view{since: since}
		var errs [4]error
		v.nodes, errs[0] = nodes.Lister().List(labels.Everything())
		v.pods, errs[1] = pods.Lister().List(labels.Everything())
		v.deployments, errs[2] = deployments.Lister().List(labels.Everything())
		v.daemonSets, errs[3] = daemonSets.Lister().List(labels.Everything())
		return v.blockers(wantNodes), errors.Join(errs[:]...)
	}
	tick := time.NewTicker(reportInterval)
	defer tick.Stop()
	var said []string
	for {
		bs, err := look()
		if err != nil {
			return fmt.Errorf("read the cluster's state: %w", err)
		}
		if len(bs) == 0 {
			return nil
		}
		if now := texts(bs); !slices.Equal(now, said) {
			said = now
			rep.Progress(event.Progress{Text: "waiting for the cluster to be ready", Blockers: now})
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-tick.C:
			rep.Progress(event.Progress{Text: "waiting for the cluster to be ready", Blockers: explain(ctx, client, bs)})
		}
	}
}

func texts(bs []blocker) []string {
	out := make([]string, len(bs))
	for i, b := range bs {
		out[i] = b.String()
	}
	return out
}

// explain adds to each blocker what the last event of its pod says: a pod that
// is "ContainerCreating" often only tells there what it lacks. An event that
// cannot be read leaves the blocker as it is.
func explain(ctx context.Context, client kubernetes.Interface, bs []blocker) []string {
	out := texts(bs)
	for i, b := range bs {
		if b.pod == nil {
			continue
		}
		if e := lastWarning(ctx, client, b.pod); e != "" {
			out[i] += " (" + e + ")"
		}
	}
	return out
}

// lastWarning is the text of the pod's newest warning event, or empty.
func lastWarning(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod) string {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	list, err := client.CoreV1().Events(pod.Namespace).List(ctx, metav1.ListOptions{
		FieldSelector: fields.Set{"involvedObject.uid": string(pod.UID), "type": corev1.EventTypeWarning}.String(),
	})
	if err != nil || len(list.Items) == 0 {
		return ""
	}
	newest := slices.MaxFunc(list.Items, func(a, b corev1.Event) int { return eventTime(a).Compare(eventTime(b)) })
	return firstLine(newest.Message)
}

// eventTime is when an event was last seen; the field depends on its API.
func eventTime(e corev1.Event) time.Time {
	switch {
	case e.Series != nil:
		return e.Series.LastObservedTime.Time
	case !e.LastTimestamp.IsZero():
		return e.LastTimestamp.Time
	}
	return e.EventTime.Time
}
