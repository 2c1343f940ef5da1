package cli

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/spf13/cobra"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

// The exit codes, the only place where they are given out. Scripts rely on
// them: a code never changes its meaning.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitConfirm     = 3
	exitUnhealthy   = 5
	exitTimeout     = 124
	exitWrapper     = 125
	exitInterrupted = 130
)

// commandExit is the exit code of a command that sandbox ran for the user. It
// is passed on as it is and nothing is printed about it.
type commandExit int

func (e commandExit) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// exitCode returns the exit code for an error.
func exitCode(err error) int {
	if err == nil {
		return exitOK
	}
	var ran commandExit
	if errors.As(err, &ran) {
		return int(ran)
	}
	if errors.Is(err, errInterrupted) { // whatever else has failed before
		return exitInterrupted
	}
	// A fault knows what it is: the deadline that a step's own probe ran into is
	// not the one that the user gave.
	var known *fault.Error
	switch {
	case errors.As(err, &known):
	case errors.Is(err, context.DeadlineExceeded):
		return exitTimeout
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	switch fault.CodeOf(err) {
	case fault.Invalid:
		return exitUsage
	case fault.Confirm:
		return exitConfirm
	case fault.Unhealthy:
		return exitUnhealthy
	case fault.Timeout:
		return exitTimeout
	case fault.Wrapper:
		return exitWrapper
	case fault.Interrupted:
		return exitInterrupted
	default:
		return exitFailed
	}
}

// usageError is a wrong call of the program: exit 2, as for invalid input.
func usageError(err error, command string) error {
	return fault.New(fault.Invalid, err.Error(), "", command+" --help")
}

// negative refuses a number below 0 for the flag.
func negative(cmd *cobra.Command, flag string) error {
	return usageError(fmt.Errorf("--%s can't be negative", flag), cmd.CommandPath())
}

// unsaid returns what of err nobody has been told yet, in its order: what was
// joined is told one by one.
func unsaid(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok && reflect.TypeOf(err) == joinType {
		var list []error
		for _, child := range joined.Unwrap() {
			list = append(list, unsaid(child)...)
		}
		return list
	}
	var ran commandExit
	var said *reported
	if err == nil || errors.As(err, &ran) || errors.As(err, &said) {
		return nil
	}
	return []error{err}
}

// joinType tells what errors.Join has joined from an error whose text is more
// than that of its parts.
var joinType = reflect.TypeOf(errors.Join(errors.New("")))
