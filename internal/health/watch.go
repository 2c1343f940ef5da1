package health

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// Watcher keeps watch until its context ends.
type Watcher struct {
	Sources []Source
	// Interval is the time between the end of one look of a source and the
	// next.
	Interval time.Duration
	// Deadline is how long a source may take for a look.
	Deadline time.Duration
	// Needs may be nil.
	Needs Needs
	// Emit gets each change, one at a time.
	Emit func(event.HealthChanged)
}

// report is what one look of a source brought.
type report struct {
	source int
	found  []event.Health
	silent bool // the source did not answer
}

// Watch asks every source again and again, each at its own pace, and emits
// what changes in what is known of a component. A source that stops answering
// turns its components stale; when it answers again they come back. Watch
// returns when ctx has ended and no look is under way any more, so that what
// the probes use may be closed then.
func (w Watcher) Watch(ctx context.Context) {
	reports := make(chan report)
	var following sync.WaitGroup
	defer following.Wait()
	for i, s := range w.Sources {
		following.Go(func() { w.follow(ctx, i, s, reports) })
	}
	known := ledger{
		sources: make([][]event.Health, len(w.Sources)),
		last:    make([][]event.Health, len(w.Sources)),
		begun:   make([]bool, len(w.Sources)),
		said:    map[string]event.Health{},
	}
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-reports:
			s := w.Sources[r.source]
			found := s.complete(r.found)
			if r.silent {
				found = silent(s.Components, known.last[r.source], silence(ctx, w.Deadline))
			}
			for _, h := range known.update(r.source, found, !r.silent, w.Needs, time.Now()) {
				w.Emit(event.HealthChanged{Health: h})
			}
		}
	}
}

// follow looks at one source until ctx ends, and waits for its last look. A look
// that overran its deadline is reported as silence at once, but the next begins
// only after it has come back: a probe that hangs is not started again and again.
func (w Watcher) follow(ctx context.Context, index int, s Source, reports chan<- report) {
	for ctx.Err() == nil {
		look, cancel := context.WithTimeout(ctx, w.Deadline)
		answer := make(chan []event.Health, 1)
		go func() { answer <- s.Probe(look) }()

		r := report{source: index}
		select {
		case r.found = <-answer:
		case <-look.Done():
			r.silent = true
		}
		cancel()
		if ctx.Err() == nil {
			select {
			case reports <- r:
			case <-ctx.Done():
			}
		}
		if r.silent {
			<-answer
		}
		select {
		case <-time.After(w.Interval):
		case <-s.Wake:
		case <-ctx.Done():
			return
		}
	}
}

// ledger is what is known of all components, and what was said of them.
type ledger struct {
	sources [][]event.Health        // by source: what counts now
	begun   []bool                  // by source: whether it was heard of before
	last    [][]event.Health        // by source: its last real answer
	said    map[string]event.Health // by component: what was emitted last
}

// update takes in what a source brought and returns what has to be said.
//
// What a source finds at its first look has been so for a time that nobody
// knows, unless it says so.
func (l *ledger) update(source int, found []event.Health, answered bool, needs Needs, now time.Time) []event.Health {
	if l.begun[source] && answered && slices.Equal(l.sources[source], found) {
		return nil
	}
	first := map[string]bool{}
	if !l.begun[source] {
		l.begun[source] = true
		for _, h := range found {
			first[h.Component] = true
		}
	}
	l.sources[source] = found
	if answered {
		l.last[source] = found
	}
	all := slices.Concat(l.sources...)
	sortHealth(all)
	all = Resolve(all, needs)

	var changes []event.Health
	present := map[string]bool{}
	for _, h := range all {
		present[h.Component] = true
		before, known := l.said[h.Component]
		if known && before.State == h.State {
			h.Since = before.Since
		} else if !first[h.Component] && (h.Since.IsZero() || h.Since.Before(before.Since)) {
			h.Since = now
		}
		if !known || differs(before, h) {
			l.said[h.Component] = h
			changes = append(changes, h)
		}
	}
	for component := range l.said {
		if !present[component] {
			delete(l.said, component)
			changes = append(changes, event.Health{
				Component: component, State: event.StateOff, Reason: event.ReasonGone, Since: now,
			})
		}
	}
	sortHealth(changes)
	return changes
}

// differs reports whether two healths of a component differ in what a reader
// would want to know.
func differs(a, b event.Health) bool {
	a.Since, b.Since = time.Time{}, time.Time{}
	return a != b
}
