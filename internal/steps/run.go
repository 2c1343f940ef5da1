package steps

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
)

// Options of a run.
type Options struct {
	// Parallel is how many steps may run at once; 0 means no limit.
	Parallel int
	// Emit takes the events; nil drops them. It is called from several
	// goroutines at once.
	Emit func(event.Payload)
}

// Run runs the steps. A step starts as soon as all steps it comes after are
// done, unchanged or off, and only after their end was emitted. Steps after a
// failed one are skipped; all others still run to their end. When ctx is
// cancelled, running steps see it in their own context and no further step
// starts; Run returns once the running ones have.
//
// The error joins the *Failure of every failed step, the first one first, and
// the interruption, if any, as a *fault.Error (Interrupted, or Timeout for a
// deadline). Events: StepStarted, StepProgress, StepLog and StepFinished;
// every step gets a StepFinished.
func Run(ctx context.Context, steps []Step, opts Options) error {
	if err := Validate(steps); err != nil {
		return fmt.Errorf("plan: %w", err)
	}
	if opts.Emit == nil {
		opts.Emit = func(event.Payload) {}
	}
	r := &run{
		steps: steps,
		opts:  opts,
		ended: make(map[string]ending, len(steps)),
		done:  make(chan ending),
	}
	return r.loop(ctx)
}

// ending is the result of one step.
type ending struct {
	id      string
	outcome event.Outcome
	note    string
	err     error
	elapsed time.Duration
	// root is the failed step because of which this one was skipped.
	root string
}

func (e ending) good() bool {
	return e.outcome == event.Done || e.outcome == event.Unchanged || e.outcome == event.Off
}

// run is the state of one Run. Only the goroutine of loop touches it, so a
// result is always recorded and emitted before anything that depends on it.
type run struct {
	steps   []Step
	opts    Options
	started map[string]bool
	ended   map[string]ending
	running int
	done    chan ending
	errs    []error
}

func (r *run) loop(ctx context.Context) error {
	r.started = make(map[string]bool, len(r.steps))
	for len(r.ended) < len(r.steps) {
		r.advance(ctx)
		if r.running == 0 {
			continue // only skipped steps in this round; they may have freed others
		}
		select {
		case e := <-r.done:
			r.running--
			r.record(e)
		case <-ctx.Done():
			// Everything that waits is over; what runs reports its end.
			r.advance(ctx)
			for r.running > 0 {
				e := <-r.done
				r.running--
				r.record(e)
			}
		}
	}
	if err := ctx.Err(); err != nil && r.interrupted() {
		r.errs = append(r.errs, interruption(ctx))
	}
	return errors.Join(r.errs...)
}

// advance starts what can start and closes what cannot run any more.
func (r *run) advance(ctx context.Context) {
	for _, s := range r.steps {
		if r.started[s.ID] {
			continue
		}
		ready, blocker := r.ready(s)
		switch {
		case blocker != nil:
			r.started[s.ID] = true
			r.record(skipped(s.ID, *blocker))
		case ctx.Err() != nil:
			r.started[s.ID] = true
			r.record(ending{id: s.ID, outcome: event.Skipped, note: "the run was interrupted"})
		case ready && (r.opts.Parallel <= 0 || r.running < r.opts.Parallel):
			r.started[s.ID] = true
			r.running++
			r.opts.Emit(event.StepStarted{ID: s.ID})
			go func() { r.done <- r.execute(ctx, s) }()
		}
	}
}

// ready says whether every step that s comes after has ended well; blocker is
// one that has not and never will.
func (r *run) ready(s Step) (ready bool, blocker *ending) {
	ready = true
	for _, dep := range s.After {
		switch e, ended := r.ended[dep]; {
		case !ended:
			ready = false
		case !e.good():
			return false, &e
		}
	}
	return ready, nil
}

func skipped(id string, because ending) ending {
	root := because.root
	if root == "" {
		root = because.id
	}
	note := root + " failed"
	if because.outcome == event.Canceled || because.outcome == event.Skipped && because.root == "" {
		note, root = "the run was interrupted", ""
	}
	return ending{id: id, outcome: event.Skipped, note: note, root: root}
}

func (r *run) record(e ending) {
	r.ended[e.id] = e
	if e.outcome == event.Failed {
		r.errs = append(r.errs, &Failure{ID: e.id, Err: e.err})
	}
	finished := event.StepFinished{ID: e.id, Outcome: e.outcome, Note: e.note, Elapsed: e.elapsed}
	switch {
	case e.outcome == event.Failed:
		finished.Error = Problem(e.err)
	case e.outcome == event.Canceled && !errors.Is(e.err, context.Canceled):
		finished.Error = Problem(e.err) // more than that it was told to stop
	}
	r.opts.Emit(finished)
}

// interrupted says whether the end of the context kept any step from its end.
func (r *run) interrupted() bool {
	for _, e := range r.ended {
		if e.outcome == event.Canceled || e.outcome == event.Skipped && e.root == "" {
			return true
		}
	}
	return false
}

func interruption(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fault.Wrap(fault.Timeout, context.Cause(ctx), "", "the time for the run is over")
	}
	return fault.Wrap(fault.Interrupted, context.Cause(ctx), "", "the run was interrupted")
}

// execute runs one step to its end.
func (r *run) execute(ctx context.Context, s Step) ending {
	begin := time.Now()
	rep := &reporter{id: s.ID, emit: r.opts.Emit}
	result, err := attempt(ctx, s, rep)
	rep.close()

	e := ending{id: s.ID, note: result.Note, elapsed: time.Since(begin)}
	var off *Off
	switch {
	case errors.As(err, &off):
		e.outcome, e.note = event.Off, off.Reason
	case err != nil && ctx.Err() != nil:
		e.outcome, e.err = event.Canceled, err
	case err != nil:
		e.outcome, e.err = event.Failed, err
	case result.Done:
		e.outcome = event.Unchanged
	default:
		e.outcome = event.Done
	}
	return e
}

// attempt checks, and applies where needed. A panic becomes an error, its stack goes to the log.
func attempt(ctx context.Context, s Step, rep event.Reporter) (result Result, err error) {
	defer func() {
		if p := recover(); p != nil {
			stack := strings.Split(strings.TrimSpace(string(debug.Stack())), "\n")
			for _, line := range stack {
				rep.Log("panic", line)
			}
			result, err = Result{}, &fault.Error{
				Code: fault.Failed,
				What: fmt.Sprintf("step %s broke off: %v", s.ID, p),
				Why:  "this is a bug in sandbox",
				Log:  stack,
			}
		}
	}()
	if s.Check != nil {
		result, err = s.Check(ctx)
		if err != nil || result.Done {
			return result, err
		}
	}
	return s.Apply(ctx, rep)
}

// reporter turns what a step says into events until the step has ended, so
// that a goroutine which outlives its step cannot speak after it.
type reporter struct {
	id   string
	emit func(event.Payload)

	mu     sync.Mutex
	closed bool
}

func (r *reporter) Progress(p event.Progress) { r.send(event.StepProgress{ID: r.id, Progress: p}) }

func (r *reporter) Log(source, line string) {
	r.send(event.StepLog{ID: r.id, Source: source, Line: line})
}

func (r *reporter) send(p event.Payload) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.emit(p)
	}
}

func (r *reporter) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
}
