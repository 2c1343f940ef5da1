package inject

import (
	"cmp"
	"context"
	"slices"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/stack"
)

// terraformFault tampers with a resource of a Terraform module; applying the
// module mends it.
type terraformFault struct {
	steady
	spec stack.TerraformFault
	w    World
}

// tampered is what is recorded of a terraformFault.
type tampered struct {
	Module  string `json:"module"`
	Address string `json:"address"`
	Action  string `json:"action"`
}

func newTerraform(spec stack.Inject, w World) Injector {
	f := terraformFault{w: w}
	if spec.Terraform != nil {
		f.spec = *spec.Terraform
	}
	return f
}

func (f terraformFault) Prepare(ctx context.Context) (Record, error) {
	t := tampered{Module: f.spec.Module, Address: f.spec.Resource, Action: cmp.Or(f.spec.Action, stack.TamperDelete)}
	there, err := f.w.Resources(ctx, t.Module)
	if err != nil {
		return Record{}, err
	}
	if !slices.Contains(there, t.Address) {
		return Record{}, fault.New(fault.Invalid, "the Terraform module "+t.Module+" has no resource "+t.Address,
			"it is not in its state", suggest(t.Address, there))
	}
	what := t.Action + " " + t.Address + " of the module " + t.Module
	// Applying the module mends all of it, so the whole module is the target.
	return newRecord("terraform", what, LevelStack, t, "terraform "+t.Module)
}

func (f terraformFault) Inject(ctx context.Context, rec Record) error {
	var t tampered
	if err := rec.read(&t); err != nil {
		return err
	}
	return f.w.Tamper(ctx, t.Module, t.Address, t.Action)
}

func (f terraformFault) Undo(ctx context.Context, rec Record) error {
	var t tampered
	if err := rec.read(&t); err != nil {
		return err
	}
	return f.w.Apply(ctx, t.Module)
}
