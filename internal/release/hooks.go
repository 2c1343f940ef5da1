package release

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// reportHooks reports, until stop is called, what Helm is busy with. Helm
// waits in silence for the Jobs of a chart's hooks, so their pods are looked
// at here.
func (c *cluster) reportHooks(ctx context.Context, spec Spec, verb string, rep event.Reporter) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	begin := time.Now()
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(heartbeat)
		defer tick.Stop()
		for {
			p := event.Progress{Text: verb + " " + spec.Name}
			if time.Since(begin) >= heartbeat {
				p.Blockers = c.jobPods(ctx, spec.Namespace, begin)
			}
			rep.Progress(p)
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	return func() {
		cancel()
		wg.Wait()
	}
}

// jobPods describes the unfinished pods of Jobs that were created since.
func (c *cluster) jobPods(ctx context.Context, namespace string, since time.Time) []string {
	pods, err := c.kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "batch.kubernetes.io/job-name"})
	if err != nil {
		return []string{"the API server does not answer: " + short(err.Error())}
	}
	var out []string
	for i := range pods.Items {
		p := &pods.Items[i]
		if p.CreationTimestamp.Time.Before(since.Truncate(time.Second)) || p.Status.Phase == corev1.PodSucceeded {
			continue
		}
		text := "running"
		if t := troubleOf(p, nil, time.Now()); t.severity > fine {
			text = t.text
		}
		out = append(out, fmt.Sprintf("hook Job/%s: %s", p.Labels["batch.kubernetes.io/job-name"], text))
	}
	return out
}
