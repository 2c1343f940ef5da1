package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/inject"
	"github.com/sandbox-stack/sandbox/internal/session"
)

func (a *app) alertsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "alerts",
		Short: "List, drill and test the stack's alerts",
		Long: `A drill proves an alert: it breaks something real, and the alert has to fire, to
reach a receiver and to resolve once the fault is undone. The stack file declares
the drills; docs/drills.md describes them.`,
		Args: knownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.alertsListCommand(), a.alertsDrillCommand(), a.alertsTestCommand())
	return cmd
}

func (a *app) alertsListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the alerts: their state, their last drill, and what is known of them",
		Long: `Lists the alerting rules of the stack with their state now, how their last drill
ended, and what proves that they work: a unit test, a drill, or that they fired. A
rule whose metrics no target exposes can never fire.`,
		Example: `  sandbox alerts list
  sandbox alerts list -o json`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.open(cmd.Context(), func(s *session.Session) error {
				list, err := s.Alerts(cmd.Context())
				if err != nil {
					return err
				}
				if a.output != "table" {
					return a.data(list)
				}
				return a.writeAlerts(list)
			})
		},
	}
}

func (a *app) alertsDrillCommand() *cobra.Command {
	var opt session.DrillOptions
	var all, undo bool
	var junit string
	cmd := &cobra.Command{
		Use:   "drill [ALERT...]",
		Short: "Break something, and prove that the alert fires, arrives and resolves",
		Long: `Runs the drills of the alerts that are named, one after the other: injects the
fault, follows the alert through Prometheus and Alertmanager to a receiver, undoes
the fault and follows the alert's end. What does not happen in the time declared
fails the drill, which names the link that is broken. The fault is undone in any
case; after a kill the next up, or --undo, does it.

Exits with 5 where a drill fails, and with 2 where it can't be run as asked.

So that nobody waits for "for: 5m", a drill works on a copy of the rule, whose
durations are divided by --compress, and never shorter than two scrapes.`,
		Example: `  sandbox alerts drill PodCrashLooping
  sandbox alerts drill --all --junit drills.xml
  sandbox alerts drill OrdersFailing --real-time     the rule as it is written
  sandbox alerts drill --undo                        what a killed drill has left`,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return session.DrillNames(a.name), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, argv []string) error {
			switch {
			case undo && (all || len(argv) > 0):
				return usageError(errors.New("--undo stands alone: it undoes what all drills have left"), cmd.CommandPath())
			case undo:
				return a.open(cmd.Context(), func(s *session.Session) error { return a.undoFaults(cmd.Context(), s, opt.Force) })
			case all && len(argv) > 0:
				return usageError(errors.New("--all drills all alerts: leave the names out"), cmd.CommandPath())
			case !all && len(argv) == 0:
				return usageError(errors.New("name the alerts to drill, or give --all"), cmd.CommandPath())
			case opt.Compress < 1 || opt.Compress > 1000:
				return usageError(errors.New("--compress divides durations: 1 to 1000"), cmd.CommandPath())
			case opt.RealTime && cmd.Flags().Changed("compress"):
				return usageError(errors.New("--compress and --real-time contradict each other"), cmd.CommandPath())
			}
			opt.Alerts = argv
			return a.open(cmd.Context(), func(s *session.Session) error { return a.drill(cmd.Context(), s, opt, junit) })
		},
	}
	f := cmd.Flags()
	f.BoolVar(&all, "all", false, "run all drills of the stack")
	f.IntVar(&opt.Compress, "compress", session.DefaultCompress, "divide the durations of the rules by this, where a drill does not say it itself")
	f.BoolVar(&opt.RealTime, "real-time", false, "take the rules as they are written")
	f.BoolVar(&opt.Force, "force", false, "drill also on a sandbox that is not healthy; with --undo, forget what can't be undone")
	f.BoolVar(&opt.KeepBroken, "keep-broken", false, "leave the fault of a drill that fails in place, and stop there")
	f.BoolVar(&undo, "undo", false, "undo the faults that drills have left, and do nothing else")
	f.StringVar(&junit, "junit", "", "write a JUnit report of the drills to this file")
	return cmd
}

