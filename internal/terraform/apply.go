package terraform

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/terraform-exec/tfexec"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
)

// Result is what an apply did, or what a plan would do.
type Result struct {
	// Added, Changed and Destroyed count resources; a replacement counts as
	// one added and one destroyed.
	Added, Changed, Destroyed int
	// Unchanged means that there was nothing to do.
	Unchanged bool
	// Lost counts the resources of an earlier emulator whose state was set
	// aside, so that they were created anew.
	Lost int
	// Changes are the planned changes.
	Changes []Change
}

// String is the result as one short line.
func (r Result) String() string {
	text := fmt.Sprintf("%d added, %d changed, %d destroyed", r.Added, r.Changed, r.Destroyed)
	if r.Unchanged {
		text = "no changes"
	}
	if r.Lost > 0 {
		text += fmt.Sprintf(" (%d were lost with the emulator)", r.Lost)
	}
	return text
}

func (s *stream) result(lost int) Result {
	return Result{
		Added: s.sum.added, Changed: s.sum.changed, Destroyed: s.sum.destroyed,
		Unchanged: !s.changes(), Lost: lost, Changes: s.planned,
	}
}

// Plan says what an apply would do, without doing it. The state of an emulator
// that is gone is set aside as by Apply.
func (m *Module) Plan(ctx context.Context, rep event.Reporter) (Result, error) {
	p, lost, err := m.begin(ctx, rep)
	if err != nil {
		return Result{}, err
	}
	s, err := m.run(ctx, p, rep, "planning", func(s *stream) error {
		_, err := p.tf.PlanJSON(ctx, s, tfexec.VarFile(m.paths.vars))
		return err
	})
	if ctx.Err() != nil {
		return Result{}, m.interrupted(ctx, "plan", p.tool, "nothing was changed")
	}
	if err != nil {
		return Result{}, m.failure("plan", p.tool, s, err, "")
	}
	return s.result(lost), nil
}

// Apply makes the emulator hold what the module describes and records its
// outputs. It may be called at any time, also after an earlier call was
// interrupted or killed, and continues from what the state knows. When ctx ends
// the tool gets one interrupt and finishes what it is creating.
//
// It plans and applies in one run of the tool: with a plan that is saved first
// every provider would have to start twice, which takes seconds.
func (m *Module) Apply(ctx context.Context, rep event.Reporter) (Result, error) {
	p, lost, err := m.begin(ctx, rep)
	if err != nil {
		return Result{}, errors.Join(err, m.recordFailure(ctx, err))
	}
	rec := p.rec
	rec.Fingerprint, rec.Failure = "", ""
	rec.Applying, rec.Tool = time.Now(), p.tool.String()
	if err := m.writeRecord(rec); err != nil {
		return Result{}, err
	}
	s, err := m.run(ctx, p, rep, "planning", func(s *stream) error {
		s.next = "applying"
		return p.tf.ApplyJSON(ctx, s, tfexec.VarFile(m.paths.vars))
	})
	if ctx.Err() != nil {
		return Result{}, m.interrupted(ctx, "apply", p.tool, s.kept())
	}
	if err != nil {
		err := m.failure("apply", p.tool, s, err, s.kept())
		return Result{}, errors.Join(err, m.recordFailure(ctx, err))
	}
	st, sum, err := readState(m.paths.state)
	if err != nil {
		return Result{}, err
	}
	if st == nil {
		st = &stateFile{}
	}
	if err := m.writeOutputs(st.Outputs); err != nil {
		return Result{}, err
	}
	rec = p.rec // init may have run again
	rec.Applying, rec.AppliedAt, rec.Failure, rec.Tool = time.Time{}, time.Now(), "", p.tool.String()
	rec.Fingerprint, rec.StateSum, rec.Resources = p.fingerprint, sum, st.managed()
	return s.result(lost), m.writeRecord(rec)
}

// begin prepares the workspace and the state. lost counts the resources of an
// emulator that is gone.
func (m *Module) begin(ctx context.Context, rep event.Reporter) (p *prepared, lost int, err error) {
	if p, err = m.prepare(ctx, rep, false); err != nil {
		return nil, 0, err
	}
	if m.withoutEmulator(p.rec) {
		return nil, 0, fault.New(fault.Unavailable, fmt.Sprintf("terraform module %s has no emulator to go to", m.cfg.Name),
			"the one that it was applied to is not there", "sandbox up")
	}
	if !p.rec.Applying.IsZero() {
		rep.Log("sandbox", fmt.Sprintf("the apply of %s that began at %s was interrupted: continuing",
			m.cfg.Name, p.rec.Applying.Format(time.TimeOnly)))
	}
	if lost, err = m.prepareState(p.rec, rep); err != nil {
		return nil, 0, err
	}
	if p.rec.Generation != m.cfg.Generation {
		// The state that is there now, if any, belongs to this emulator.
		p.rec.Generation, p.rec.Fingerprint, p.rec.Resources = m.cfg.Generation, "", 0
		if err := m.writeRecord(p.rec); err != nil {
			return nil, 0, err
		}
	}
	return p, lost, nil
}

// run runs a command of the tool and follows its output. It runs it once more
// when it failed, before it changed anything, for a reason that can be removed:
// what an earlier init installed is not enough, or two names of one endpoint
// are set where the provider takes one.
func (m *Module) run(ctx context.Context, p *prepared, rep event.Reporter, phase string, command func(*stream) error) (*stream, error) {
	for attempt := 1; ; attempt++ {
		s := newStream(rep, p.tool.Name, phase)
		stop := s.follow()
		err := command(s)
		p.tf.SetStdout(nil)
		stop()
		s.finish()
		err = errors.Join(err, m.protectState())
		if p.schema != nil {
			if err := p.schema.learn(s.conflicts); err != nil {
				return s, err
			}
		}
		if err == nil || ctx.Err() != nil || attempt > 1 || s.total > 0 {
			return s, err
		}
		switch {
		case !p.initialized && wantsInit(s):
			again, err := m.prepare(ctx, rep, true)
			if err != nil {
				return s, err
			}
			*p = *again
		case len(s.conflicts) > 0:
			if err := m.writeOverrides(p.folders, p.schema); err != nil {
				return s, err
			}
		default:
			return s, err
		}
	}
}

// wantsInit reports whether a failed command asks for init.
func wantsInit(s *stream) bool {
	for _, d := range s.diags {
		if strings.Contains(d.Detail, terraformName+" init") || strings.Contains(d.Detail, tofuName+" init") {
			return true
		}
	}
	return false
}

// kept says what remains of an apply that did not end well.
func (s *stream) kept() string {
	if s.done == 0 {
		return "nothing was changed"
	}
	return fmt.Sprintf("%d of %d resources are done and kept", s.done, s.total)
}

// recordFailure keeps why an apply failed, for Health and Check. An interrupt
// is no failure: the record says already that the apply has not ended.
func (m *Module) recordFailure(ctx context.Context, cause error) error {
	if ctx.Err() != nil || !exists(m.paths.dir) {
		return nil
	}
	rec, err := m.readRecord()
	if err != nil {
		return err
	}
	if m.withoutEmulator(rec) {
		return nil // says nothing of what was applied
	}
	rec.Applying, rec.Failure = time.Time{}, firstLine(cause)
	if st, _, err := readState(m.paths.state); err == nil && st != nil {
		rec.Resources = st.managed()
	}
	return m.writeRecord(rec)
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
