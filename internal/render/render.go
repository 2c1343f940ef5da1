// Package render turns the event stream, and what it amounts to, into output.
//
// A Sink draws a run as it happens: Plain for people and logs, JSON for
// programs, Quiet for those who want to hear of trouble only. WriteStatus draws
// the state of a sandbox, WriteProblem an error. The package imports event
// only: what is not in the stream can't be drawn, and a recorded stream is
// drawn exactly as the live one was.
package render

import (
	"fmt"
	"io"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// Sink draws a run. Handle is called with one envelope at a time, in order;
// Close ends the drawing and returns the first error of writing it.
type Sink interface {
	Handle(event.Envelope) error
	Close() error
}

// Mode is a way to draw a run.
type Mode string

// The modes.
const (
	ModePlain Mode = "plain"
	ModeJSON  Mode = "json"
	ModeQuiet Mode = "quiet"
)

// Modes lists the modes, for help and for completion.
var Modes = []Mode{ModePlain, ModeJSON, ModeQuiet}

// New returns a sink that draws in the mode on w.
func New(mode Mode, w io.Writer, style Style) (Sink, error) {
	switch mode {
	case ModePlain:
		return NewPlain(w, style), nil
	case ModeJSON:
		return NewJSON(w), nil
	case ModeQuiet:
		return NewQuiet(w, style), nil
	default:
		return nil, fmt.Errorf("unknown progress mode %q: one of %v", mode, Modes)
	}
}
