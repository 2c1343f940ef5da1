package packages

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

// command is one run of a host tool.
type command struct {
	name string
	args []string
	// env is added to the environment of this process.
	env   []string
	dir   string
	stdin io.Reader
	// stdout takes the output; nil makes it lines like those of stderr.
	stdout io.Writer
	// line, if set, sees every line instead of the log.
	line func(string)
}

// runner runs host tools. Tests replace it.
type runner interface {
	// run returns when the command has ended. Canceling ctx ends it and
	// everything it started. onLine gets each line it prints.
	run(ctx context.Context, c command, onLine func(string)) error
	// lookPath reports whether a tool is installed.
	lookPath(tool string) error
}

// stopGrace is how long a canceled tool may take to end by itself: mmdebstrap
// unmounts what it mounted, containerd closes its database.
const stopGrace = 10 * time.Second

type hostRunner struct{}

func (hostRunner) lookPath(tool string) error {
	_, err := exec.LookPath(tool)
	return err
}

func (hostRunner) run(ctx context.Context, c command, onLine func(string)) error {
	cmd := exec.CommandContext(ctx, c.name, c.args...)
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Dir = c.dir
	cmd.Stdin = c.stdin
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = stopGrace

	lines := &lineWriter{line: onLine}
	cmd.Stderr = lines
	cmd.Stdout = c.stdout
	if c.stdout == nil {
		cmd.Stdout = lines // the same writer as stderr: exec uses one pipe
	}
	err := cmd.Run()
	lines.flush()
	if errors.Is(err, exec.ErrWaitDelay) || ctx.Err() != nil {
		// Whatever outlived the grace period goes the hard way.
		if kill := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); kill != nil && !errors.Is(kill, syscall.ESRCH) {
			return fmt.Errorf("%s outlived its cancellation: %w", c.name, kill)
		}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", c.name, context.Cause(ctx))
	}
	return err
}

// lineWriter cuts what is written to it into lines.
type lineWriter struct {
	mu   sync.Mutex
	rest []byte
	line func(string)
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, p...)
	for {
		end := bytes.IndexAny(w.rest, "\n\r")
		if end < 0 {
			return len(p), nil
		}
		w.emit(w.rest[:end])
		w.rest = w.rest[end+1:]
	}
}

func (w *lineWriter) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.emit(w.rest)
	w.rest = nil
}

func (w *lineWriter) emit(line []byte) {
	if text := strings.TrimSpace(string(line)); text != "" {
		w.line(text)
	}
}

// tailLines is how many of a failed tool's last lines go into the error.
const tailLines = 20

// exec runs a tool for a task: lines go to the log, and an error holds the
// last of them.
func (b *Builder) exec(ctx context.Context, t *task, c command) error {
	var tail []string
	err := b.runner.run(ctx, c, func(line string) {
		tail = append(tail, line)
		if len(tail) > tailLines {
			tail = tail[1:]
		}
		if c.line != nil {
			c.line(line)
			return
		}
		t.log(filepath.Base(c.name), line)
	})
	if err == nil || ctx.Err() != nil {
		return err
	}
	why := err.Error()
	if len(tail) > 0 {
		why = tail[len(tail)-1]
	}
	return &fault.Error{
		Code: fault.Failed, What: fmt.Sprintf("%s: %s failed", t.title, filepath.Base(c.name)), Why: why, Log: tail, Cause: err,
		Try: "read the log above; what was finished is kept, so running it again continues from there",
	}
}

// debianPackageOf names the Debian package that has a tool.
var debianPackageOf = map[string]string{
	"go": "golang", "gcc": "gcc libc6-dev", "mmdebstrap": "mmdebstrap debian-archive-keyring", "unshare": "util-linux",
}

// needTools returns one error for all host tools that are missing.
func (b *Builder) needTools(r *Recipe, tools []string) error {
	var missing, install []string
	for _, tool := range tools {
		if b.runner.lookPath(tool) != nil {
			missing = append(missing, tool)
			install = append(install, debianPackageOf[tool])
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fault.New(fault.Unavailable,
		fmt.Sprintf("cannot build %s from packages", r.Name),
		"not installed on this host: "+strings.Join(missing, ", "),
		"apt-get install "+strings.Join(install, " "))
}
