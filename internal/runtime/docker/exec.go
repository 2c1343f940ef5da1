package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"

	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// execSettle bounds how long the engine may take to note an exit code after
// the command's output has ended.
const execSettle = 10 * time.Second

// Exec runs a command in the container and returns its exit code. When ctx
// ends first, the command is killed.
func (r *Runtime) Exec(ctx context.Context, id string, spec runtime.ExecSpec) (int, error) {
	code, err := r.exec(ctx, id, spec)
	if err != nil {
		return -1, fmt.Errorf("run %q in container %s: %w", strings.Join(spec.Cmd, " "), id, err)
	}
	return code, nil
}

func (r *Runtime) exec(ctx context.Context, id string, spec runtime.ExecSpec) (int, error) {
	created, err := r.api.ExecCreate(ctx, id, client.ExecCreateOptions{
		Cmd: spec.Cmd, Env: runtime.Environ(spec.Env),
		AttachStdin: spec.Stdin != nil, AttachStdout: true, AttachStderr: true,
	})
	if err != nil {
		return -1, apiError(ctx, err)
	}
	if err := r.attach(ctx, created.ID, spec); err != nil {
		if ctx.Err() != nil {
			return -1, errors.Join(ctx.Err(), r.killExec(context.WithoutCancel(ctx), created.ID))
		}
		return -1, err
	}
	return r.exitCode(ctx, created.ID)
}

// attach starts the command and copies its streams until its output ends.
func (r *Runtime) attach(ctx context.Context, id string, spec runtime.ExecSpec) error {
	stream, err := r.api.ExecAttach(ctx, id, client.ExecAttachOptions{})
	if err != nil {
		return apiError(ctx, err)
	}
	defer stream.Close()
	// Whatever blocks on the connection ends with the context.
	defer context.AfterFunc(ctx, stream.Close)()
	stdin := make(chan error, 1)
	if spec.Stdin != nil {
		go func() {
			_, err := io.Copy(stream.Conn, spec.Stdin)
			stdin <- errors.Join(err, stream.CloseWrite())
		}()
	}
	if _, err := stdcopy.StdCopy(orDiscard(spec.Stdout), orDiscard(spec.Stderr), stream.Reader); err != nil {
		return fmt.Errorf("copy the command's output: %w", err)
	}
	if spec.Stdin == nil {
		return ctx.Err()
	}
	select {
	case err := <-stdin:
		// A command may end without reading all of its input.
		if err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ENOTCONN) &&
			!errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("send stdin: %w", err)
		}
	default: // still blocked in the caller's reader; the command is done with it
	}
	return ctx.Err()
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}

// exitCode waits until the engine knows how the command ended.
func (r *Runtime) exitCode(ctx context.Context, id string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, execSettle)
	defer cancel()
	errRunning := errors.New("the engine still takes the command for running")
	return backoff.Retry(ctx, func() (int, error) {
		state, err := r.api.ExecInspect(ctx, id, client.ExecInspectOptions{})
		if err != nil {
			return -1, backoff.Permanent(fmt.Errorf("read the exit code: %w", apiError(ctx, err)))
		}
		if state.Running {
			return -1, errRunning
		}
		return state.ExitCode, nil
	}, backoff.WithBackOff(backoff.NewConstantBackOff(20*time.Millisecond)), backoff.WithMaxElapsedTime(0))
}

// killExec kills the command's process, which the API offers no way to do. It
// makes sure that the process is one of the container's: an engine in a virtual
// machine numbers other processes than this host does.
func (r *Runtime) killExec(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, execSettle)
	defer cancel()
	state, err := r.api.ExecInspect(ctx, id, client.ExecInspectOptions{})
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find the command's process: %w", apiError(ctx, err))
	}
	if !state.Running || state.PID <= 0 {
		return nil
	}
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", state.PID))
	if errors.Is(err, os.ErrNotExist) || (err == nil && !strings.Contains(string(groups), state.ContainerID)) {
		return errors.New("the command may still run: its process is not on this host")
	}
	if err != nil {
		return fmt.Errorf("find the command's process: %w", err)
	}
	process := state.PID
	if group, err := syscall.Getpgid(process); err == nil && group == process {
		process = -group // with what it has started
	}
	if err := syscall.Kill(process, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill the command: %w", err)
	}
	return nil
}
