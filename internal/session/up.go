package session

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/plan"
	"github.com/sandbox-stack/sandbox/internal/state"
	"github.com/sandbox-stack/sandbox/internal/steps"
)

// Up makes the stack real and says so to the sinks; every event is recorded in
// the state directory as well. It may be called again after whatever end.
func (s *Session) Up(ctx context.Context, sinks ...event.Sink) error {
	file, err := event.OpenFile(s.dir.Events())
	if err != nil {
		return err
	}
	began := time.Now()
	log := event.NewLog(s.run, nil, append(sinks, file, event.SinkFunc(s.recordStep))...)
	list, err := s.undoSteps(ctx, plan.Steps(plan.Build(s.stack), s.part))
	if err != nil {
		return errors.Join(err, log.Close(), file.Close())
	}
	log.Emit(event.PlanReady{
		Stack: s.name, Command: "up", Engine: s.info.Engine + " " + s.info.Version, Steps: steps.Plan(list),
	})
	missed := &missed{}
	runErr := run(ctx, list, func(p event.Payload) { missed.note(p); log.Emit(p) })
	if ctx.Err() == nil {
		for _, h := range s.health(ctx) {
			if !missed.covers(h.Component) {
				log.Emit(event.HealthChanged{Health: h})
			}
		}
	}
	if runErr == nil {
		warnings, err := s.unproven(ctx)
		if err != nil { // no reason to fail what is up
			warnings = []event.ObjectEvent{{Type: event.Warning, Source: "sandbox", Object: "observe/rules", Reason: "NotKnown", Message: "what proves them is not known: " + reason(err)}}
		}
		for _, w := range warnings {
			log.Emit(w)
		}
		s.warnings = warnings
	}
	log.Emit(event.RunFinished{OK: runErr == nil, Error: steps.Problem(runErr), Elapsed: time.Since(began)})
	return errors.Join(runErr, log.Close(), file.Close())
}

// Warnings are what the last Up has found that is not wrong, and not good either.
func (s *Session) Warnings() []string {
	var list []string
	for _, w := range s.warnings {
		list = append(list, strings.TrimPrefix(w.Object, "rule/")+": "+w.Message)
	}
	return list
}

// run runs the steps. One that was stopped from outside ends with the reason
// itself, such as the user's interrupt or the time given, where no step failed.
func run(ctx context.Context, list []steps.Step, emit func(event.Payload)) error {
	err := steps.Run(ctx, list, steps.Options{Emit: emit})
	var failure *steps.Failure
	var stopped, reason *fault.Error
	if errors.As(err, &failure) || !errors.As(err, &stopped) || !errors.As(stopped.Cause, &reason) {
		return err
	}
	return reason
}

// missed are the steps that were skipped because another one failed. That their
// components are not there says nothing, and would only hide what failed.
type missed struct {
	mu    sync.Mutex
	steps []string
}

func (m *missed) note(p event.Payload) {
	if f, ok := p.(event.StepFinished); ok && f.Outcome == event.Skipped {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.steps = append(m.steps, f.ID)
	}
}

// covers says whether a component is one of a step that was skipped.
func (m *missed) covers(component string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range m.steps {
		// The step that loads or builds an image is named after what it does.
		id = strings.Replace(id, "build/", "image/", 1)
		if component == id || strings.HasPrefix(component, id+"/") {
			return true
		}
	}
	return false
}

// recordStep notes in the record how each step ended.
func (s *Session) recordStep(e event.Envelope) error {
	if e.StepFinished == nil {
		return nil
	}
	return s.dir.Update(func(rec *state.Record) error {
		rec.SetStep(e.StepFinished.ID, state.StepRecord{
			Outcome: string(e.StepFinished.Outcome), Note: e.StepFinished.Note, At: e.Time,
		})
		return nil
	})
}
