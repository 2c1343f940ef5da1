package podman

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime/child"
)

const (
	// serviceStart bounds how long the service may take to listen.
	serviceStart = 20 * time.Second
	// serviceStop bounds how long it may take to end when asked to.
	serviceStop = 5 * time.Second
	// maxSocketPath is what fits into a sockaddr_un on every system.
	maxSocketPath = 103
)

// service is a "podman system service" that this process started.
type service struct {
	*child.Process
	socket  string
	dir     string // removed by close, where it is not empty
	logPath string
}

// startService starts a service with a private socket and waits until it
// listens.
func startService(ctx context.Context, binary, stateDir string) (*service, error) {
	socket, dir, err := privateSocket(stateDir)
	if err != nil {
		return nil, err
	}
	s := &service{
		socket:  socket,
		dir:     dir,
		logPath: filepath.Join(stateDir, "podman-service.log"),
	}
	if err := s.start(binary); err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, binary+" info", "the Podman service could not be started")
	}
	if err := s.waitListening(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// start runs the process.
func (s *service) start(binary string) error {
	log, err := os.OpenFile(s.logPath, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	cmd := exec.Command(binary, "system", "service", "--time=0", "unix://"+s.socket)
	cmd.Env = localEnv(os.Environ())
	// Containers' monitors inherit the folder, and write a file named "oom" into
	// it when a container is killed for its memory.
	cmd.Dir = filepath.Dir(s.logPath)
	cmd.Stdout, cmd.Stderr = log, log
	s.Process, err = child.Start(cmd)
	return errors.Join(err, log.Close()) // the child has a descriptor of its own
}

// localEnv drops what would make the podman command a remote client.
func localEnv(env []string) []string {
	kept := make([]string, 0, len(env))
	for _, v := range env {
		if !strings.HasPrefix(v, "CONTAINER_HOST=") && !strings.HasPrefix(v, "CONTAINER_CONNECTION=") {
			kept = append(kept, v)
		}
	}
	return kept
}

// waitListening waits until the socket answers, the process ends or the time
// is up.
func (s *service) waitListening(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, serviceStart)
	defer cancel()
	interval := backoff.NewConstantBackOff(20 * time.Millisecond)
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		select {
		case <-s.Done():
			return struct{}{}, backoff.Permanent(fmt.Errorf("it ended: %w", s.Err()))
		default:
		}
		// A plain stat first: the bindings would retry for 0.6 s.
		if _, err := os.Stat(s.socket); err != nil {
			return struct{}{}, err
		}
		_, _, err := dial(ctx, s.socket)
		return struct{}{}, err
	}, backoff.WithBackOff(interval), backoff.WithMaxElapsedTime(0))
	if err == nil {
		return nil
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	return &fault.Error{
		Code:  fault.Unavailable,
		What:  "the Podman service did not start",
		Try:   "podman info",
		Log:   lastLines(s.logPath, 10),
		Cause: err,
	}
}

// close asks the service to end, and kills it when it does not.
func (s *service) close() error {
	defer func() {
		_ = os.Remove(s.socket) // Podman removes it itself, unless it was killed
		if s.dir != "" {
			_ = os.RemoveAll(s.dir)
		}
	}()
	return s.Stop(serviceStop)
}

// socketSeq tells the sockets of one process apart.
var socketSeq atomic.Int64

// privateSocket returns a path for the service's socket, unique to this
// process, and the directory to remove afterwards. It lies in the state
// directory unless that makes it too long for a socket address.
func privateSocket(stateDir string) (socket, dir string, err error) {
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return "", "", fmt.Errorf("create the state directory: %w", err)
	}
	if err := removeStaleSockets(stateDir); err != nil {
		return "", "", err
	}
	socket = filepath.Join(stateDir, fmt.Sprintf("podman-%d-%d.sock", os.Getpid(), socketSeq.Add(1)))
	if len(socket) <= maxSocketPath {
		return socket, "", nil
	}
	base := os.Getenv("XDG_RUNTIME_DIR")
	if base == "" || len(base) > maxSocketPath-40 {
		base = "/tmp"
	}
	dir, err = os.MkdirTemp(base, "sandbox-")
	if err != nil {
		return "", "", fmt.Errorf("create a directory for the socket: %w", err)
	}
	return filepath.Join(dir, "podman.sock"), dir, nil
}

// removeStaleSockets removes the sockets of processes that were killed before
// they could do it.
func removeStaleSockets(stateDir string) error {
	sockets, err := filepath.Glob(filepath.Join(stateDir, "podman-*.sock"))
	if err != nil {
		return fmt.Errorf("list old sockets: %w", err)
	}
	for _, path := range sockets {
		var pid, seq int
		if _, err := fmt.Sscanf(filepath.Base(path), "podman-%d-%d.sock", &pid, &seq); err != nil {
			continue // not ours
		}
		if !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			continue // its process lives
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("remove an old socket: %w", err)
		}
	}
	return nil
}

// lastLines returns the last n non-empty lines of a small log file.
func lastLines(path string, n int) []string {
	text, err := os.ReadFile(path)
	if err != nil {
		return []string{err.Error()}
	}
	lines := strings.FieldsFunc(string(text), func(r rune) bool { return r == '\n' || r == '\r' })
	return lines[max(0, len(lines)-n):]
}
