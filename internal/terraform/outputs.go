package terraform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
)

// Output is one output value of the root module.
type Output struct {
	// Value is what encoding/json makes of it: string, float64, bool, list,
	// map or nil.
	Value     any  `json:"value"`
	Sensitive bool `json:"sensitive,omitempty"`
}

// writeOutputs records the outputs of an apply.
func (m *Module) writeOutputs(outputs map[string]Output) error {
	if outputs == nil {
		outputs = map[string]Output{}
	}
	data, err := json.MarshalIndent(outputs, "", "  ")
	if err == nil {
		err = writeIfChanged(m.paths.outputs, data)
	}
	if err != nil {
		return fmt.Errorf("record outputs of module %q: %w", m.cfg.Name, err)
	}
	return nil
}

// Outputs returns what the last successful apply put out. It runs nothing.
func (m *Module) Outputs(ctx context.Context) (map[string]Output, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(m.paths.outputs)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.Failed, fmt.Sprintf("terraform module %s has no outputs yet", m.cfg.Name),
			"it has not been applied", "sandbox up")
	}
	if err != nil {
		return nil, fmt.Errorf("read outputs of module %q: %w", m.cfg.Name, err)
	}
	var outputs map[string]Output
	if err := json.Unmarshal(data, &outputs); err != nil {
		return nil, fmt.Errorf("read outputs of module %q: %w", m.cfg.Name, err)
	}
	return outputs, nil
}

// Health says how the module is, from what is recorded of it. It runs nothing
// and does not ask the emulator; see Drift.
func (m *Module) Health(ctx context.Context) []event.Health {
	h := event.Health{Component: m.Component()}
	if err := ctx.Err(); err != nil {
		h.State, h.Reason = event.StateStale, err.Error()
		return []event.Health{h}
	}
	rec, err := m.readRecord()
	if err != nil {
		h.State, h.Reason = event.StateFailed, err.Error()
		return []event.Health{h}
	}
	_, _, stateErr := readState(m.paths.state)
	switch {
	case !rec.Applying.IsZero():
		h.State, h.Reason, h.Since = event.StateWorking, "apply is under way, or was interrupted", rec.Applying
		h.Try = "sandbox up"
	case rec.Failure != "":
		h.State, h.Reason, h.Try = event.StateFailed, rec.Failure, "sandbox up"
	case rec.Fingerprint == "":
		h.State, h.Reason, h.Try = event.StateWaiting, "not applied yet", "sandbox up"
	case m.withoutEmulator(rec):
		h.State, h.Blames, h.Try = event.StateStale, "aws", "sandbox up"
		h.Reason = fmt.Sprintf("the emulator with its %d resources is not there", rec.Resources)
	case rec.Generation != m.cfg.Generation:
		h.State, h.Blames, h.Try = event.StateFailed, "aws", "sandbox up"
		h.Reason = fmt.Sprintf("the emulator was recreated: %d resources are lost", rec.Resources)
	case stateErr != nil:
		h.State, h.Reason, h.Try = event.StateFailed, stateErr.Error(), "sandbox up"
	default:
		h.State, h.Reason, h.Since = event.StateOK, fmt.Sprintf("%d resources", rec.Resources), rec.AppliedAt
	}
	return []event.Health{h}
}
