package podman

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// apiPath is the version of the API that exec sessions are started with, the
// oldest supported.
const apiPath = "/v4.0.0/libpod"

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
	session, err := r.createExec(ctx, id, spec)
	if err != nil {
		return -1, err
	}
	if err := r.attachExec(ctx, session, spec); err != nil {
		if ctx.Err() != nil {
			return -1, errors.Join(ctx.Err(), r.killExec(context.WithoutCancel(ctx), session))
		}
		return -1, err
	}
	return r.exitCode(ctx, session)
}

func (r *Runtime) createExec(ctx context.Context, id string, spec runtime.ExecSpec) (string, error) {
	config := map[string]any{
		"Cmd":          spec.Cmd,
		"AttachStdin":  spec.Stdin != nil,
		"AttachStdout": true,
		"AttachStderr": true,
	}
	if len(spec.Env) > 0 {
		config["Env"] = runtime.Environ(spec.Env)
	}
	body, err := jsonBody(config)
	if err != nil {
		return "", err
	}
	var created struct {
		ID string `json:"Id"`
	}
	q := request{method: http.MethodPost, path: "/containers/%s/exec", args: []string{id}, body: body}
	if err := r.call(ctx, q, &created); err != nil {
		return "", err
	}
	return created.ID, nil
}

// attachExec starts the session and copies its streams until its output ends.
//
// The connection is this function's own: it turns from HTTP into a raw stream,
// of which the sending half is closed at the end of stdin. (The bindings do
// this by exchanging the shared client's transport, which concurrent calls
// don't survive.)
func (r *Runtime) attachExec(ctx context.Context, session string, spec runtime.ExecSpec) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", r.socket)
	if err != nil {
		return fmt.Errorf("connect to Podman: %w", err)
	}
	defer func() { _ = conn.Close() }()
	// Whatever blocks on the connection ends with the context.
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()

	stream, err := upgrade(ctx, conn, apiPath+"/exec/"+url.PathEscape(session)+"/start")
	if err != nil {
		return err
	}
	stdin := make(chan error, 1)
	if spec.Stdin != nil {
		go func() {
			_, err := io.Copy(conn, spec.Stdin)
			stdin <- errors.Join(err, conn.(*net.UnixConn).CloseWrite())
		}()
	}
	if err := demux(stream, spec.Stdout, spec.Stderr); err != nil {
		return err
	}
	if spec.Stdin == nil {
		return ctx.Err()
	}
	select {
	case err := <-stdin:
		// A command may end without reading all of its input.
		if err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ENOTCONN) && !errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("send stdin: %w", err)
		}
	default: // still blocked in the caller's reader; the command is done with it
	}
	return ctx.Err()
}

// upgrade asks the service to turn the connection into the raw stream of path.
func upgrade(ctx context.Context, conn net.Conn, path string) (io.Reader, error) {
	body, err := json.Marshal(map[string]any{"Detach": false, "Tty": false})
	if err != nil {
		return nil, fmt.Errorf("render the request: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://d"+path, strings.NewReader(string(body)))
	if err != nil {
		return nil, fmt.Errorf("render the request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "tcp")
	if err := req.Write(conn); err != nil {
		return nil, fmt.Errorf("send the request: %w", err)
	}
	reader := bufio.NewReader(conn)
	resp, err := http.ReadResponse(reader, req)
	if err != nil {
		return nil, fmt.Errorf("read Podman's answer: %w", err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer func() { _ = resp.Body.Close() }()
		var problem struct {
			Message string `json:"message"`
		}
		if err := json.NewDecoder(resp.Body).Decode(&problem); err != nil {
			return nil, fmt.Errorf("start the command: %s", resp.Status)
		}
		return nil, fmt.Errorf("start the command: %s", problem.Message)
	}
	return reader, nil
}

// session is the state of an exec session.
type session struct {
	Running  bool `json:"Running"`
	ExitCode int  `json:"ExitCode"`
	PID      int  `json:"Pid"`
}

// exitCode waits until the engine knows how the session ended.
func (r *Runtime) exitCode(ctx context.Context, id string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, execSettle)
	defer cancel()
	errRunning := errors.New("the engine still takes the command for running")
	return backoff.Retry(ctx, func() (int, error) {
		var s session
		if err := r.get(ctx, "/exec/%s/json", nil, &s, id); err != nil {
			return -1, backoff.Permanent(fmt.Errorf("read the exit code: %w", err))
		}
		if s.Running {
			return -1, errRunning
		}
		return s.ExitCode, nil
	}, backoff.WithBackOff(backoff.NewConstantBackOff(20*time.Millisecond)), backoff.WithMaxElapsedTime(0))
}

// killExec kills the session's process, which runs on this host.
func (r *Runtime) killExec(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, execSettle)
	defer cancel()
	var s session
	if err := r.get(ctx, "/exec/%s/json", nil, &s, id); err != nil {
		if errors.Is(err, runtime.ErrNotFound) {
			return nil
		}
		return fmt.Errorf("find the command's process: %w", err)
	}
	if !s.Running || s.PID <= 0 {
		return nil
	}
	process := s.PID
	if group, err := syscall.Getpgid(process); err == nil && group == process {
		process = -group // with what it has started
	}
	if err := syscall.Kill(process, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill the command: %w", err)
	}
	return nil
}
