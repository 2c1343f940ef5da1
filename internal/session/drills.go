package session

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/sandbox-stack/sandbox/internal/drill"
	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/inject"
	"github.com/sandbox-stack/sandbox/internal/stack"
	"github.com/sandbox-stack/sandbox/internal/steps"
)

// DrillOptions say which drills to run, and how.
type DrillOptions struct {
	// Alerts names the drills; without one, all are run.
	Alerts []string
	// Compress is what the durations of rules are divided by, where the drill does
	// not say it; 0 stands for the default, 1 runs them as they are written.
	Compress int
	// RealTime runs all rules as they are written.
	RealTime bool
	// Force runs drills on a stack that is not healthy.
	Force bool
	// KeepBroken leaves the fault of a drill that fails in place, and ends there.
	KeepBroken bool
}

// drillsFile holds the last drill of each alert.
const drillsFile = "drills.json"

// LastDrills returns the last drill of each alert.
func (s *Session) LastDrills() (map[string]event.DrillChanged, error) {
	last, err := s.recordedDrills()
	if err != nil {
		return nil, err
	}
	for alert, d := range last {
		if d.State != event.DrillRunning {
			continue
		}
		if _, held, err := s.dir.Holder(); err != nil || held {
			return last, err
		}
		last[alert] = s.died(d)
	}
	return last, nil
}

// died is a drill whose process has died.
func (s *Session) died(d event.DrillChanged) event.DrillChanged {
	d.State = event.DrillInterrupted
	d.Error = &event.Problem{Code: string(fault.Interrupted), What: "the drill " + d.Alert + " was killed", Try: "sandbox alerts drill " + d.Alert}
	for _, stage := range d.Stages {
		if !stage.At.IsZero() {
			d.Finished = stage.At
		}
	}
	if s.faultIsLeft() {
		d.Error.Why, d.Error.Try = "its fault is left: "+d.Fault, "sandbox alerts drill --undo"
	}
	return d
}

func (s *Session) recordedDrills() (map[string]event.DrillChanged, error) {
	last := map[string]event.DrillChanged{}
	err := readJSON(filepath.Join(s.dir.Path(), drillsFile), &last)
	return last, err
}

// recordDrill notes how a drill is, and keeps when it last passed.
func (s *Session) recordDrill(d event.DrillChanged) error {
	last, err := s.recordedDrills()
	if err != nil {
		return err
	}
	if d.State == event.DrillPassed {
		d.Passed = d.Finished
	} else if d.Passed.IsZero() {
		d.Passed = last[d.Alert].Passed
	}
	last[d.Alert] = d
	return writeJSON(filepath.Join(s.dir.Path(), drillsFile), last)
}

// Drills returns what the drill of each alert breaks, by the stack.
func (s *Session) Drills() map[string]string {
	what := map[string]string{}
	for _, d := range s.stack.Spec.Drills {
		what[d.Alert] = describeFault(d.Inject)
	}
	return what
}

// chosen returns the drills that are asked for.
func (s *Session) chosen(alerts []string) ([]stack.Drill, error) {
	declared := s.stack.Spec.Drills
	if len(declared) == 0 {
		return nil, fault.New(fault.Invalid, "sandbox "+s.name+" has no drills", "its stack declares none", "add drills: to "+s.stack.File+", see docs/stack.md, then sandbox up")
	}
	if len(alerts) == 0 {
		return declared, nil
	}
	var list []stack.Drill
	for _, name := range alerts {
		i := slices.IndexFunc(declared, func(d stack.Drill) bool { return d.Alert == name })
		if i < 0 {
			return nil, s.noDrill(name)
		}
		if slices.ContainsFunc(list, func(d stack.Drill) bool { return d.Alert == name }) {
			return nil, fault.New(fault.Invalid, "the drill "+name+" is asked for twice", "each runs once", "name it once")
		}
		list = append(list, declared[i])
	}
	return list, nil
}

