package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/health"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// How often what is watched is looked at. Health is what a user waits for; the
// rest changes slowly, or costs more than it tells.
const (
	healthInterval = 2 * time.Second
	alertInterval  = 5 * time.Second
	sampleInterval = 5 * time.Second
	logsInterval   = 10 * time.Second // between looks for new sources of logs
	firstLogLines  = 200              // of each source
)

// Watch turns the sandbox into events until ctx ends: first the recorded run,
// then its health, alerts, resource use, Kubernetes events and logs as they
// change. What cannot be looked at shows as stale in the health, and is tried
// again at the next look.
func (s *Session) Watch(ctx context.Context, sink event.Sink) error {
	recorded, err := s.lastRun(sink)
	if err != nil {
		return err
	}
	// What follows belongs to the same run, so it goes on counting where the
	// record ends: what has a number that was seen already counts as seen.
	log := event.NewLog(s.run, nil, event.SinkFunc(func(e event.Envelope) error {
		e.Seq += recorded
		return sink.Handle(e)
	}))
	var wg sync.WaitGroup
	wg.Go(func() {
		health.Watcher{
			Sources: s.sources(), Interval: healthInterval, Deadline: probeDeadline, Needs: s.needs(),
			Emit: func(h event.HealthChanged) { log.Emit(h) },
		}.Watch(ctx)
	})
	wg.Go(func() { every(ctx, logsInterval, s.logFollower(ctx, log)) })
	wg.Go(func() { every(ctx, alertInterval, s.objectEvents(log)) })
	if s.stack.Spec.Observability.On() {
		wg.Go(func() { every(ctx, alertInterval, s.alertChanges(log)) })
	}
	wg.Go(func() { every(ctx, sampleInterval, s.samples(log)) })
	wg.Wait()
	return log.Close()
}

// every calls look at once and then at each interval until ctx ends. A look
// that fails has nothing to say: the health of its source says why.
func every(ctx context.Context, interval time.Duration, look func(context.Context) error) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		bounded, cancel := context.WithTimeout(ctx, interval)
		_ = look(bounded) // see above
		cancel()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// lastRun hands over what was recorded of the last run, and returns the number
// of its last event.
func (s *Session) lastRun(sink event.Sink) (last uint64, err error) {
	f, err := os.Open(s.dir.Events())
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the recorded run: %w", err)
	}
	defer f.Close() // only read
	var run []event.Envelope
	for e, err := range event.Read(f) {
		if err != nil {
			continue // a torn line, as a killed run leaves it
		}
		if e.PlanReady != nil {
			run = run[:0]
		}
		run = append(run, e)
	}
	for _, e := range run {
		if err := sink.Handle(e); err != nil {
			return 0, err
		}
		last = e.Seq
	}
	return last, nil
}

// alertChanges reports the alerts whose state has changed since the last look.
func (s *Session) alertChanges(log *event.Log) func(context.Context) error {
	said := map[string]event.AlertChanged{}
	return func(ctx context.Context) error {
		p, err := s.prometheus()
		if err != nil {
			return err
		}
		alerts, err := p.Alerts(ctx)
		if err != nil {
			return err
		}
		for _, a := range alerts {
			key := a.Rule + fmt.Sprint(a.Labels)
			if !reflect.DeepEqual(said[key], a) {
				said[key] = a
				log.Emit(a)
			}
		}
		return nil
	}
}

// samples reports what the sandbox's containers use.
func (s *Session) samples(log *event.Log) func(context.Context) error {
	return func(ctx context.Context) error {
		list, err := s.engine.Containers(ctx, map[string]string{runtime.LabelName: s.name})
		if err != nil {
			return err
		}
		component := map[string]string{}
		var ids []string
		for _, c := range list {
			if c.Running() {
				component[c.ID] = c.Labels[runtime.LabelComponent]
				ids = append(ids, c.ID)
			}
		}
		stats, err := s.engine.Stats(ctx, ids)
		if err != nil {
			return err
		}
		for _, st := range stats {
			log.Emit(event.ResourceSample{Component: component[st.ID], CPU: st.CPU, Memory: st.Memory})
		}
		return nil
	}
}

// objectEvents reports the Kubernetes events that are new or have repeated.
func (s *Session) objectEvents(log *event.Log) func(context.Context) error {
	counts := map[string]int32{}
	return func(ctx context.Context) error {
		c, err := s.cluster()
		if err != nil {
			return err
		}
		client, err := c.Client()
		if err != nil {
			return err
		}
		list, err := client.CoreV1().Events(metav1.NamespaceAll).List(ctx, metav1.ListOptions{ResourceVersion: "0"})
		if err != nil {
			return err
		}
		for _, e := range list.Items {
			if n, known := counts[string(e.UID)]; known && n == e.Count {
				continue
			}
			counts[string(e.UID)] = e.Count
			log.Emit(objectEvent(e))
		}
		return nil
	}
}

func objectEvent(e corev1.Event) event.ObjectEvent {
	last := e.LastTimestamp.Time
	if last.IsZero() {
		last = e.EventTime.Time
	}
	return event.ObjectEvent{
		Type: event.Severity(e.Type), Source: e.Source.Component, Namespace: e.InvolvedObject.Namespace,
		Object: strings.ToLower(e.InvolvedObject.Kind) + "/" + e.InvolvedObject.Name,
		Count:  int(e.Count), Reason: e.Reason, Message: e.Message, Last: last,
	}
}

// logFollower starts to follow the sources of logs that are new at each look.
// Those that end are dropped; a pod that comes back is a source of another name.
func (s *Session) logFollower(life context.Context, log *event.Log) func(context.Context) error {
	following := map[string]bool{}
	var mu sync.Mutex
	return func(ctx context.Context) error {
		var errs []error
		for _, component := range s.logComponents() {
			sources, err := s.logSources(ctx, component, LogOptions{Follow: true, Tail: firstLogLines})
			errs = append(errs, err)
			for _, src := range sources {
				key := component + " " + src.name
				mu.Lock()
				known := following[key]
				following[key] = true
				mu.Unlock()
				if known {
					continue
				}
				go func() {
					r, w := io.Pipe()
					go func() { w.CloseWithError(src.read(life, w)) }()
					_ = eachLine(r, func(line string) error { // it ends with its source
						log.Emit(event.LogLine{Component: component, Source: src.name, Line: line})
						return nil
					})
					mu.Lock()
					delete(following, key)
					mu.Unlock()
				}()
			}
		}
		return errors.Join(errs...)
	}
}
