package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/session"
)

func (a *app) tfCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tf",
		Short: "Plan, apply or compare the stack's Terraform modules",
		Args:  knownCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var exitCode bool
	drift := a.tfModules("drift [MODULE]", "Compare what the emulator holds with what Terraform left",
		"  sandbox tf drift\n  sandbox tf drift infra --exit-code -o json",
		func(ctx context.Context, s *session.Session, names []string) error {
			return a.drift(ctx, s, names, exitCode)
		})
	drift.Flags().BoolVar(&exitCode, "exit-code", false, "exit with 5 where something differs")
	cmd.AddCommand(
		a.tfModules("plan [MODULE]", "Say what an apply would do", "  sandbox tf plan infra",
			func(ctx context.Context, s *session.Session, names []string) error {
				return each(names, func(name string) error {
					text, err := s.Plan(ctx, name)
					if err != nil {
						return err
					}
					_, err = fmt.Fprintf(a.Out, "terraform/%s\n%s\n", name, text)
					return err
				})
			}),
		a.tfModules("apply [MODULE]", "Make the emulator hold what the modules describe", "  sandbox tf apply infra",
			func(ctx context.Context, s *session.Session, names []string) error {
				return each(names, func(name string) error {
					note, err := s.Apply(ctx, name, event.Discard)
					if err != nil {
						return err
					}
					_, err = fmt.Fprintf(a.Out, "terraform/%s: %s\n", name, note)
					return err
				})
			}),
		drift,
	)
	return cmd
}

// tfModules is a command on one module or, without an argument, on all.
func (a *app) tfModules(use, short, example string, run func(context.Context, *session.Session, []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Example: example,
		Args: args(cobra.MaximumNArgs(1)),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return session.Modules(a.name), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, argv []string) error {
			return a.open(cmd.Context(), func(s *session.Session) error {
				if len(argv) == 0 {
					argv = s.Modules()
				}
				return run(cmd.Context(), s, argv)
			})
		},
	}
}

func each(names []string, do func(string) error) error {
	var errs []error
	for _, name := range names {
		errs = append(errs, do(name))
	}
	return errors.Join(errs...)
}

// drift prints what differs in each module.
func (a *app) drift(ctx context.Context, s *session.Session, names []string, exitCode bool) error {
	var modules []event.ModuleChanged
	differ := 0
	for _, name := range names {
		found, err := s.Drift(ctx, name)
		if err != nil {
			return err
		}
		modules = append(modules, found)
		differ += found.Drift
	}
	if a.output != "table" {
		if err := a.data(append([]event.ModuleChanged{}, modules...)); err != nil {
			return err
		}
	} else {
		for _, m := range modules {
			if _, err := fmt.Fprintf(a.Out, "terraform/%s: %d resources, %d differ\n", m.Module, len(m.Resources), m.Drift); err != nil {
				return err
			}
			for _, r := range m.Resources {
				if r.State == event.ResourceOK {
					continue
				}
				if _, err := fmt.Fprintf(a.Out, "  %s %s: %s\n", r.Address, r.State, strings.ReplaceAll(r.Detail, "\n", "\n      ")); err != nil {
					return err
				}
			}
		}
	}
	if exitCode && differ > 0 {
		return fault.New(fault.Unhealthy, fmt.Sprintf("%d of the resources differ from what Terraform left", differ), "they were changed in the emulator", "sandbox tf apply")
	}
	return nil
}
