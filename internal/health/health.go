// Package health keeps watch over the components of a sandbox. It asks the
// probes of the adapters side by side, gives none of them more than its
// deadline, and says of each component what is wrong and what causes it.
//
// What can't be seen is stale. A component never stays ok because nobody
// could look.
package health

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// Probe looks at some components and returns the health of each. It should
// return when ctx ends; what it returns after that is not waited for.
type Probe func(ctx context.Context) []event.Health

// Source is a probe and what it is known to report on.
type Source struct {
	// Name is for messages, such as "cluster".
	Name string
	// Components are reported stale when the probe does not answer, or
	// answers without a word on them.
	Components []string
	Probe      Probe
	// Wake makes a Watcher look at once, before its interval has passed. It
	// may be nil.
	Wake <-chan struct{}
}

// Collect asks all sources at once and returns the health of every component,
// sorted by component, with the causes resolved (see Resolve). A source that
// does not answer within perProbe leaves its components stale. needs may be
// nil.
func Collect(ctx context.Context, sources []Source, perProbe time.Duration, needs Needs) []event.Health {
	answers := make(chan []event.Health, len(sources))
	for _, s := range sources {
		go func() {
			found, ok := ask(ctx, s.Probe, perProbe)
			if ok {
				found = s.complete(found)
			} else {
				found = silent(s.Components, nil, silence(ctx, perProbe))
			}
			answers <- found
		}()
	}
	var all []event.Health
	for range sources {
		all = append(all, <-answers...)
	}
	sortHealth(all)
	return Resolve(all, needs)
}

// ask runs the probe and waits for its answer, but not beyond the deadline: a
// probe that hangs must not take the others' answers with it. A late answer
// goes nowhere; the probe's goroutine ends when the probe does.
func ask(ctx context.Context, probe Probe, deadline time.Duration) ([]event.Health, bool) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	answer := make(chan []event.Health, 1)
	go func() { answer <- probe(ctx) }()
	select {
	case found := <-answer:
		return found, true
	case <-ctx.Done():
		return nil, false
	}
}

// complete adds the components that an answer should have held and did not.
func (s Source) complete(found []event.Health) []event.Health {
	all := slices.Clone(found)
	for _, c := range s.Components {
		if !slices.ContainsFunc(found, func(h event.Health) bool { return h.Component == c }) {
			all = append(all, event.Health{Component: c, State: event.StateStale, Reason: s.Name + " does not report on it"})
		}
	}
	return all
}

// silence says why a probe gave no answer.
func silence(ctx context.Context, deadline time.Duration) string {
	if ctx.Err() != nil {
		return "not asked to the end: " + context.Cause(ctx).Error()
	}
	return fmt.Sprintf("no answer within %s", deadline)
}

// silent returns the components, and those of the last answer, as stale.
func silent(components []string, last []event.Health, reason string) []event.Health {
	var all []event.Health
	for _, h := range last {
		stale := event.Health{
			Component: h.Component, State: event.StateStale, Reason: reason + "; was " + string(h.State), URL: h.URL,
		}
		if h.Reason != "" {
			stale.Reason += " (" + h.Reason + ")"
		}
		all = append(all, stale)
	}
	for _, c := range components {
		if !slices.ContainsFunc(last, func(h event.Health) bool { return h.Component == c }) {
			all = append(all, event.Health{Component: c, State: event.StateStale, Reason: reason})
		}
	}
	return all
}

func sortHealth(all []event.Health) {
	slices.SortStableFunc(all, func(a, b event.Health) int {
		switch {
		case a.Component < b.Component:
			return -1
		case a.Component > b.Component:
			return 1
		default:
			return 0
		}
	})
}

// severity orders the states from bad to good.
var severity = []event.State{
	event.StateFailed, event.StateDegraded, event.StateStale, event.StateWorking,
	event.StateWaiting, event.StateOK, event.StateOff,
}

// Overall returns the worst state among the components. Nothing known at all
// is stale.
func Overall(all []event.Health) event.State {
	for _, s := range severity {
		if slices.ContainsFunc(all, func(h event.Health) bool { return h.State == s }) {
			return s
		}
	}
	return event.StateStale
}
