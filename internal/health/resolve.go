package health

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// Needs names, for a component, the components that it needs to work, as the
// stack declares it: "release/web-app" → "aws". It holds for what is below the
// component as well.
type Needs map[string][]string

// rule says when a component's state is another's doing.
type rule struct {
	// subject and cause are components. A trailing "/" stands for all that is
	// below and not for the component itself; a "*" in both stands for the
	// same name in both.
	subject, cause string
	// unseen: once the cause has failed the subject can't be seen, so whatever
	// is said of it is stale.
	unseen bool
	// evidence has to match the subject's reason. nil needs none.
	evidence *regexp.Regexp
}

var (
	// How a program says that it does not reach the emulator.
	unreachableAWS = regexp.MustCompile(`(?i)\baws\b|:4566\b|localstack|econnrefused|connection refused|no such host|i/o timeout`)
	unpullable     = regexp.MustCompile(`ErrImage|ImagePull|InvalidImageName`)
)

// The rules are tried in order; the first that fits counts.
var rules = []rule{
	{subject: "release", cause: "cluster", unseen: true},
	{subject: "release/", cause: "cluster", unseen: true},
	{subject: "aws/", cause: "aws", unseen: true},
	{subject: "observe/rules", cause: "observe/prometheus", unseen: true},
	{subject: "observe/prometheus", cause: "cluster"},
	{subject: "terraform/", cause: "aws"},
	{subject: "release/", cause: "image/", evidence: unpullable},
	{subject: "release/", cause: "aws", evidence: unreachableAWS},
	{subject: "observe/prometheus", cause: "observe/alertmanager", evidence: regexp.MustCompile(`(?i)alertmanager`)},
}

// Resolve returns the components with the one to blame filled in where another
// component causes their state. What can't be seen any more because another component
// failed becomes stale. A blame that a probe gave is kept. The input is
// left alone.
func Resolve(all []event.Health, needs Needs) []event.Health {
	out := slices.Clone(all)
	for i, h := range all {
		if cause, ok := blame(h, all, needs); ok {
			out[i] = cause(h)
		}
	}
	return out
}

// blame returns how a component changes because of another one.
func blame(h event.Health, all []event.Health, needs Needs) (func(event.Health) event.Health, bool) {
	if h.State == event.StateOff {
		return nil, false
	}
	for _, r := range rules {
		if !covers(r.subject, h.Component) || (r.evidence != nil && !r.evidence.MatchString(h.Reason)) {
			continue
		}
		for _, c := range all {
			if c.Component == h.Component || !covers(r.cause, c.Component) {
				continue
			}
			if r.unseen && c.State == event.StateFailed {
				return unseen(c), true
			}
			if broken(c) && bad(h) && mentions(r, h, c) {
				return caused(c), true
			}
		}
	}
	if !bad(h) {
		return nil, false
	}
	for _, component := range slices.Sorted(maps.Keys(needs)) {
		if h.Component != component && !strings.HasPrefix(h.Component, component+"/") {
			continue
		}
		for _, c := range all {
			if c.Component != h.Component && slices.Contains(needs[component], c.Component) && (broken(c) || c.State == event.StateDegraded) {
				return caused(c), true
			}
		}
	}
	return nil, false
}

// mentions reports whether the evidence is about this cause, where the rule
// leaves open which one: an image that can't be pulled has to be the one that
// failed.
func mentions(r rule, h, cause event.Health) bool {
	name, below := strings.CutPrefix(cause.Component, r.cause)
	return !strings.HasSuffix(r.cause, "/") || (below && strings.Contains(h.Reason, name))
}

// covers reports whether a rule's pattern stands for the component.
func covers(pattern, component string) bool {
	if strings.HasSuffix(pattern, "/") {
		return strings.HasPrefix(component, pattern)
	}
	return component == pattern
}

// broken reports whether a component is in a state that harms others.
func broken(h event.Health) bool {
	return h.State == event.StateFailed || h.State == event.StateStale
}

// bad reports whether a component's own state wants an explanation.
func bad(h event.Health) bool {
	return broken(h) || h.State == event.StateDegraded || h.State == event.StateWaiting
}

// caused names the cause, unless the probe knew one.
func caused(cause event.Health) func(event.Health) event.Health {
	return func(h event.Health) event.Health {
		if h.Blames == "" {
			h.Blames = cause.Component
		}
		return h
	}
}

// unseen makes a component stale because its cause hides it.
func unseen(cause event.Health) func(event.Health) event.Health {
	return func(h event.Health) event.Health {
		h.Blames = cause.Component
		if h.State == event.StateStale {
			return h
		}
		was := "was " + string(h.State)
		if h.Reason != "" {
			was += " (" + h.Reason + ")"
		}
		h.State, h.Since = event.StateStale, cause.Since
		h.Reason = cause.Component + " is " + string(cause.State) + "; " + was
		h.Try = ""
		return h
	}
}