// noDrill says why there is no drill of a name: there is no such alert, or no drill for it.
func (s *Session) noDrill(name string) error {
	known, err := s.alertNames()
	if err != nil {
		return err
	}
	if slices.Contains(known, name) {
		return fault.New(fault.Invalid, "no drill for the alert "+name, "the stack declares none", "add one to drills: in "+s.stack.File+", then sandbox up")
	}
	why := "the stack has no rules"
	if len(known) > 0 {
		why = "there are " + strings.Join(known, ", ")
	}
	if nearest := stack.Nearest(name, known); nearest != "" {
		why = "the nearest is " + nearest
	}
	return fault.New(fault.Invalid, fmt.Sprintf("no alert %q", name), why, "sandbox alerts list")
}

// Drill runs drills, one after the other, and says so to the sinks. Its error is
// that of the first drill that failed, or why none could be run.
func (s *Session) Drill(ctx context.Context, opt DrillOptions, sinks ...event.Sink) error {
	list, err := s.chosen(opt.Alerts)
	if err != nil {
		return err
	}
	return s.locked(ctx, "sandbox alerts drill", func() error {
		prepared, err := s.prepareDrills(ctx, list, opt)
		if err != nil {
			return err
		}
		return s.runDrills(ctx, prepared, opt, sinks)
	})
}

// prepared is a drill that is ready to run.
type prepared struct {
	drill.Drill
	spec  stack.Drill
	rules []byte // the copy of the rules, none where they run as they are written
	// cleanup is the record of the command that removes what its load leaves.
	cleanup *inject.Record
}

// prepareDrills looks whether everything that is asked for can be done, before
// anything is broken.
func (s *Session) prepareDrills(ctx context.Context, list []stack.Drill, opt DrillOptions) ([]prepared, error) {
	left, err := s.Faults()
	if err != nil {
		return nil, err
	}
	if len(left) > 0 {
		return nil, fault.New(fault.Conflict, "a fault of an earlier drill is still there: "+left[0].What,
			fmt.Sprintf("drill %s injected it at %s and did not undo it", left[0].Alert, left[0].Since.Local().Format("15:04:05")), "sandbox alerts drill --undo")
	}
	if !opt.Force {
		if err := s.healthyForDrills(ctx); err != nil {
			return nil, err
		}
	}
	out := make([]prepared, 0, len(list))
	for _, spec := range list {
		p, err := s.prepareDrill(ctx, spec, opt)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// healthyForDrills refuses a stack that is not healthy, and does not get so in a
// moment.
func (s *Session) healthyForDrills(ctx context.Context) error {
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		for _, h := range s.health(ctx) {
			if !h.State.Healthy() {
				return struct{}{}, fault.New(fault.Unhealthy, fmt.Sprintf("no drill on a sandbox that is not healthy: %s is %s", h.Component, h.State),
					h.Reason, "sandbox status, or --force to drill all the same")
			}
		}
		return struct{}{}, nil
	}, backoff.WithBackOff(backoff.NewConstantBackOff(time.Second)), backoff.WithMaxElapsedTime(healthyMoment))
	return err
}

// healthyMoment is how long a stack may take to be healthy before a drill: a
// release that was just changed has its first scrape to come.
const healthyMoment = 10 * time.Second

func (s *Session) prepareDrill(ctx context.Context, spec stack.Drill, opt DrillOptions) (prepared, error) {
	p := prepared{spec: spec}
	injector, err := inject.New(spec.Inject, s.world())
	if err != nil {
		return p, err
	}
	prepare := func(ctx context.Context) (inject.Record, error) {
		rec, err := injector.Prepare(ctx)
		if err != nil {
			return rec, fmt.Errorf("drill %s: %w", spec.Alert, err)
		}
		rec.Alert, rec.Since = spec.Alert, time.Now()
		return rec, nil
	}
	rec, err := prepare(ctx)
	if err != nil {
		return p, err
	}
	p.Drill = drill.Drill{
		Alert: spec.Alert, Injector: injector, Fault: rec, Prepare: prepare, Receiver: spec.Receiver,
		Unrouted: s.stack.Spec.Observability.Alertmanager == "",
		Within:   time.Duration(spec.Within), Resolves: time.Duration(spec.Resolves), Compress: compressOf(spec, opt),
	}
	if spec.Load != nil {
		load, err := s.load(ctx, *spec.Load)
		if err != nil {
			return p, fmt.Errorf("drill %s: %w", spec.Alert, err)
		}
		p.Load = load
		if c := spec.Load.Cleanup; c != nil {
			rec, err := inject.Cleanup(*c)
			if err != nil {
				return p, err
			}
			rec.Alert, rec.Since = spec.Alert, time.Now()
			p.cleanup = &rec
		}
	}
	return p, s.watch(ctx, &p, opt.RealTime)
}

