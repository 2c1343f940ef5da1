package terraform

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	tfjson "github.com/hashicorp/terraform-json"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

// ErrLeftovers is in the chain of an apply's error when resources exist in the
// emulator that the state does not know: an earlier apply was killed between
// creating and recording them. Only a fresh emulator helps.
var ErrLeftovers = errors.New("the emulator holds resources that the state does not know")

// failure turns a failed run of the tool into a fault: the first error with
// its place in the user's file, the others in the log.
func (m *Module) failure(command string, t Tool, s *stream, err error, kept string) error {
	e := fault.Wrap(fault.Failed, err, resume(kept), "%s %s of %s failed", t.Name, command, m.cfg.Name)
	e.Log = s.tail
	if len(s.diags) == 0 {
		return e
	}
	first := s.diags[0]
	e.What += ": " + headline(first)
	if more := len(s.diags) - 1; more > 0 {
		e.What += fmt.Sprintf(" (and %d more)", more)
	}
	e.Why = reason(first)
	e.Pos = m.diagnosticPosition(first)
	var log []string
	for _, d := range s.diags[1:] {
		line := "Error: " + headline(d) + ": " + reason(d)
		if pos := m.diagnosticPosition(d); pos != "" {
			line = pos + ": " + line
		}
		log = append(log, line)
	}
	e.Log = append(log, e.Log...)
	switch {
	case m.unreachable(s.diags):
		e.Code, e.Try = fault.Unavailable, "sandbox status shows how the emulator is; sandbox up continues"
	case leftovers(s.diags):
		e.Cause = errors.Join(ErrLeftovers, err)
		e.Try = "sandbox down, then sandbox up: an earlier run was killed before it could record what it created"
	}
	return e
}

// resume is what to do after a failure that kept some of the work.
func resume(kept string) string {
	try := "correct it, then sandbox up continues"
	if kept != "" {
		try += " (" + kept + ")"
	}
	return try
}

// interrupted is the fault of a run that was stopped.
func (m *Module) interrupted(ctx context.Context, command string, t Tool, kept string) error {
	code, how := fault.Interrupted, "was interrupted"
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code, how = fault.Timeout, "took too long and was stopped"
	}
	e := fault.Wrap(code, ctx.Err(), "sandbox up continues", "%s %s of %s %s", t.Name, command, m.cfg.Name, how)
	e.Why = kept
	return e
}

// headline names the resource and the tool's summary.
func headline(d tfjson.Diagnostic) string {
	text := oneLine(d.Summary)
	if d.Address != "" && !strings.Contains(text, d.Address) {
		text = d.Address + ": " + text
	}
	return text
}

func reason(d tfjson.Diagnostic) string { return oneLine(d.Detail) }

// oneLine joins the lines that the tool breaks its texts into.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

func (m *Module) diagnosticPosition(d tfjson.Diagnostic) string {
	if d.Range == nil || d.Range.Filename == "" {
		return ""
	}
	return fmt.Sprintf("%s:%d:%d", m.sourcePath(d.Range.Filename), d.Range.Start.Line, d.Range.Start.Column)
}

// unreachable reports whether the emulator did not answer.
func (m *Module) unreachable(diags []tfjson.Diagnostic) bool {
	u, err := url.Parse(m.cfg.Endpoint)
	if err != nil {
		return false
	}
	return anyDiagnostic(diags, func(text string) bool {
		return strings.Contains(text, u.Host) &&
			(strings.Contains(text, "connection refused") || strings.Contains(text, "connection reset") ||
				strings.Contains(text, "no such host") || strings.Contains(text, "i/o timeout"))
	})
}

// leftovers reports whether something to be created was there already.
func leftovers(diags []tfjson.Diagnostic) bool {
	return anyDiagnostic(diags, func(text string) bool {
		for _, code := range []string{
			"EntityAlreadyExists", "ResourceExistsException", "AlreadyExistsException", "ResourceInUseException",
			"BucketAlreadyExists", "BucketAlreadyOwnedByYou", "ParameterAlreadyExists", "QueueAlreadyExists", "already exists",
		} {
			if strings.Contains(text, code) {
				return true
			}
		}
		return false
	})
}

func anyDiagnostic(diags []tfjson.Diagnostic, match func(text string) bool) bool {
	for _, d := range diags {
		if match(d.Summary + " " + d.Detail) {
			return true
		}
	}
	return false
}
