package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/session"
)

// open opens the sandbox that is meant and hands it to f.
func (a *app) open(ctx context.Context, f func(*session.Session) error) (err error) {
	name, err := session.One(a.name)
	if err != nil {
		return err
	}
	s, err := session.Open(ctx, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return f(s)
}

func (a *app) completeComponents(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return session.Components(a.name), cobra.ShellCompDirectiveNoFileComp
}

func (a *app) describeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "describe COMPONENT",
		Short: "Print all there is to know of a component",
		Long: `Prints what is known of a component, as status names it: of a release and its
workloads and pods what kubectl describe says, of a Terraform module its outputs and
resources, of anything else its container.`,
		Example: `  sandbox describe release/web-app
  sandbox describe terraform/infra`,
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeComponents,
		RunE: func(cmd *cobra.Command, argv []string) error {
			return a.open(cmd.Context(), func(s *session.Session) error {
				text, err := s.Describe(cmd.Context(), argv[0])
				if err != nil {
					return err
				}
				_, err = io.WriteString(a.Out, event.CleanText(text))
				return err
			})
		},
	}
}

func (a *app) restartCommand() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "restart COMPONENT",
		Short: "Restart a component",
		Long: `Replaces the pods of a release, of a workload or one pod, one after the other, or
restarts the container of another component. It does not wait until the component
is ready: sandbox status --wait 2m does.`,
		Example: `  sandbox restart release/web-app
  sandbox restart observe/prometheus
  sandbox restart aws --yes           the emulator forgets all it holds`,
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeComponents,
		RunE: func(cmd *cobra.Command, argv []string) error {
			return a.open(cmd.Context(), func(s *session.Session) error {
				if cost := session.RestartCost(argv[0]); cost != "" && !yes {
					question := "restart " + argv[0] + ": " + cost
					if err := a.confirm(cmd.Context(), question, cmd.CommandPath()+" "+argv[0]+" --yes"); err != nil {
						return err
					}
				}
				if err := s.Restart(cmd.Context(), argv[0]); err != nil {
					return err
				}
				_, err := fmt.Fprintln(a.Err, argv[0]+" restarts")
				return err
			})
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func (a *app) openCommand() *cobra.Command {
	var show bool
	cmd := &cobra.Command{
		Use:   "open COMPONENT",
		Short: "Open the page of a component in the browser",
		Example: `  sandbox open observe/prometheus
  sandbox open aws --print`,
		Args:              args(cobra.ExactArgs(1)),
		ValidArgsFunction: a.completeComponents,
		RunE: func(cmd *cobra.Command, argv []string) error {
			return a.open(cmd.Context(), func(s *session.Session) error {
				url, err := s.URL(cmd.Context(), argv[0])
				if err != nil {
					return err
				}
				if show {
					_, err := fmt.Fprintln(a.Out, url)
					return err
				}
				return openURL(url)
			})
		},
	}
	cmd.Flags().BoolVar(&show, "print", false, "print the URL instead")
	return cmd
}

func (a *app) shellCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "shell COMPONENT [-- COMMAND [ARG...]]",
		Short: "Get a shell in a component, or run a command there",
		Long: `Runs bash, or sh where there is none, in a pod of a release, a ready one where
there is one, or in the container of another component. A command after -- is run
instead; its exit code is passed on, and 125 means that sandbox itself failed.`,
		Example: `  sandbox shell release/web-app
  sandbox shell cluster -- crictl ps`,
		Args: args(cobra.MinimumNArgs(1)),
		ValidArgsFunction: func(cmd *cobra.Command, argv []string, word string) ([]string, cobra.ShellCompDirective) {
			if len(argv) > 0 {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return a.completeComponents(cmd, argv, word)
		},
		RunE: func(cmd *cobra.Command, argv []string) error {
			if len(argv) > 1 && cmd.ArgsLenAtDash() != 1 {
				return usageError(fmt.Errorf("a command comes after --: sandbox shell %s -- %s", argv[0], strings.Join(argv[1:], " ")), cmd.CommandPath())
			}
			err := a.open(cmd.Context(), func(s *session.Session) error {
				a.releaseSignals() // they are for what runs in there
				if len(argv) == 1 && isTerminal(a.In) && isTerminal(a.Out) {
					if _, err := fmt.Fprintf(a.Err, "a shell in %s; exit or ctrl+d returns\n", argv[0]); err != nil {
						return err
					}
				}
				return s.Exec(cmd.Context(), argv[0], argv[1:], session.Terminal{
					In: a.In, Out: a.Out, Err: a.Err, TTY: isTerminal(a.In) && isTerminal(a.Out),
				})
			})
			var exit interface{ ExitCode() int }
			if errors.As(err, &exit) {
				return commandExit(exit.ExitCode())
			}
			if err != nil && fault.CodeOf(err) != fault.Invalid {
				return wrapper(err)
			}
			return err
		},
	}
	return cmd
}