// drill runs drills, drawn on the output that was asked for.
func (a *app) drill(ctx context.Context, s *session.Session, opt session.DrillOptions, junit string) (err error) {
	sinks, drawn, err := a.sinks(junit)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll(sinks)) }()
	a.stopping.Store("stopping, the fault is undone first; interrupt again to stop at once and leave it")
	results := &drillResults{}
	err = s.Drill(ctx, opt, append(eventSinks(sinks), results)...)
	if a.output != "table" && results.began {
		err = errors.Join(err, a.data(results.list))
	}
	return drawn.reported(err)
}

// drillResults collects how the drills of a run ended.
type drillResults struct {
	list  []event.DrillChanged
	began bool
}

// Handle keeps the last word on each drill.
func (r *drillResults) Handle(e event.Envelope) error {
	r.began = r.began || e.PlanReady != nil
	if d := e.DrillChanged; d != nil && d.State != event.DrillRunning {
		r.list = append(r.list, *d)
	}
	return nil
}

func (a *app) undoFaults(ctx context.Context, s *session.Session, force bool) error {
	var forget func([]inject.Record, error)
	forgotten := 0
	if force {
		forget = func(left []inject.Record, why error) {
			forgotten = len(left)
			for _, rec := range left {
				fmt.Fprintf(a.Err, "forgotten: %s (drill %s)\n", rec.What, rec.Alert)
			}
			fmt.Fprintf(a.Err, "  %v\n", why)
		}
	}
	undone, err := s.UndoFaults(ctx, forget)
	if a.output != "table" {
		return errors.Join(err, a.data(append([]inject.Record{}, undone...)))
	}
	for _, rec := range undone {
		if _, werr := fmt.Fprintf(a.Out, "undone: %s (drill %s)\n", rec.What, rec.Alert); werr != nil {
			return errors.Join(err, werr)
		}
	}
	if err == nil && len(undone)+forgotten == 0 {
		_, err = fmt.Fprintln(a.Out, "no fault of a drill is left")
	}
	return err
}

func (a *app) alertsTestCommand() *cobra.Command {
	var junit string
	cmd := &cobra.Command{
		Use:   "test [STACK|DIR|FILE]",
		Short: "Run the unit tests of the rules",
		Long: `Runs the promtool test files that the stack names under observability.tests, with
the promtool of the Prometheus image. The sandbox need not be up; without an
argument, the stack of this folder is meant or, where there is none, that of the
sandbox that is there.`,
		Example: `  sandbox alerts test web-app
  sandbox alerts test --junit rules.xml`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, argv []string) error {
			arg := "."
			if len(argv) == 1 {
				arg = argv[0]
			} else if again, name, ok := session.Again(a.name); ok {
				arg, a.name = again, name
			}
			wanted, err := session.Load(arg, a.name)
			if err != nil {
				return err
			}
			return a.testRules(cmd.Context(), wanted, junit)
		},
	}
	cmd.Flags().StringVar(&junit, "junit", "", "write a JUnit report of the tests to this file")
	return cmd
}

func (a *app) testRules(ctx context.Context, wanted session.Wanted, junit string) (err error) {
	sinks, drawn, err := a.sinks(junit)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll(sinks)) }()
	return drawn.reported(session.TestRules(ctx, wanted, session.Options{Images: "auto"}, eventSinks(sinks)...))
}

// writeAlerts prints the alerts as a table, with what there is to do about them.
func (a *app) writeAlerts(list []session.Alert) error {
	if len(list) == 0 {
		return fault.New(fault.Invalid, "the stack has no alerting rules", "observability.rules names none", "docs/stack.md")
	}
	w := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
	row := func(cells ...string) {
		fmt.Fprintln(w, strings.TrimRight(strings.Join(cells, "\t"), "\t")) // Flush reports what it fails with
	}
	row("ALERT", "SEVERITY", "STATE", "FOR", "LAST DRILL", "PROVEN BY", "NOTE")
	for _, al := range list {
		row(al.Alert, cmp.Or(al.Severity, "-"), al.State, al.For, al.DrillWord(), cmp.Or(strings.Join(al.Proof(), ", "), "-"), event.Clean(al.Note()))
	}
	return w.Flush()
}
