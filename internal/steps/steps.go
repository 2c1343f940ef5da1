// Package steps runs a graph of idempotent steps: each as soon as those
// before it are done, as many at once as allowed, and all of them observed as
// events. It knows nothing of what the steps do.
package steps

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// Step is one unit of work. Running it again, after success, failure or a
// kill at any point, must lead to the same end.
type Step struct {
	// ID is a stable slug, unique in the graph, such as "release/web-app".
	ID string
	// Title says for people what the step does.
	Title string
	// After lists the IDs of the steps that must be done before this one.
	After []string
	// Check says whether what the step is for is there already. nil means
	// that Apply always runs. An error fails the step: a check that cannot
	// tell must say so in its Result instead.
	Check func(ctx context.Context) (Result, error)
	// Apply does the work. Where it can only find out while doing it that
	// there is nothing to do, its Result says so.
	Apply func(ctx context.Context, rep event.Reporter) (Result, error)
}

// Result is the answer of a Check or an Apply.
type Result struct {
	// Done says that there was nothing to do: the step counts as unchanged.
	Done bool
	// Note is one short line on what was found or done.
	Note string
}

// Off is the error by which a step says that its component cannot be had
// here, which is no failure: the steps after it run.
type Off struct {
	// Reason says why, for people.
	Reason string
	// Cause is the underlying error, if any.
	Cause error
}

// Error returns the reason.
func (o *Off) Error() string { return o.Reason }

// Unwrap returns the cause.
func (o *Off) Unwrap() error { return o.Cause }

// Failure is the error of one step.
type Failure struct {
	// ID is the step that failed.
	ID string
	// Err is what Check or Apply returned.
	Err error
}

// Error names the step and the reason.
func (f *Failure) Error() string { return f.ID + ": " + f.Err.Error() }

// Unwrap returns the step's own error.
func (f *Failure) Unwrap() error { return f.Err }

// Plan describes the steps for the PlanReady event.
func Plan(steps []Step) []event.PlanStep {
	plan := make([]event.PlanStep, len(steps))
	for i, s := range steps {
		plan[i] = event.PlanStep{ID: s.ID, Title: s.Title, After: s.After}
	}
	return plan
}

// Validate reports empty and repeated IDs, steps without work, unknown
// dependencies and cycles. A cycle is spelt out: "a → b → a".
func Validate(steps []Step) error {
	after := make(map[string][]string, len(steps))
	var errs []error
	for _, s := range steps {
		switch _, known := after[s.ID]; {
		case s.ID == "":
			errs = append(errs, fmt.Errorf("step %q has no id", s.Title))
		case known:
			errs = append(errs, fmt.Errorf("step %q is there twice", s.ID))
		case s.Apply == nil:
			errs = append(errs, fmt.Errorf("step %q has nothing to apply", s.ID))
		}
		after[s.ID] = s.After
	}
	for _, s := range steps {
		for _, dep := range s.After {
			if _, known := after[dep]; !known {
				errs = append(errs, fmt.Errorf("step %q comes after %q, which does not exist", s.ID, dep))
			}
		}
	}
	if cycle := findCycle(steps, after); cycle != nil {
		errs = append(errs, fmt.Errorf("steps wait for each other: %s", strings.Join(cycle, " → ")))
	}
	return errors.Join(errs...)
}

// findCycle returns the first cycle found in the order of steps, its first
// ID repeated at the end, or nil.
func findCycle(steps []Step, after map[string][]string) []string {
	const visiting, visited = 1, 2
	mark := make(map[string]int, len(steps))
	var path []string
	var visit func(id string) []string
	visit = func(id string) []string {
		switch mark[id] {
		case visited:
			return nil
		case visiting:
			for i, p := range path {
				if p == id {
					return append(append([]string{}, path[i:]...), id)
				}
			}
		}
		mark[id] = visiting
		path = append(path, id)
		for _, dep := range after[id] {
			if c := visit(dep); c != nil {
				return c
			}
		}
		path = path[:len(path)-1]
		mark[id] = visited
		return nil
	}
	for _, s := range steps {
		if c := visit(s.ID); c != nil {
			return c
		}
	}
	return nil
}