// compressOf is what the durations of a drill's rules are divided by.
func compressOf(spec stack.Drill, opt DrillOptions) int {
	switch {
	case opt.RealTime:
		return 1
	case spec.Compress > 0:
		return spec.Compress
	case opt.Compress > 0:
		return opt.Compress
	}
	return stack.DefaultCompress
}

// runDrills runs prepared drills as the steps of a run.
func (s *Session) runDrills(ctx context.Context, list []prepared, opt DrillOptions, sinks []event.Sink) (err error) {
	began := time.Now()
	log := event.NewLog(newRun(), nil, sinks...)
	ready := event.PlanReady{Stack: s.name, Command: "alerts drill", Engine: s.info.Engine + " " + s.info.Version}
	for i, p := range list {
		step := event.PlanStep{ID: drillStep(p.Alert), Title: "drill " + p.Alert}
		if i > 0 {
			step.After = []string{drillStep(list[i-1].Alert)}
		}
		ready.Steps = append(ready.Steps, step)
	}
	log.Emit(ready)
	var first *event.Problem
	failed := 0
	for i, p := range list {
		id := drillStep(p.Alert)
		if stop := ctx.Err() != nil || (failed > 0 && s.faultIsLeft()); stop {
			log.Emit(event.StepFinished{ID: id, Outcome: event.Skipped})
			continue
		}
		log.Emit(event.StepStarted{ID: id})
		end := s.runDrill(ctx, p, i > 0, opt, log.Emit)
		log.Emit(end)
		if end.Error != nil {
			failed++
			if first == nil {
				first = end.Error
			}
		}
	}
	if !opt.KeepBroken || !s.faultIsLeft() {
		err = s.endDrills(ctx)
	}
	switch {
	case ctx.Err() != nil:
		err = errors.Join(s.drillsInterrupted(ctx, list), err)
	case failed > 0:
		err = errors.Join(drillsFailed(first, failed, len(list)), err)
	}
	log.Emit(event.RunFinished{OK: err == nil, Error: steps.Problem(err), Elapsed: time.Since(began)})
	return errors.Join(err, log.Close())
}

// drillsInterrupted says what an interrupt has left.
func (s *Session) drillsInterrupted(ctx context.Context, list []prepared) error {
	f := &fault.Error{
		Code: fault.CodeOf(context.Cause(ctx)), What: "the drills were interrupted", Why: "the fault was undone; nothing is left of it",
		Try: "sandbox alerts drill " + list[0].Alert, Cause: context.Cause(ctx),
	}
	if s.faultIsLeft() {
		f.Why, f.Try = "a fault is left", "sandbox alerts drill --undo"
	}
	return f
}

// faultIsLeft says whether a fault is recorded, so that no other drill may begin.
// A record that can't be read may hold one.
func (s *Session) faultIsLeft() bool {
	list, err := s.Faults()
	return err != nil || len(list) > 0
}

func drillStep(alert string) string { return "drill/" + alert }

func drillsFailed(first *event.Problem, failed, all int) error {
	f := &fault.Error{Code: fault.Code(first.Code), What: first.What, Why: first.Why, Try: first.Try, Log: first.Log}
	if failed > 1 {
		f.What = fmt.Sprintf("%d of %d drills failed, the first: %s", failed, all, f.What)
	}
	return f
}

