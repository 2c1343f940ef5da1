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

// Drift compares the state with what the emulator holds and returns the
// differences, without changing either. An attribute that was empty in one way
// and is empty in another, as most are after the first refresh, is none.
func (m *Module) Drift(ctx context.Context, rep event.Reporter) ([]Change, error) {
	p, err := m.prepare(ctx, rep, false)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	s, err := m.run(ctx, p, rep, "comparing", func(s *stream) error {
		_, err := p.tf.PlanJSON(ctx, s, tfexec.VarFile(m.paths.vars), tfexec.RefreshOnly(true), tfexec.Out(m.paths.plan))
		return err
	})
	drift := s.drifted
	if err == nil && slices.ContainsFunc(drift, func(c Change) bool { return c.Action == "update" }) {
		drift, err = m.meaningful(ctx, p, drift, rep)
	}
	// The plan holds values of sensitive variables.
	if dropErr := os.Remove(m.paths.plan); dropErr != nil && !errors.Is(dropErr, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove saved plan of module %q: %w", m.cfg.Name, dropErr)
	}
	if ctx.Err() != nil {
		return nil, m.interrupted(ctx, "plan -refresh-only", p.tool, "nothing was changed")
	}
	if err != nil {
		return nil, m.failure("plan -refresh-only", p.tool, s, err, "")
	}
	rep.Log("sandbox", fmt.Sprintf("compared %s with the emulator in %s: %d differences", m.cfg.Name, seconds(time.Since(start)), len(drift)))
	return drift, nil
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
