// Package doctor looks at a machine before a sandbox does: each check is one
// question with an answer that says what is so, why that matters, and the exact
// command that mends it. Checks only look; what is safe to mend by itself is a
// Repair, which Apply carries out for whoever asked for it.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

// State is how a check ended.
type State string

// The states, of which later ones are worse.
const (
	// Skip: the check says nothing about this machine.
	Skip State = "skip"
	OK   State = "ok"
	// Warn: a sandbox comes up, though not as well as it could.
	Warn State = "warn"
	// Fail: a sandbox can't come up.
	Fail State = "fail"
)

// severity orders the states.
func (s State) severity() int { return slices.Index([]State{Skip, OK, Warn, Fail}, s) }

// Finding is what a check found.
type Finding struct {
	State State `json:"state"`
	// What is so, in one line.
	What string `json:"what"`
	// Why that is a problem, or why nothing could be said.
	Why string `json:"why,omitempty"`
	// Fix is the command, or the change, that mends it.
	Fix string `json:"fix,omitempty"`
	// Repair mends it without a person; nil where that would not be safe.
	Repair *Repair `json:"-"`
}

// Result is a check with its answer.
type Result struct {
	ID    string `json:"id"`
	Title string `json:"title"`
	Finding
	// Fixable: --fix can mend it.
	Fixable bool `json:"fixable"`
}

// Fault is the result as an error, for a command that can't go on.
func (r Result) Fault() *fault.Error {
	return fault.New(fault.Unhealthy, r.What, r.Why, r.Fix)
}

// Check is one question about the machine.
type Check struct {
	ID    string
	Title string
	// cheap checks look at this machine alone and take no time to speak of:
	// up runs them each time.
	cheap bool
	// engine checks need the engine's answers; they are skipped without.
	engine bool
	limit  time.Duration // 0 means checkLimit
	run    func(ctx context.Context, e *exam) Finding
}

// checkLimit bounds a check, engineLimit how long the engine may take to answer.
const (
	checkLimit  = 2 * time.Second
	engineLimit = 5 * time.Second
)

// Checks are all checks, in the order in which they are reported.
func Checks() []Check {
	return slices.Concat(engineChecks, kernelChecks, resourceChecks, networkChecks, toolChecks, sandboxChecks)
}

// Cheap are the checks that come before every up. Ports are not among them:
// up chooses them itself, where it knows which are its own.
func Cheap() []Check {
	return slices.DeleteFunc(Checks(), func(c Check) bool { return !c.cheap })
}

// Report is all that was found.
type Report struct {
	// State is the worst among the checks.
	State State `json:"state"`
	// Engine is the engine that answered, such as "podman 4.3.1".
	Engine string `json:"engine,omitempty"`
	// Stack is the stack whose needs were looked at.
	Stack  string   `json:"stack,omitempty"`
	Checks []Result `json:"checks"`
}

// Failed returns the first check that failed.
func (r Report) Failed() (Result, bool) { return r.first(Fail) }

func (r Report) first(state State) (Result, bool) {
	i := slices.IndexFunc(r.Checks, func(c Result) bool { return c.State == state })
	if i < 0 {
		return Result{}, false
	}
	return r.Checks[i], true
}

// Count returns how many checks ended in the state.
func (r Report) Count(state State) int {
	n := 0
	for _, c := range r.Checks {
		if c.State == state {
			n++
		}
	}
	return n
}

// Run makes the checks at the same time, each within its limit. ended, unless
// nil, is called as each one ends, one at a time.
func Run(ctx context.Context, host *Host, need Need, checks []Check, ended func(Result)) (Report, error) {
	e := newExam(host, need)
	report := Report{State: OK, Stack: need.Stack, Checks: make([]Result, len(checks))}
	var all sync.WaitGroup
	var mu sync.Mutex
	for i, c := range checks {
		all.Go(func() {
			result := e.result(ctx, c)
			mu.Lock()
			defer mu.Unlock()
			report.Checks[i] = result
			if ended != nil {
				ended(result)
			}
		})
	}
	all.Wait()
	for _, c := range report.Checks {
		if c.State.severity() > report.State.severity() {
			report.State = c.State
		}
	}
	var err error
	report.Engine, err = e.close()
	if ctx.Err() != nil {
		return report, errors.Join(context.Cause(ctx), err)
	}
	return report, err
}

// result makes one check, and says so where it does not end in time.
func (e *exam) result(ctx context.Context, c Check) Result {
	found := e.bounded(ctx, c)
	return Result{ID: c.ID, Title: c.Title, Finding: found, Fixable: found.Repair != nil}
}

func (e *exam) bounded(ctx context.Context, c Check) Finding {
	if c.engine {
		if _, err := e.engine(ctx); err != nil {
			if errors.Is(err, errNoEngine) {
				return noEngine()
			}
			return noAnswer()
		}
	}
	limit := c.limit
	if limit == 0 {
		limit = checkLimit
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	answer := make(chan Finding, 1) // whoever is late is not waited for
	go func() { answer <- c.run(ctx, e) }()
	select {
	case found := <-answer:
		return found
	case <-ctx.Done():
		return warn(fmt.Sprintf("no answer within %s", limit), "the check "+c.ID+" was given up: "+c.Title, "sandbox doctor, once more")
	}
}

func ok(what string, args ...any) Finding {
	return Finding{State: OK, What: fmt.Sprintf(what, args...)}
}

func skip(what, why string) Finding { return Finding{State: Skip, What: what, Why: why} }

func warn(what, why, fix string) Finding {
	return Finding{State: Warn, What: what, Why: why, Fix: fix}
}

func fail(what, why, fix string) Finding {
	return Finding{State: Fail, What: what, Why: why, Fix: fix}
}

// unknown is a check whose facts could not be read.
func unknown(what string, err error) Finding { return skip("unknown: "+what, oneLine(err)) }

// oneLine is an error as the reason of something else: without what to try.
func oneLine(err error) string {
	var said *fault.Error
	if errors.As(err, &said) {
		return said.What + ": " + said.Reason()
	}
	return err.Error()
}

// repaired adds a repair, and its command as the fix.
func (f Finding) repaired(h *Host, r Repair) Finding {
	f.Fix = r.Text(h)
	if h.applicable(r) {
		f.Repair = &r
	}
	return f
}
