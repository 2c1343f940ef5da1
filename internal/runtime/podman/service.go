package podman

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/sandbox-stack/sandbox/internal/fault"
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
	cmd     *exec.Cmd
	socket  string
	dir     string // removed by close, where it is not empty
	logPath string
	done    chan struct{} // closed when the process has ended
	waitErr error         // valid after done
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
		done:    make(chan struct{}),
	}
	if err := s.start(binary); err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, binary+" info", "the Podman service could not be started")
	}
	if err := s.waitListening(ctx); err != nil {
		return nil, joinClose(err, s)
	}
	return s, nil
}

// start runs the process. It is in a process group of its own, so that Ctrl-C
// at the terminal reaches sandbox alone, which then ends its work in order; and
// the kernel ends it when this process dies without having closed it. That
// signal is bound to the thread that forks, hence the locked one that lives as
// long as the service.
func (s *service) start(binary string) error {
	log, err := os.OpenFile(s.logPath, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	s.cmd = exec.Command(binary, "system", "service", "--time=0", "unix://"+s.socket)
	s.cmd.Env = serviceEnv(os.Environ())
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.SysProcAttr = childAttr()

	started := make(chan error, 1)
	go func() {
		goruntime.LockOSThread() // not unlocked: the thread ends with the goroutine
		defer close(s.done)
		err := s.cmd.Start()
		_ = log.Close() // the child has its own descriptor
		started <- err
		if err == nil {
			s.waitErr = s.cmd.Wait()
		}
	}()
	return <-started
}

// serviceEnv drops what would make the podman command itself a remote client.
func serviceEnv(env []string) []string {
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
		case <-s.done:
			return struct{}{}, backoff.Permanent(fmt.Errorf("it ended: %w", s.waitErr))
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
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end the Podman service: %w", err)
	}
	timer := time.NewTimer(serviceStop)
	defer timer.Stop()
	select {
	case <-s.done:
		return nil
	case <-timer.C:
	}
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill the Podman service: %w", err)
	}
	<-s.done
	return nil
}

func (s *service) pid() int { return s.cmd.Process.Pid }

// joinClose closes the service after err and returns both errors.
func joinClose(err error, s *service) error { return errors.Join(err, s.close()) }

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
