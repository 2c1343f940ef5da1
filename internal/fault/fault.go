// Package fault is the error that a user reads: what happened, why, and the
// command to try next. It imports the standard library only.
package fault

import (
	"errors"
	"fmt"
	"strings"
)

// Code classifies an error for machines. It appears in JSON output and
// decides the exit code; it never changes its meaning.
type Code string

// The codes.
const (
	// Invalid: the input is wrong; nothing was created. Exit 2.
	Invalid Code = "invalid"
	// Failed: a step failed. Exit 1.
	Failed Code = "failed"
	// Unavailable: something needed is not there (engine, tool, image). Exit 1.
	Unavailable Code = "unavailable"
	// Conflict: something that is not ours is in the way. Exit 1.
	Conflict Code = "conflict"
	// Locked: another sandbox process works on the same sandbox. Exit 1.
	Locked Code = "locked"
	// Unhealthy: a check found something that is not ok. Exit 5.
	Unhealthy Code = "unhealthy"
	// Confirm: the command needs --yes. Exit 3.
	Confirm Code = "confirm"
	// Timeout: the time given ran out. Exit 124.
	Timeout Code = "timeout"
	// Wrapper: sandbox itself failed around the user's command. Exit 125.
	Wrapper Code = "wrapper"
	// Interrupted: the user stopped the run. Exit 130.
	Interrupted Code = "interrupted"
)

// Error is an error for people: three lines.
type Error struct {
	Code Code
	// Pos is "file:line:col" where the error is in a file of the user's.
	Pos string
	// What happened, in one line.
	What string
	// Why it happened, or the rule that was broken.
	Why string
	// Try is the command, or the change, that helps.
	Try string
	// Log holds the last lines of the tool that failed.
	Log []string
	// Cause is the underlying error, for errors.Is and errors.As.
	Cause error
}

// Error returns the three lines without the log.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Pos != "" {
		b.WriteString(e.Pos + ": ")
	}
	b.WriteString(e.What)
	if why := e.Reason(); why != "" {
		b.WriteString("\n  " + why)
	}
	if e.Try != "" {
		b.WriteString("\n  Try: " + e.Try)
	}
	return b.String()
}

// Reason is Why, or the cause's text where Why is empty.
func (e *Error) Reason() string {
	if e.Why != "" || e.Cause == nil {
		return e.Why
	}
	return e.Cause.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// New returns an error of the code with what happened, why, and what to try.
func New(code Code, what, why, try string) *Error {
	return &Error{Code: code, What: what, Why: why, Try: try}
}

// Wrap returns an error that says what happened and what to try; the reason
// is the cause's own text.
func Wrap(code Code, cause error, try, format string, args ...any) *Error {
	return &Error{Code: code, What: fmt.Sprintf(format, args...), Try: try, Cause: cause}
}

// CodeOf returns the code of the first Error in err's chain, or Failed.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return Failed
}
