package terraform

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
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

// Plan says what an apply would do, without doing it. The state of an emulator
// that is gone is set aside as by Apply.
func (m *Module) Plan(ctx context.Context, rep event.Reporter) (Result, error) {
	_, res, err := m.plan(ctx, rep)
	return res, errors.Join(err, m.dropPlan())
}

// Apply makes the emulator hold what the module describes and records its
// outputs. It may be called at any time, also after an earlier call was
// interrupted or killed, and continues from what the state knows. When ctx ends
// the tool gets one interrupt and finishes what it is creating.
func (m *Module) Apply(ctx context.Context, rep event.Reporter) (res Result, err error) {
	defer func() { err = errors.Join(err, m.dropPlan()) }()
	p, res, err := m.plan(ctx, rep)
	if err != nil {
		return Result{}, errors.Join(err, m.recordFailure(ctx, err))
	}
	rec := p.rec
	rec.Generation, rec.Fingerprint, rec.Failure = m.cfg.Generation, "", ""
	rec.Applying, rec.Tool = time.Now(), p.tool.String()
	if err := m.writeRecord(rec); err != nil {
		return Result{}, err
	}
	if !res.Unchanged {
		if err := m.applyPlan(ctx, p, res, rep); err != nil {
			return Result{}, errors.Join(err, m.recordFailure(ctx, err))
		}
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
	rec.Applying, rec.AppliedAt = time.Time{}, time.Now()
	rec.Fingerprint, rec.StateSum, rec.Resources = p.fingerprint, sum, st.managed()
	return res, m.writeRecord(rec)
}

// plan prepares the workspace and the state, and saves a plan.
func (m *Module) plan(ctx context.Context, rep event.Reporter) (*prepared, Result, error) {
	p, err := m.prepare(ctx, rep, false)
	if err != nil {
		return nil, Result{}, err
	}
	if m.withoutEmulator(p.rec) {
		return nil, Result{}, fault.New(fault.Unavailable, fmt.Sprintf("terraform module %s has no emulator to go to", m.cfg.Name),
			"the one that it was applied to is not there", "sandbox up")
	}
	if !p.rec.Applying.IsZero() {
		rep.Log("sandbox", fmt.Sprintf("the apply of %s that began at %s was interrupted: continuing",
			m.cfg.Name, p.rec.Applying.Format(time.TimeOnly)))
	}
	lost, err := m.prepareState(p.rec, rep)
	if err != nil {
		return nil, Result{}, err
	}
	if p.rec.Generation != m.cfg.Generation {
		// The state that is there now, if any, belongs to this emulator.
		p.rec.Generation, p.rec.Fingerprint, p.rec.Resources = m.cfg.Generation, "", 0
		if err := m.writeRecord(p.rec); err != nil {
			return nil, Result{}, err
		}
	}
	s, changed, err := m.runPlan(ctx, p, rep, tfexec.Out(m.paths.plan))
	if err != nil && !p.initialized && ctx.Err() == nil && wantsInit(s) {
		// What the earlier init left is not enough after all.
		if p, err = m.prepare(ctx, rep, true); err != nil {
			return nil, Result{}, err
		}
		s, changed, err = m.runPlan(ctx, p, rep, tfexec.Out(m.paths.plan))
	}
	if ctx.Err() != nil {
		return nil, Result{}, m.interrupted(ctx, "plan", p.tool, "nothing was changed")
	}
	if err != nil {
		return nil, Result{}, m.failure("plan", p.tool, s, err, "")
	}
	return p, Result{
		Added: s.sum.added, Changed: s.sum.changed, Destroyed: s.sum.destroyed,
		Unchanged: !changed, Lost: lost, Changes: s.planned,
	}, nil
}

// wantsInit reports whether a failed plan asks for init.
func wantsInit(s *stream) bool {
	for _, d := range s.diags {
		if strings.Contains(d.Detail, terraformName+" init") || strings.Contains(d.Detail, tofuName+" init") {
			return true
		}
	}
	return false
}

// runPlan runs one plan and returns what it said.
func (m *Module) runPlan(ctx context.Context, p *prepared, rep event.Reporter, opts ...tfexec.PlanOption) (*stream, bool, error) {
	s := newStream(rep, p.tool.Name, "planning", 0)
	stop := s.follow()
	changed, err := p.tf.PlanJSON(ctx, s, append(opts, tfexec.VarFile(m.paths.vars))...)
	p.tf.SetStdout(nil)
	stop()
	s.finish()
	return s, changed, errors.Join(err, m.protectState())
}

// applyPlan applies the saved plan.
func (m *Module) applyPlan(ctx context.Context, p *prepared, res Result, rep event.Reporter) error {
	total := res.Added + res.Changed + res.Destroyed
	s := newStream(rep, p.tool.Name, "applying", total)
	stop := s.follow()
	err := p.tf.ApplyJSON(ctx, s, tfexec.DirOrPlan(m.paths.plan))
	p.tf.SetStdout(nil)
	stop()
	s.finish()
	protectErr := m.protectState()
	kept := fmt.Sprintf("%d of %d resources are done and kept", s.done, total)
	if ctx.Err() != nil {
		return errors.Join(m.interrupted(ctx, "apply", p.tool, kept), protectErr)
	}
	if err == nil {
		return protectErr
	}
	return errors.Join(m.failure("apply", p.tool, s, err, kept), protectErr)
}

// dropPlan removes the saved plan, which holds the values of sensitive
// variables.
func (m *Module) dropPlan() error {
	if err := os.Remove(m.paths.plan); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove saved plan of module %q: %w", m.cfg.Name, err)
	}
	return nil
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
