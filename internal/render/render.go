// Package render turns the event stream, and what it amounts to, into output.
//
// A Sink draws a run as it happens: TTY for people at a terminal, Plain for
// logs, GitHub for its Actions, Accessible for screen readers, JSON for
// programs, Quiet for those who want to hear of trouble only, and JUnit for
// whoever collects test reports. WriteStatus draws the state of a sandbox,
// WriteProblem an error. The package imports event only: what is not in the
// stream can't be drawn, and a recorded stream is drawn as the live one was
// (Replay).
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
	// ModeAuto is a choice that Choose makes; New does not take it.
	ModeAuto       Mode = "auto"
	ModeTTY        Mode = "tty"
	ModePlain      Mode = "plain"
	ModeGitHub     Mode = "github"
	ModeAccessible Mode = "accessible"
	ModeJSON       Mode = "json"
	ModeQuiet      Mode = "quiet"
)

// Modes lists the modes that New takes.
var Modes = []Mode{ModeTTY, ModePlain, ModeGitHub, ModeAccessible, ModeJSON, ModeQuiet}

// Choose turns ModeAuto into the mode that suits where the output goes, and
// returns any other mode as it is. isTerminal is about the stream that would
// be drawn on, and only that one.
//
// A CI system's log is no place for redraws even where it comes by way of a
// pseudo-terminal, so CI (set to anything but "false") counts as none.
func Choose(mode Mode, isTerminal bool, getenv func(string) string) Mode {
	switch {
	case mode != ModeAuto:
		return mode
	case set(getenv("ACCESSIBLE")):
		return ModeAccessible
	case getenv("GITHUB_ACTIONS") == "true":
		return ModeGitHub
	case !isTerminal, set(getenv("CI")), getenv("TERM") == "", getenv("TERM") == "dumb":
		return ModePlain
	default:
		return ModeTTY
	}
}

// set says whether the value of a variable switches something on.
func set(value string) bool { return value != "" && value != "0" && value != "false" }

// Stdout says whether the mode belongs on standard output. The commands of a
// GitHub workflow are read from there; progress goes to standard error.
func (m Mode) Stdout() bool { return m == ModeGitHub }

// New returns a sink that draws in the mode on w, with the mode's defaults.
func New(mode Mode, w io.Writer, style Style) (Sink, error) {
	switch mode {
	case ModeTTY:
		return NewTTY(w, style, TTYOptions{}), nil
	case ModePlain:
		return NewPlain(w, style), nil
	case ModeGitHub:
		return NewGitHub(w, style), nil
	case ModeAccessible:
		return NewAccessible(w), nil
	case ModeJSON:
		return NewJSON(w), nil
	case ModeQuiet:
		return NewQuiet(w, style), nil
	default:
		return nil, fmt.Errorf("unknown progress mode %q: one of %v", mode, Modes)
	}
}
