package live

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/sandbox-stack/sandbox/internal/event"
)

const (
	// syncTimeout bounds how long the informers may take for their first copy.
	syncTimeout = 10 * time.Second
	// eventsBefore is how far back Kubernetes' events are told.
	eventsBefore = 5 * time.Minute
)

// loseKube ends the informers' present contact, if there is one.
func (l *live) loseKube(why string) {
	if !l.kubeWatched.Load() {
		return
	}
	select {
	case l.kubeLost <- why:
	default: // it is known already
	}
}

// followKube watches the cluster. Changes of its nodes and workloads wake the
// probes of what they are about, pods are kept for the other feeds, and
// Kubernetes' own events are passed on.
func (l *live) followKube(ctx context.Context, up func()) error {
	client, err := l.src.Kube()
	if err != nil {
		return err
	}
	select {
	case <-l.kubeLost: // of an earlier contact
	default:
	}
	broken := make(chan error, 1)
	f := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(withoutManagedFields))
	nodes, pods := f.Core().V1().Nodes().Informer(), f.Core().V1().Pods().Informer()
	apps := f.Apps().V1()
	err = errors.Join(
		attach(nodes, broken, func(any) { l.wake("cluster") }, nil),
		attach(pods, broken, l.podChanged, l.podChanged),
		attach(apps.Deployments().Informer(), broken, l.workloadChanged, l.workloadChanged),
		attach(apps.StatefulSets().Informer(), broken, l.workloadChanged, l.workloadChanged),
		attach(apps.DaemonSets().Informer(), broken, l.workloadChanged, l.workloadChanged),
		attach(f.Core().V1().Events().Informer(), broken, l.pods.events.tell(time.Now().Add(-eventsBefore), l.emit), l.pods.events.forget),
	)
	if err != nil {
		return fmt.Errorf("watch the cluster: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer f.Shutdown() // after cancel, so that there is something to wait for
	defer cancel()
	// Without a logger of its own client-go writes to stderr, into the screen.
	f.StartWithContext(klog.NewContext(ctx, logr.Discard()))

	if err := l.synced(ctx, f, broken); err != nil {
		return err
	}
	l.pods.use(client, pods.GetStore())
	defer l.kubeWatched.during()()
	defer l.wake("cluster", "release") // now they have to look for themselves
	l.inventory.set()
	up()
	select {
	case <-ctx.Done():
		return nil
	case err := <-broken:
		return err
	case why := <-l.kubeLost:
		return errors.New(why)
	}
}

// synced waits until the informers hold a copy of everything.
func (l *live) synced(ctx context.Context, f informers.SharedInformerFactory, broken <-chan error) error {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	complete := make(chan bool, 1)
	go func() {
		all := true
		for _, ok := range f.WaitForCacheSync(ctx.Done()) {
			all = all && ok
		}
		complete <- all
	}()
	select {
	case err := <-broken:
		return err
	case ok := <-complete:
		if !ok {
			return errors.New("the API server does not answer")
		}
		return nil
	}
}

// attach makes an informer call changed for what is new or differs, and gone,
// which may be nil, for what was deleted, and send to broken when it has lost
// contact. By default it would write to stderr.
func attach(i cache.SharedIndexInformer, broken chan<- error, changed, gone func(any)) error {
	_, err := i.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: changed,
		UpdateFunc: func(before, after any) {
			if version(before) != version(after) {
				changed(after)
			}
		},
		DeleteFunc: func(obj any) {
			if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = last.Obj
			}
			if gone != nil {
				gone(obj)
			}
		},
	})
	return errors.Join(err, i.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
		if errors.Is(err, io.EOF) || apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
			return // the ordinary end of a watch; the next one follows
		}
		select {
		case broken <- err:
		default: // one reason is enough
		}
	}))
}

func version(obj any) string {
	m, err := meta.Accessor(obj)
	if err != nil {
		return ""
	}
	return m.GetResourceVersion()
}

// withoutManagedFields drops the largest part of most objects, which nothing
// here reads.
func withoutManagedFields(obj any) (any, error) {
	if m, err := meta.Accessor(obj); err == nil {
		m.SetManagedFields(nil)
	}
	return obj, nil
}

func (l *live) workloadChanged(any) { l.wake("cluster", "release") }

func (l *live) podChanged(any) {
	l.wake("cluster", "release")
	l.inventory.set()
}

// told remembers how often each Kubernetes event had happened when it was last
// passed on, so that a new list of them after lost contact repeats none.
type told map[types.UID]int

// tell passes on the events that happened after begin. An informer calls its
// handlers one at a time, and there is one informer of events at a time.
func (t *told) tell(begin time.Time, emit func(event.Payload)) func(any) {
	return func(obj any) {
		e, ok := obj.(*corev1.Event)
		if !ok {
			return
		}
		out := objectEvent(e)
		if seen, known := (*t)[e.UID]; known && seen == out.Count || out.Last.Before(begin) {
			return
		}
		if *t == nil {
			*t = told{}
		}
		(*t)[e.UID] = out.Count
		emit(out)
	}
}

func (t *told) forget(obj any) {
	if e, ok := obj.(*corev1.Event); ok {
		delete(*t, e.UID)
	}
}

func objectEvent(e *corev1.Event) event.ObjectEvent {
	out := event.ObjectEvent{
		Type: event.Severity(e.Type), Source: cmp.Or(e.Source.Component, e.ReportingController), Namespace: e.InvolvedObject.Namespace,
		Object: strings.ToLower(e.InvolvedObject.Kind) + "/" + e.InvolvedObject.Name,
		Count:  max(1, int(e.Count)), Reason: e.Reason, Message: e.Message, Last: e.LastTimestamp.Time,
	}
	if e.Series != nil {
		out.Count, out.Last = int(e.Series.Count), e.Series.LastObservedTime.Time
	}
	if out.Last.IsZero() {
		out.Last = e.EventTime.Time
	}
	if out.Last.IsZero() {
		out.Last = e.CreationTimestamp.Time
	}
	return out
}
