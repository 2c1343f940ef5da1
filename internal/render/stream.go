package render

import (
	"fmt"
	"strings"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// stream is what a sink knows of the run it draws, with the run's own clock:
// a replay has the times of the recording, whenever it is drawn.
type stream struct {
	view event.View
	seen time.Time // by this process's clock: when view.Now was handled
	pace float64   // seconds of the run in one of this process
	// reached are the stages that a drill has reached with the last envelope.
	reached []event.DrillStage
}

func newStream() stream { return stream{pace: 1} }

// apply takes in one envelope and says whether it begins another run than the
// one before: a file can hold many.
func (s *stream) apply(e event.Envelope) (another bool) {
	another = s.view.Run != "" && e.Run != s.view.Run
	s.reached = nil
	if d := e.DrillChanged; d != nil {
		s.reached = reached(s.view.Drills[d.Alert], *d)
	}
	s.view.Apply(e)
	s.seen = time.Now()
	return another
}

// now is the time by the run's clock.
func (s *stream) now() time.Time {
	return s.view.Now.Add(time.Duration(float64(time.Since(s.seen)) * s.pace))
}

// over says that nothing runs: the run has not begun or is finished.
func (s *stream) over() bool { return s.view.Run == "" || s.view.Result != nil }

// running returns the steps that run, in the order of the plan.
func (s *stream) running() []event.StepView {
	var out []event.StepView
	for _, st := range s.view.Steps {
		if st.Running() {
			out = append(out, st)
		}
	}
	return out
}

// stepOf returns the step of that ID, or an empty one.
func (s *stream) stepOf(id string) event.StepView {
	for _, st := range s.view.Steps {
		if st.ID == id {
			return st
		}
	}
	return event.StepView{}
}

// explain returns the problem of a step. One that came without a reason gets
// what the step was last waiting for, one without a log the end of the step's.
func (s *stream) explain(p event.Problem, id string) event.Problem {
	step := s.stepOf(id)
	if p.Why == "" && step.Progress != nil {
		p.Why = strings.Join(step.Progress.Blockers, "\n")
	}
	if len(p.Log) == 0 {
		for _, l := range step.Log[max(0, len(step.Log)-failedLog):] {
			p.Log = append(p.Log, l.Line)
		}
	}
	return p
}

// ending says in one line how the run ended.
func ending(v *event.View) (sign, string) {
	counts, first := outcomes(v)
	command := v.Command
	if command == "" {
		command = "run"
	}
	took := duration(v.Result.Elapsed)
	mark, text := signOK, fmt.Sprintf("%s %s: finished in %s", command, v.Stack, took)
	switch {
	case v.Result.OK:
	case counts[event.Canceled] > 0 && first == "":
		mark, text = signDegraded, fmt.Sprintf("%s %s: interrupted after %s", command, v.Stack, took)
	case first != "":
		mark, text = signFailed, fmt.Sprintf("%s %s: failed at %s after %s", command, v.Stack, first, took)
	default:
		mark, text = signFailed, fmt.Sprintf("%s %s: failed after %s", command, v.Stack, took)
	}
	if parts := tally(counts); parts != "" {
		text += " (" + parts + ")"
	}
	return mark, text
}

// outcomes counts how the steps ended, and names the first in the plan that
// failed.
func outcomes(v *event.View) (counts map[event.Outcome]int, firstFailed string) {
	counts = map[event.Outcome]int{}
	for _, s := range v.Steps {
		counts[s.Outcome]++
		if s.Outcome == event.Failed && firstFailed == "" {
			firstFailed = s.ID
		}
	}
	return counts, firstFailed
}

// tally writes counts of outcomes: "5 done, 1 unchanged".
func tally(counts map[event.Outcome]int) string {
	text := ""
	for _, o := range []event.Outcome{event.Done, event.Unchanged, event.Off, event.Failed, event.Skipped, event.Canceled} {
		if n := counts[o]; n > 0 {
			if text != "" {
				text += ", "
			}
			text += fmt.Sprintf("%d %s", n, o)
		}
	}
	return text
}

// pulse calls a function at intervals, from a goroutine of its own.
type pulse struct{ stop, stopped chan struct{} }

func startPulse(every time.Duration, beat func()) *pulse {
	p := &pulse{stop: make(chan struct{}), stopped: make(chan struct{})}
	go func() {
		defer close(p.stopped)
		clock := time.NewTicker(every)
		defer clock.Stop()
		for {
			select {
			case <-p.stop:
				return
			case <-clock.C:
				beat()
			}
		}
	}()
	return p
}

// end stops the calls and waits for one that runs: its caller must hold no
// lock that the function takes. It may be called on nil, once otherwise.
func (p *pulse) end() {
	if p != nil {
		close(p.stop)
		<-p.stopped
	}
}
