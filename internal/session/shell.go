package session

import (
	"context"
	"errors"
	"io"
	"os/exec"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	kubectl "k8s.io/kubectl/pkg/cmd/exec"

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
		return s.execInPod(namespace, pod, command, t)
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

func (s *Session) execInPod(namespace, pod string, command []string, t Terminal) error {
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
	// As kubectl does: the request below is one of the core group.
	cfg.GroupVersion, cfg.APIPath = &corev1.SchemeGroupVersion, "/api"
	cfg.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	opt := kubectl.ExecOptions{
		StreamOptions: kubectl.StreamOptions{
			Namespace: namespace, PodName: pod, Stdin: true, TTY: t.TTY, Quiet: true,
			IOStreams: genericiooptions.IOStreams{In: t.In, Out: t.Out, ErrOut: t.Err},
		},
		Command: command, Config: cfg, PodClient: client.CoreV1(), Executor: &kubectl.DefaultRemoteExecutor{},
	}
	err = opt.Run()
	var exit interface{ ExitStatus() int }
	if errors.As(err, &exit) {
		return &exitError{err, exit.ExitStatus()}
	}
	if err != nil {
		return fault.Wrap(fault.Failed, err, "sandbox describe of the pod", "the command did not run in pod %s", pod)
	}
	return nil
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
