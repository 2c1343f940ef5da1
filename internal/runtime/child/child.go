// Package child runs processes that end with this one.
package child

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	goruntime "runtime"
	"syscall"
	"time"
)

// Process is a process that ends with this one.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// PID is its number.
func (c *Process) PID() int { return c.cmd.Process.Pid }

// Done is closed when the process has ended.
func (c *Process) Done() <-chan struct{} { return c.done }

// Err is how it ended; valid after Done.
func (c *Process) Err() error { return c.err }

// Start starts the command in a process group of its own, so that Ctrl-C
// at the terminal reaches sandbox alone, which then ends its work in order. The
// kernel ends the child when this process dies without having ended it. That
// signal is bound to the thread that forks, hence the locked thread, which
// lives as long as the child.
func Start(cmd *exec.Cmd) (*Process, error) {
	cmd.SysProcAttr = attr()
	c := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		goruntime.LockOSThread() // not unlocked: the thread ends with the goroutine
		defer close(c.done)
		err := cmd.Start()
		started <- err
		if err == nil {
			c.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return c, nil
}

// Stop asks the process to end and kills it, with what it has started, when it
// does not within grace.
func (c *Process) Stop(grace time.Duration) error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end %s: %w", c.cmd.Path, err)
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-c.done:
		return nil
	case <-timer.C:
	}
	if err := syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill %s: %w", c.cmd.Path, err)
	}
	<-c.done
	return nil
}