// runDrill runs one drill. after says that another one came before it, whose
// traces have to be gone first.
func (s *Session) runDrill(ctx context.Context, p prepared, after bool, opt DrillOptions, emit func(event.Payload)) event.StepFinished {
	began := time.Now()
	end := event.StepFinished{ID: drillStep(p.Alert), Outcome: event.Done}
	var recordErr error
	say := func(d event.DrillChanged) {
		at := d.Stage()
		text := string(at.Name)
		if at.Note != "" {
			text += ": " + at.Note
		}
		emit(event.StepProgress{ID: end.ID, Progress: event.Progress{Text: text}})
		emit(d)
		recordErr = errors.Join(recordErr, s.recordDrill(d))
	}
	d, err := s.runOne(ctx, p, after, opt, say)
	end.Elapsed = time.Since(began)
	switch {
	case err != nil:
		end.Outcome, end.Error = event.Failed, steps.Problem(err)
	case d.State == event.DrillInterrupted:
		end.Outcome, end.Error = event.Canceled, d.Error
	case d.State == event.DrillFailed:
		end.Outcome, end.Error = event.Failed, d.Error
	case recordErr != nil:
		end.Outcome, end.Error = event.Failed, steps.Problem(recordErr)
	default:
		end.Note = timesOf(d)
	}
	return end
}

// runOne sets up what one drill needs, and runs it.
func (s *Session) runOne(ctx context.Context, p prepared, after bool, opt DrillOptions, say func(event.DrillChanged)) (event.DrillChanged, error) {
	receiver, err := s.startReceiver(ctx)
	if err != nil {
		return event.DrillChanged{}, err
	}
	if err := s.observeDrill(ctx, p); err != nil {
		return event.DrillChanged{}, err
	}
	prom, err := s.prometheus()
	if err != nil {
		return event.DrillChanged{}, err
	}
	am, err := s.alertmanager()
	if err != nil {
		return event.DrillChanged{}, err
	}
	runner := drill.Runner{
		Prometheus: prom, Alertmanager: am, Receiver: receiver,
		Keep: func(rec inject.Record) error {
			if p.cleanup == nil {
				return s.keepFault(rec)
			}
			if err := s.keepFault(*p.cleanup); err != nil {
				return err
			}
			if err := s.keepFault(rec); err != nil {
				return errors.Join(err, s.forgetFault(*p.cleanup))
			}
			return nil
		},
		Undo: func(ctx context.Context, rec inject.Record) error {
			if err := s.undoFault(ctx, rec, s.world()); err != nil || p.cleanup == nil {
				return err
			}
			return s.undoFault(ctx, *p.cleanup, s.world())
		},
		Emit: say, KeepBroken: opt.KeepBroken,
	}
	if after && !opt.Force {
		runner.Ready = s.readyForDrill
	}
	return runner.Run(ctx, p.Drill), nil
}

// readyForDrill waits until the stack has got over the drill before.
func (s *Session) readyForDrill(ctx context.Context, note func(string)) error {
	_, err := s.ensureHealthy(ctx, blockers(note))
	return err
}

// blockers is a reporter that passes on what is waited for.
type blockers func(string)

// Progress passes on the first that is waited for.
func (f blockers) Progress(p event.Progress) {
	if len(p.Blockers) > 0 {
		f("waiting for " + p.Blockers[0])
	}
}

// Log says nothing.
func (blockers) Log(string, string) {}

// timesOf says in a line when the stages of a drill were reached.
func timesOf(d event.DrillChanged) string {
	injected := d.When(event.StageInjected)
	var parts []string
	for _, s := range []struct {
		name event.StageName
		word string
	}{
		{event.StagePending, "pending"},
		{event.StageFiring, "firing"},
		{event.StageDelivered, "delivered"},
		{event.StageUndone, "undone"},
		{event.StageResolved, "resolved"},
		{event.StageNotified, "told"},
	} {
		if at := d.When(s.name); !at.IsZero() {
			parts = append(parts, fmt.Sprintf("%s +%ds", s.word, int(at.Sub(injected).Seconds())))
		}
	}
	return strings.Join(parts, ", ")
}
