package cli

import (
	"context"
	"errors"
	"fmt"

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
	switch {
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
	return &fault.Error{
		Code: fault.Invalid, What: err.Error(), Cause: err,
		Try: command + " --help",
	}
}
