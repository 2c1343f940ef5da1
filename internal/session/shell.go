package session

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os/exec"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/kubectl/pkg/util/term"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

// Terminal is where a command in a component reads and writes. TTY says that In
// is a terminal, which the command then has for its own.
type Terminal struct {
	In       io.Reader
	Out, Err io.Writer
	TTY      bool
}

// defaultShell is the best shell that an image has.
var defaultShell = []string{"sh", "-c", "command -v bash >/dev/null 2>&1 && exec bash || exec sh"}

// Exec runs a command in a component, or a shell where there is none: in a pod
// of a release, a ready one where there is one, or in the container of anything
// else. The error of a command that ends with another code than 0 has a method
// ExitCode.
func (s *Session) Exec(ctx context.Context, component string, command []string, t Terminal) error {
	target, err := s.target(ctx, component)
	if err != nil {
		return err
	}
	if len(command) == 0 {
		err := s.exec(ctx, target, component, defaultShell, t)
		var exit *exitError
		if errors.As(err, &exit) && (exit.code == notRunnable || exit.code == notFound) {
			return fault.Wrap(fault.Unavailable, err, "sandbox describe "+component, "the image of %s has no shell", component)
		}
		return err
	}
	return s.exec(ctx, target, component, command, t)
}

// The exit codes of engines for a command that can't be run, or isn't there.
const (
	notRunnable = 126
	notFound    = 127
)

func (s *Session) exec(ctx context.Context, target target, component string, command []string, t Terminal) error {
	switch {
	case target.release != nil:
		namespace, pod, err := target.release.Pod(ctx, target.part)
		if err != nil {
			return fault.Wrap(fault.Unavailable, err, "sandbox status", "nothing can be run in %s", component)
		}
		return s.execInPod(ctx, namespace, pod, command, t)
	case target.module != nil, target.image != nil:
		return fault.New(fault.Invalid, "nothing can be run in "+component, "nothing of it runs", "sandbox describe "+component)
	}
	return s.execInContainer(ctx, target.containers[0].Name, command, t)
}

// exitError is the end of a command with a code that is not 0.
type exitError struct {
	error
	code int
}

// ExitCode is the command's exit code.
func (e *exitError) ExitCode() int { return e.code }

func (s *Session) execInPod(ctx context.Context, namespace, pod string, command []string, t Terminal) error {
	c, err := s.cluster()
	if err != nil {
		return err
	}
	cfg, err := c.RESTConfig()
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return fault.Wrap(fault.Failed, err, "sandbox status", "no client of the cluster")
	}
	url := client.CoreV1().RESTClient().Post().Resource("pods").Namespace(namespace).Name(pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{Command: command, Stdin: true, Stdout: true, Stderr: !t.TTY, TTY: t.TTY}, scheme.ParameterCodec).URL()
	remote, err := remotecommand.NewWebSocketExecutor(cfg, http.MethodGet, url.String())
	if err != nil {
		return fault.Wrap(fault.Failed, err, "sandbox status", "no connection to pod %s", pod)
	}
	// In raw mode, and with its size passed on, the terminal is the command's.
	tty := term.TTY{In: t.In, Out: t.Out, Raw: t.TTY}
	streams := remotecommand.StreamOptions{Stdin: t.In, Stdout: t.Out, Stderr: t.Err, Tty: t.TTY}
	if t.TTY {
		streams.Stderr = nil // both go over one terminal
		streams.TerminalSizeQueue = sizes{tty.MonitorSize(tty.GetSize())}
	}
	err = tty.Safe(func() error { return remote.StreamWithContext(ctx, streams) })
	var exit interface{ ExitStatus() int }
	if errors.As(err, &exit) {
		return &exitError{err, exit.ExitStatus()}
	}
	if err != nil {
		return fault.Wrap(fault.Failed, err, "sandbox describe of the pod", "the command did not run in pod %s", pod)
	}
	return nil
}

// sizes passes the sizes of a terminal on.
type sizes struct{ term.TerminalSizeQueue }

// Next waits for the next size; nil ends it.
func (q sizes) Next() *remotecommand.TerminalSize {
	size := q.TerminalSizeQueue.Next()
	if size == nil {
		return nil
	}
	return &remotecommand.TerminalSize{Width: size.Width, Height: size.Height}
}

// execInContainer leaves the terminal to the engine's own command: it is there
// wherever the engine is, and knows how to pass one on.
func (s *Session) execInContainer(ctx context.Context, name string, command []string, t Terminal) error {
	argv := []string{"exec", "--interactive"}
	if t.TTY {
		argv = append(argv, "--tty")
	}
	argv = append(append(argv, name), command...)
	cmd := exec.CommandContext(ctx, s.info.Engine, argv...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = t.In, t.Out, t.Err
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return &exitError{err, exit.ExitCode()}
	}
	if err != nil {
		return fault.Wrap(fault.Failed, err, "check that "+s.info.Engine+" is on the PATH", "the command did not run in %s", name)
	}
	return nil
}
