package release

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// warningsOnly selects the events that tell of trouble.
const warningsOnly = "type!=Normal"

// inspect asks the cluster once how the objects of the manifest are: the
// active ones, and those of the others that are missing.
func (c *cluster) inspect(ctx context.Context, spec Spec, manifest string) ([]object, error) {
	refs, err := c.manifestRefs(manifest, spec.Namespace)
	if err != nil {
		return nil, err
	}
	var s snapshot
	var absent []ref
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) { s, err = c.take(gctx, refs); return err })
	g.Go(func() (err error) { absent, err = c.missing(gctx, refs); return err })
	if err := g.Wait(); err != nil {
		return nil, err
	}
	objects := assess(refs, s)
	for _, r := range absent {
		objects = append(objects, object{ref: r, state: event.StateFailed, severity: stuck, reason: "is missing"})
	}
	return objects, nil
}

// take reads a snapshot of the active objects and of the pods around them.
func (c *cluster) take(ctx context.Context, refs []ref) (snapshot, error) {
	s := snapshot{now: time.Now(), objects: map[ref]*unstructured.Unstructured{}}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for _, r := range refs {
		if !r.active() {
			continue
		}
		g.Go(func() error {
			u, err := c.dynamic.Resource(r.gvr).Namespace(r.namespace).Get(ctx, r.name, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("get %s: %w", r, err)
			}
			mu.Lock()
			defer mu.Unlock()
			s.objects[r] = u
			return nil
		})
	}
	for _, ns := range namespaces(refs) {
		g.Go(func() error { return c.surroundings(ctx, ns, &mu, &s) })
	}
	if err := g.Wait(); err != nil {
		return snapshot{}, err
	}
	return s, nil
}

// surroundings adds the pods of a namespace to s, with their ReplicaSets and
// the warnings. mu guards s.
func (c *cluster) surroundings(ctx context.Context, ns string, mu *sync.Mutex, s *snapshot) error {
	pods, err := c.kube.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the pods of namespace %q: %w", ns, err)
	}
	sets, err := c.kube.AppsV1().ReplicaSets(ns).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the replica sets of namespace %q: %w", ns, err)
	}
	events, err := c.kube.CoreV1().Events(ns).List(ctx, metav1.ListOptions{FieldSelector: warningsOnly})
	if err != nil {
		return fmt.Errorf("list the events of namespace %q: %w", ns, err)
	}
	mu.Lock()
	defer mu.Unlock()
	for i := range pods.Items {
		s.pods = append(s.pods, &pods.Items[i])
	}
	for i := range sets.Items {
		s.replicaSets = append(s.replicaSets, &sets.Items[i])
	}
	for i := range events.Items {
		s.warnings = append(s.warnings, &events.Items[i])
	}
	return nil
}
