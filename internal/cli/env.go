package cli

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"al.essio.dev/pkg/shellescape"
	"github.com/charmbracelet/x/term"
	"github.com/spf13/cobra"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/session"
)

func (a *app) envCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "env",
		Short: "Print the environment that other tools need to use the sandbox",
		Long: `Prints KUBECONFIG, AWS_ENDPOINT_URL, dummy AWS keys and the URLs of the
components, as shell exports. None of it reaches your own kubeconfig or AWS account.`,
		Example: `  eval "$(sandbox env)"
  sandbox env -o json`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			vars, err := session.Env(a.name)
			if err != nil {
				return err
			}
			if a.output != "table" {
				m := map[string]string{}
				for _, v := range vars {
					m[v.Name] = v.Value
				}
				return a.data(m)
			}
			for _, v := range vars {
				if _, err := fmt.Fprintf(a.Out, "export %s=%s\n", v.Name, shellescape.Quote(v.Value)); err != nil {
					return fmt.Errorf("write: %w", err)
				}
			}
			return nil
		},
	}
}

func (a *app) execCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "exec -- COMMAND [ARG...]",
		Short: "Run a command with the environment of the sandbox",
		Long: `Runs a command of this machine with what "sandbox env" prints in its
environment. Its exit code is passed on; 125 means that sandbox itself failed.`,
		Example: `  sandbox exec -- kubectl get pods -A
  sandbox exec -- aws s3 ls`,
		Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, argv []string) error {
			vars, err := session.Env(a.name)
			if err != nil {
				return wrapper(err)
			}
			child := exec.Command(argv[0], argv[1:]...)
			child.Stdin, child.Stdout, child.Stderr = a.In, a.Out, a.Err
			child.Env = merge(os.Environ(), vars)
			err = a.runChild(child, nil, nil)
			var exit *exec.ExitError
			switch {
			case err == nil:
				return nil
			case errors.As(err, &exit):
				return exitOf(exit)
			default:
				return wrapper(fault.Wrap(fault.Wrapper, err, "check that it is installed and on the PATH", "can't run %s", argv[0]))
			}
		},
	}
	cmd.Flags().SetInterspersed(false) // what follows the command belongs to it
	return cmd
}

// exitOf is the end of a command with its own exit code or, as shells have it,
// that of the signal that has ended it.
func exitOf(exit *exec.ExitError) commandExit {
	if exit.Exited() {
		return commandExit(exit.ExitCode())
	}
	return commandExit(128 + int(exit.Sys().(syscall.WaitStatus).Signal()))
}

// errLeft says that a child goes on, but not as this process's business.
var errLeft = errors.New("the child was left")

// runChild runs the child to its end, or until left is closed; started, which
// may be nil, is called in between. Signals are the child's business: those
// sent to this process are passed on, except what a terminal has sent to the
// child as well.
func (a *app) runChild(child *exec.Cmd, started func(), left <-chan struct{}) error {
	a.releaseSignals()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	if err := child.Start(); err != nil {
		return err
	}
	if started != nil {
		started()
	}
	in, ok := a.In.(*os.File)
	onTerminal := ok && term.IsTerminal(in.Fd())
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	for {
		select {
		case err := <-ended:
			return err
		case <-left:
			return errLeft
		case sig := <-signals:
			if onTerminal && (sig == os.Interrupt || sig == syscall.SIGQUIT) {
				continue
			}
			if err := child.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return err
			}
		}
	}
}

// wrapper gives an error the exit code that tells it from the command's own.
func wrapper(err error) error {
	var f *fault.Error
	if errors.As(err, &f) {
		g := *f
		g.Code = fault.Wrapper
		return &g
	}
	return fault.Wrap(fault.Wrapper, err, "", "sandbox exec failed")
}

// merge returns the environment with vars set, and without AWS settings of the
// user's that would lead a tool past the emulator.
func merge(environ []string, vars []session.Var) []string {
	set := map[string]bool{}
	for _, v := range vars {
		set[v.Name] = true
	}
	out := make([]string, 0, len(environ)+len(vars))
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		if set[name] || (set["AWS_ENDPOINT_URL"] && strings.HasPrefix(name, "AWS_") && name != "AWS_CA_BUNDLE") {
			continue
		}
		out = append(out, kv)
	}
	for _, v := range vars {
		out = append(out, v.Name+"="+v.Value)
	}
	return out
}
