package release

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// watcher keeps a local copy of the objects of a release and of the pods
// around them, by watching the cluster.
type watcher struct {
	refs []ref
	// changed has an element when something may have changed.
	changed chan struct{}
	// broken is why the cluster cannot be watched at the moment, if so.
	broken atomic.Pointer[error]

	objects map[place]cache.SharedIndexInformer
	pods    []cache.SharedIndexInformer
	sets    []cache.SharedIndexInformer
	events  []cache.SharedIndexInformer
}

// place is a kind of object in one namespace.
type place struct {
	gvr       schema.GroupVersionResource
	namespace string
}

// factory is what the typed and the dynamic informer factories share.
type factory interface {
	Start(stop <-chan struct{})
	Shutdown()
}

// watch begins to watch. The watcher's goroutines end with ctx; stop waits for
// them.
func (c *cluster) watch(ctx context.Context, refs []ref) (w *watcher, stop func(), err error) {
	w = &watcher{refs: refs, changed: make(chan struct{}, 1), objects: map[place]cache.SharedIndexInformer{}}
	var factories []factory
	for _, r := range refs {
		at := place{r.gvr, r.namespace}
		if !r.active() || w.objects[at] != nil {
			continue
		}
		f := dynamicinformer.NewFilteredDynamicSharedInformerFactory(c.dynamic, 0, r.namespace, nil)
		w.objects[at] = f.ForResource(r.gvr).Informer()
		err = errors.Join(err, w.attach(w.objects[at]))
		factories = append(factories, f)
	}
	for _, ns := range namespaces(refs) {
		f := informers.NewSharedInformerFactoryWithOptions(c.kube, 0, informers.WithNamespace(ns))
		ev := informers.NewSharedInformerFactoryWithOptions(c.kube, 0, informers.WithNamespace(ns),
			informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.FieldSelector = warningsOnly }))
		pods, sets, events := f.Core().V1().Pods().Informer(), f.Apps().V1().ReplicaSets().Informer(), ev.Core().V1().Events().Informer()
		w.pods, w.sets, w.events = append(w.pods, pods), append(w.sets, sets), append(w.events, events)
		err = errors.Join(err, w.attach(pods), w.attach(sets), w.attach(events))
		factories = append(factories, f, ev)
	}
	if err != nil {
		return nil, nil, err
	}
	for _, f := range factories {
		f.Start(ctx.Done())
	}
	return w, func() {
		for _, f := range factories {
			f.Shutdown()
		}
	}, nil
}

// attach makes an informer tell of changes and of lost contact. Its default
// would be to write to stderr.
func (w *watcher) attach(i cache.SharedIndexInformer) error {
	seen := func() {
		w.broken.Store(nil)
		w.poke()
	}
	_, err := i.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { seen() },
		UpdateFunc: func(any, any) { seen() },
		DeleteFunc: func(any) { seen() },
	})
	return errors.Join(err,
		i.SetTransform(withoutManagedFields),
		i.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
			if errors.Is(err, io.EOF) || apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
				return // the ordinary end of a watch; the next one follows
			}
			w.broken.Store(&err)
			w.poke()
		}))
}

// withoutManagedFields drops the largest part of most objects, which nothing
// here reads.
func withoutManagedFields(obj any) (any, error) {
	if m, err := meta.Accessor(obj); err == nil {
		m.SetManagedFields(nil)
	}
	return obj, nil
}

func (w *watcher) poke() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// synced says whether the local copy is complete.
func (w *watcher) synced() bool {
	for _, i := range w.objects {
		if !i.HasSynced() {
			return false
		}
	}
	for _, list := range [][]cache.SharedIndexInformer{w.pods, w.sets, w.events} {
		for _, i := range list {
			if !i.HasSynced() {
				return false
			}
		}
	}
	return true
}

// snapshot copies what is known now.
func (w *watcher) snapshot(now time.Time) snapshot {
	s := snapshot{
		now:         now,
		objects:     map[ref]*unstructured.Unstructured{},
		pods:        contents[*corev1.Pod](w.pods),
		replicaSets: contents[*appsv1.ReplicaSet](w.sets),
		warnings:    contents[*corev1.Event](w.events),
	}
	for _, r := range w.refs {
		i := w.objects[place{r.gvr, r.namespace}]
		if i == nil {
			continue
		}
		key := cache.NewObjectName(r.namespace, r.name).String()
		if obj, found, err := i.GetStore().GetByKey(key); err == nil && found {
			s.objects[r] = obj.(*unstructured.Unstructured)
		}
	}
	return s
}

func contents[T any](informers []cache.SharedIndexInformer) []T {
	var out []T
	for _, i := range informers {
		for _, obj := range i.GetStore().List() {
			out = append(out, obj.(T))
		}
	}
	return out
}
