package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sandbox-stack/sandbox/internal/doctor"
	"github.com/sandbox-stack/sandbox/internal/render"
	"github.com/sandbox-stack/sandbox/internal/session"
	"github.com/sandbox-stack/sandbox/internal/stack"
	"github.com/sandbox-stack/sandbox/stacks"
)

func (a *app) doctorCommand() *cobra.Command {
	var fix, yes bool
	var opt session.Options
	cmd := &cobra.Command{
		Use:   "doctor [STACK|DIR|FILE]",
		Short: "Check this machine, and say what is wrong and how to mend it",
		Long: `Checks what a sandbox needs of this machine: the container engine, the kernel,
memory, disk and ports, the network and its proxy, the tools, and what other
sandboxes left behind. Each check that is not ok says why and what to try. With a
stack, or a stack.yaml in this folder, its needs are looked at; else what a stack
usually needs. Exits with 5 when a check fails; warnings don't count.`,
		Example: `  sandbox doctor
  sandbox doctor web-app              what this stack needs: its ports, memory, disk
  sandbox doctor --fix                mend what is safe to mend, after asking
  sandbox doctor --fix --yes          the same without asking; installs Podman where it is missing
  sandbox doctor -o json | jq '.checks[] | select(.state == "fail")'`,
		Args: args(cobra.MaximumNArgs(1)),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return stacks.Names(), cobra.ShellCompDirectiveDefault
		},
		RunE: func(cmd *cobra.Command, argv []string) error {
			if yes && !fix {
				return usageError(errors.New("--yes goes with --fix only"), cmd.CommandPath())
			}
			if err := oneOf(cmd, "images", opt.Images, "auto", "packages", "registry"); err != nil {
				return err
			}
			if cmd.Flags().Changed("runtime") {
				if err := oneOf(cmd, "runtime", opt.Runtime, engines...); err != nil {
					return err
				}
			}
			wanted, err := a.examined(argv)
			if err != nil {
				return err
			}
			host, need, err := session.Examine(wanted, opt)
			if err != nil {
				return err
			}
			return a.doctor(cmd.Context(), host, need, fix, yes, "sandbox "+strings.Join(a.args, " ")+" --yes")
		},
	}
	cmd.Flags().BoolVar(&fix, "fix", false, "mend what is safe to mend")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "with --fix: do not ask")
	cmd.Flags().StringVar(&opt.Images, "images", "auto", "where platform images are to come from: auto, packages, registry")
	cmd.Flags().StringVar(&opt.Runtime, "runtime", "", "container engine, as for up: auto, docker, podman")
	cmd.Flags().BoolVar(&opt.RemoteEngine, "remote-engine", false, "allow a Docker on another machine, as for up")
	must(cmd.RegisterFlagCompletionFunc("runtime", cobra.FixedCompletions(engines, cobra.ShellCompDirectiveNoFileComp)))
	must(cmd.RegisterFlagCompletionFunc("images", cobra.FixedCompletions([]string{"auto", "packages", "registry"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

// examined is the stack whose needs are looked at: the named one, that of this
// folder, or none.
func (a *app) examined(argv []string) (*session.Wanted, error) {
	arg := "."
	if len(argv) == 1 {
		arg = argv[0]
	} else if _, err := os.Stat(stack.FileName); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	wanted, err := session.Load(arg, a.name)
	return &wanted, err
}

// doctor examines the machine, mends it where that was asked for, and examines
// it again. confirmed is the command that does not ask.
func (a *app) doctor(ctx context.Context, host *doctor.Host, need doctor.Need, fix, yes bool, confirmed string) error {
	report, err := a.examine(ctx, host, need)
	if err != nil {
		return err
	}
	if fix {
		mended, err := a.mend(ctx, host, report, yes, confirmed)
		if err != nil {
			return errors.Join(a.writeReport(report), err)
		}
		if mended {
			if report, err = a.examine(ctx, host, need); err != nil {
				return err
			}
		}
	}
	if err := a.writeReport(report); err != nil {
		return err
	}
	if failed, bad := report.Failed(); bad {
		return &reported{failed.Fault()}
	}
	return nil
}

// examine makes all checks, and tells what it waits for.
func (a *app) examine(ctx context.Context, host *doctor.Host, need doctor.Need) (doctor.Report, error) {
	checks := doctor.Checks()
	open := make([]string, len(checks))
	for i, c := range checks {
		open[i] = c.ID
	}
	waiting := a.waiting("")
	report, err := doctor.Run(ctx, host, need, checks, func(r doctor.Result) {
		open = slices.DeleteFunc(open, func(id string) bool { return id == r.ID })
		waiting.Set(fmt.Sprintf("%d of %d checks made; waiting for %s", len(checks)-len(open), len(checks), strings.Join(open, ", ")))
	})
	return report, errors.Join(err, waiting.Close())
}

// patience is how long a wait is a moment.
const patience = 500 * time.Millisecond

// waiting draws what is waited for on standard error, unless that is not wanted.
func (a *app) waiting(text string) *render.Waiting {
	w, after := a.Err, patience
	mode := a.mode()
	if mode != render.ModeTTY {
		after = 4 * patience
	}
	if mode == render.ModeQuiet || mode == render.ModeJSON {
		after = time.Hour
	}
	p := render.NewWaiting(w, a.style(w), mode == render.ModeTTY, after)
	p.Set(text)
	return p
}

// mend carries out what is safe, after asking, and reports whether it did
// anything.
func (a *app) mend(ctx context.Context, host *doctor.Host, report doctor.Report, yes bool, confirmed string) (bool, error) {
	actions := doctor.Actions(host, report)
	if len(actions) == 0 {
		return false, nil
	}
	texts := make([]string, len(actions))
	for i, act := range actions {
		texts[i] = act.Text
	}
	if !yes {
		if err := a.confirm(ctx, "--fix runs: "+strings.Join(texts, "; "), confirmed); err != nil {
			return false, err
		}
	}
	for _, act := range actions {
		if a.mode() != render.ModeQuiet && a.mode() != render.ModeJSON {
			fmt.Fprintf(a.Err, "for %s: %s\n", strings.Join(act.Mends, ", "), act.Text)
		}
		waiting := a.waiting("")
		err := act.Apply(ctx, waiting.Set)
		if err := errors.Join(err, waiting.Close()); err != nil {
			return false, err
		}
	}
	return true, nil
}

// writeReport prints what was found, as a table or as data.
func (a *app) writeReport(report doctor.Report) error {
	if a.output != "table" {
		return a.data(report)
	}
	var facts []string
	if report.Engine != "" {
		facts = append(facts, report.Engine)
	}
	if report.Stack != "" {
		facts = append(facts, "for "+report.Stack)
	}
	rows := make([]render.Check, len(report.Checks))
	for i, c := range report.Checks {
		rows[i] = row(c)
	}
	return render.WriteChecks(a.Out, "doctor", string(report.State), facts, rows, a.style(a.Out))
}

func row(c doctor.Result) render.Check {
	return render.Check{ID: c.ID, State: string(c.State), What: c.What, Why: c.Why, Fix: c.Fix}
}

// preflight makes the cheap checks before anything is created. What failed stops
// it; a warning is shown the first time that it holds.
func (a *app) preflight(ctx context.Context, wanted session.Wanted, opt session.Options) error {
	host, need, err := session.Examine(&wanted, opt)
	if err != nil {
		return err
	}
	host.OpenEngine = nil // up is about to open it, and says what is wrong then
	report, err := doctor.Run(ctx, host, need, doctor.Cheap(), nil)
	if err != nil {
		return err
	}
	if failed, bad := report.Failed(); bad {
		f := failed.Fault()
		if more := report.Count(doctor.Fail) - 1; more > 0 {
			f.Why += fmt.Sprintf("; sandbox doctor names %d more", more)
		}
		if failed.Fixable {
			f.Try = "sandbox doctor --fix, or " + f.Try
		}
		return f
	}
	if mode := a.mode(); mode == render.ModeQuiet || mode == render.ModeJSON {
		return nil
	}
	fresh, err := doctor.Unheard(host.CacheDir, report)
	rows := make([]render.Check, len(fresh))
	for i, c := range fresh {
		rows[i] = row(c)
	}
	if err != nil {
		rows = append(rows, render.Check{What: "these warnings will be shown again", Why: err.Error()})
	}
	for _, r := range rows {
		if err := render.WriteWarning(a.Err, r, a.style(a.Err)); err != nil {
			return err
		}
	}
	return nil
}
