package terraform

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"time"

	"github.com/hashicorp/terraform-exec/tfexec"
	tfjson "github.com/hashicorp/terraform-json"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// Comparison is what differs between a module and the emulator.
type Comparison struct {
	// Drift is what was changed or deleted outside of the tool.
	Drift []Change
	// Planned is what an apply would do, because of the drift or because the
	// configuration has changed.
	Planned []Change
}

// Drift compares the state with what the emulator holds and returns the
// differences that an apply would undo, without changing anything. Others are
// no drift: most attributes that the provider computes come out different, or
// empty in another way, at the first look after the apply that made them.
func (m *Module) Drift(ctx context.Context, rep event.Reporter) (Comparison, error) {
	p, err := m.prepare(ctx, rep, false)
	if err != nil {
		return Comparison{}, err
	}
	start := time.Now()
	s, err := m.run(ctx, p, rep, "comparing", func(s *stream) error {
		_, err := p.tf.PlanJSON(ctx, s, tfexec.VarFile(m.paths.vars), tfexec.Out(m.paths.plan))
		return err
	})
	found := Comparison{Drift: s.undone(), Planned: s.planned}
	if err == nil && slices.ContainsFunc(found.Drift, func(c Change) bool { return c.Action == "update" }) {
		found.Drift, err = m.meaningful(ctx, p, found.Drift, rep)
	}
	// The plan holds values of sensitive variables.
	if dropErr := os.Remove(m.paths.plan); dropErr != nil && !errors.Is(dropErr, fs.ErrNotExist) {
		return Comparison{}, fmt.Errorf("remove saved plan of module %q: %w", m.cfg.Name, dropErr)
	}
	if ctx.Err() != nil {
		return Comparison{}, m.interrupted(ctx, "plan", p.tool, "nothing was changed")
	}
	if err != nil {
		return Comparison{}, m.failure("plan", p.tool, s, err, "")
	}
	rep.Log("sandbox", fmt.Sprintf("compared %s with the emulator in %s: %d differences", m.cfg.Name, seconds(time.Since(start)), len(found.Drift)))
	return found, nil
}

// undone returns the drift that the plan would undo.
func (s *stream) undone() []Change {
	var kept []Change
	for _, c := range s.drifted {
		if c.Action == "delete" || slices.ContainsFunc(s.planned, func(p Change) bool { return p.Address == c.Address }) {
			kept = append(kept, c)
		}
	}
	return kept
}

// meaningful asks for the values of the saved plan, names the attributes that
// differ and drops updates in which none does.
func (m *Module) meaningful(ctx context.Context, p *prepared, drift []Change, rep event.Reporter) ([]Change, error) {
	stop := report(rep, "comparing values")
	defer stop()
	plan, err := p.tf.ShowPlanFile(ctx, m.paths.plan)
	if err != nil {
		return nil, err
	}
	differs := map[string][]string{}
	for _, r := range plan.ResourceDrift {
		if r.Change != nil && r.Change.Actions.Update() {
			differs[r.Address] = differences(r.Change)
		}
	}
	var kept []Change
	for _, c := range drift {
		if c.Action == "update" {
			if c.Attributes = differs[c.Address]; len(c.Attributes) == 0 {
				continue
			}
		}
		kept = append(kept, c)
	}
	return kept, nil
}

// differences names the attributes that differ in more than how they are empty.
func differences(c *tfjson.Change) []string {
	before, ok1 := c.Before.(map[string]any)
	after, ok2 := c.After.(map[string]any)
	if !ok1 || !ok2 {
		return []string{"."}
	}
	names := map[string]bool{}
	for name := range before {
		names[name] = true
	}
	for name := range after {
		names[name] = true
	}
	var differ []string
	for _, name := range sortedKeys(names) {
		if !reflect.DeepEqual(withoutEmpty(before[name]), withoutEmpty(after[name])) {
			differ = append(differ, name)
		}
	}
	return differ
}

// withoutEmpty makes null of all that is empty, at any depth.
func withoutEmpty(v any) any {
	switch v := v.(type) {
	case string:
		if v == "" {
			return nil
		}
	case []any:
		if len(v) == 0 {
			return nil
		}
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = withoutEmpty(e)
		}
		return list
	case map[string]any:
		kept := map[string]any{}
		for k, e := range v {
			if e = withoutEmpty(e); e != nil {
				kept[k] = e
			}
		}
		if len(kept) == 0 {
			return nil
		}
		return kept
	}
	return v
}
