package inject

import (
	"context"
	"encoding/json"

	"github.com/sandbox-stack/sandbox/internal/stack"
)

// cut cuts the network of a component or of pods, which are done in different
// ways: the record says which it was.
type cut struct {
	spec *stack.CutFault
	w    World
}

func newCut(spec stack.Inject, w World) Injector { return &cut{spec.Cut, w} }

// Prepare finds what is to be cut off.
func (c *cut) Prepare(ctx context.Context) (Record, error) {
	if c.spec.Selector == "" {
		return c.component(c.spec).Prepare(ctx)
	}
	return c.pods(c.spec).Prepare(ctx)
}

// Inject cuts it off.
func (c *cut) Inject(ctx context.Context, rec Record) error { return c.of(rec).Inject(ctx, rec) }

// Sustain keeps it cut off.
func (c *cut) Sustain(ctx context.Context, rec Record) error { return c.of(rec).Sustain(ctx, rec) }

// Undo connects it again.
func (c *cut) Undo(ctx context.Context, rec Record) error { return c.of(rec).Undo(ctx, rec) }

// of returns what has made the record.
func (c *cut) of(rec Record) Injector {
	var data podSet
	if json.Unmarshal(rec.Data, &data) == nil && data.Selector != "" {
		return c.pods(c.spec)
	}
	return c.component(c.spec)
}

func (c *cut) pods(spec *stack.CutFault) Injector      { return &cutPods{spec, c.w} }
func (c *cut) component(spec *stack.CutFault) Injector { return newCutComponent(spec, c.w) }
