package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// A run on a terminal can be left to go on by itself: esc gives the prompt back.
// The shell waits for the process that it has started, so that one only looks
// after another, which does the work on the same terminal and, when it is left,
// takes itself out of the terminal's session.

// leaveVariable tells the process that works which descriptor to write to when
// it is left.
const leaveVariable = "SANDBOX_LEAVE_FD"

// supervised says whether another process of this program waits for this one.
func (a *app) supervised() bool { return a.leaveFD > 0 }

// takeLeaveFD returns the descriptor to write to when this process is left, or 0,
// and keeps it from what this process starts.
func takeLeaveFD() int {
	fd, err := strconv.Atoi(os.Getenv(leaveVariable))
	if err != nil || os.Unsetenv(leaveVariable) != nil {
		return 0
	}
	closeOnExec(fd)
	return fd
}

// supervise runs this command line in a process of its own, until that ends or
// is left.
func (a *app) supervise() error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start the run: %w", err)
	}
	defer r.Close()
	child := exec.Command(self, a.args...)
	child.Stdin, child.Stdout, child.Stderr = a.In, a.Out, a.Err
	child.ExtraFiles = []*os.File{w} // descriptor 3
	child.Env = append(os.Environ(), leaveVariable+"=3")
	left := make(chan struct{})
	err = a.runChild(child, func() {
		_ = w.Close() // the child has its own
		go func() {
			if n, _ := r.Read(make([]byte, 1)); n == 1 { // else the child has ended
				close(left)
			}
		}()
	}, left)
	var exit *exec.ExitError
	switch {
	case errors.Is(err, errLeft):
		_, err = fmt.Fprintln(a.Err, strings.TrimSpace(`
the run goes on in the background; `+"`sandbox`"+` shows it, `+"`sandbox status`"+` says how it ended`))
		return err
	case errors.As(err, &exit):
		return exitOf(exit)
	case err != nil:
		return fmt.Errorf("run %s: %w", self, err)
	}
	return nil
}

// leave lets the run go on without this terminal.
func (a *app) leave() {
	tty := a.tty.Load()
	if tty == nil || !a.supervised() {
		return // nobody waits who could end instead
	}
	if err := newSession(); err != nil {
		a.notice("the run can't be left: " + err.Error())
		return
	}
	tty.Leave()
	a.Out, a.Err = io.Discard, io.Discard
	// From here on nobody can be told; status shows what becomes of the run.
	pipe := os.NewFile(uintptr(a.leaveFD), "leave")
	_, _ = pipe.Write([]byte{1})
	_ = pipe.Close()
}
