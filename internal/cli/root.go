// Package cli holds the commands: it reads flags, opens what a command works
// on, hands events to an output, and gives out the exit code. Data goes to
// standard output, progress and errors to standard error.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/render"
	"github.com/sandbox-stack/sandbox/internal/session"
	"github.com/sandbox-stack/sandbox/internal/steps"
)

// Streams are the program's standard streams.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
}

// app is what every command shares: the streams and the global flags.
type app struct {
	Streams
	name     string
	progress string
	output   string
	color    string
	ascii    bool
	quiet    bool
	verbose  bool

	accessible bool

	args []string // the command line

	// releaseSignals gives the signals back to the command.
	releaseSignals func()
	// stopping is what to tell who interrupts: a string, once there is something.
	stopping atomic.Value
	// tty draws on the terminal, where it does, and onEnter and onEscape are for
	// these keys meanwhile.
	tty               atomic.Pointer[render.TTY]
	onEnter, onEscape func()
	leaveFD           int // see supervise.go
}

// Main runs the program and returns its exit code. The first interrupt
// cancels what runs, which stops cleanly and can be resumed; the second ends
// the program at once.
func Main(args []string, streams Streams) int {
	// What libraries have to say goes through events; client-go and Helm would
	// write their own notes into the middle of the output.
	log.SetOutput(io.Discard)
	klog.SetLogger(logr.Discard())

	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	a := &app{Streams: streams, leaveFD: takeLeaveFD(), releaseSignals: func() { signal.Stop(signals) }}
	defer a.releaseSignals()
	go func() {
		<-signals
		cancel(errInterrupted)
		if notice, ok := a.stopping.Load().(string); ok {
			a.notice(notice)
		}
		<-signals
		if tty := a.tty.Load(); tty != nil {
			tty.Restore()
		}
		os.Exit(exitInterrupted)
	}()
	return a.run(ctx, args)
}

// notice tells the user something beside what is drawn.
func (a *app) notice(text string) {
	if tty := a.tty.Load(); tty != nil {
		tty.Notice(text)
		return
	}
	fmt.Fprintln(a.Err, "\n"+text)
}

var errInterrupted = &fault.Error{
	Code: fault.Interrupted, What: "interrupted",
	Why: "what is there was kept", Try: "the same command again, to go on from here",
}

// run executes one command line.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.root()
	root.SetArgs(args)
	a.args = args
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	var said *reported
	if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.Canceled) && !errors.As(err, &said) {
		err = cause
	}
	for _, e := range unsaid(err) {
		a.fail(e)
	}
	return exitCode(err)
}

// fail prints an error: three lines for people, an object for machines.
func (a *app) fail(err error) {
	p := steps.Problem(err)
	if a.output == "json" || a.progress == "json" {
		enc := json.NewEncoder(a.Err)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(map[string]any{"error": p}) // there is nowhere left to report that standard error is closed
		return
	}
	_ = render.WriteProblem(a.Err, *p, a.style(a.Err)) // as above
}

// reported wraps an error that the command's own output has shown already.
type reported struct{ error }

func (r *reported) Unwrap() error { return r.error }

// style decides on colour and glyphs for one stream: only the stream that is
// drawn on is looked at.
func (a *app) style(w io.Writer) render.Style {
	return render.Detect(w, render.ColorChoice(a.color), a.ascii, os.Getenv)
}

// data writes v in the form that -o asks for.
func (a *app) data(v any) error {
	return render.WriteData(a.Out, v, render.Format(a.output))
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "sandbox",
		Short: "A production-like environment from one file",
		Long: `sandbox brings a production-like environment up from one stack file: a
Kubernetes cluster, an AWS emulator, Prometheus and Alertmanager; it builds
images, applies Terraform, installs Helm charts, loads alert rules, and shows
whether all of it is healthy and, if not, why.`,
		Example: `  sandbox up web-app          bring a stack up; run again to resume or update
  sandbox                     on a terminal: the dashboard of what is up
  sandbox status              what is there, is it healthy, why not, where
  sandbox exec -- kubectl get pods -A
  sandbox down                remove everything again`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          knownCommand,
		RunE:          a.dashboardOrHelp,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return errors.Join(
				oneOf(cmd, "progress", a.progress, progressModes()...),
				oneOf(cmd, "output", a.output, "table", "json", "yaml"),
				oneOf(cmd, "color", a.color, "auto", "always", "never"),
			)
		},
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		a.readOutputFlags(root)
		return usageError(err, cmd.CommandPath())
	})
	f := root.PersistentFlags()
	f.StringVar(&a.name, "name", "", "name of the sandbox (default: the stack's, or the only one there is)")
	f.StringVar(&a.progress, "progress", "auto", "how progress is shown: "+strings.Join(progressModes(), ", "))
	f.StringVarP(&a.output, "output", "o", "table", "form of the data on standard output: table, json, yaml")
	f.StringVar(&a.color, "color", "auto", "colour: auto, always, never (NO_COLOR is respected)")
	f.BoolVar(&a.ascii, "ascii", false, "ASCII characters only")
	f.BoolVar(&a.accessible, "accessible", false, "whole sentences and no redraws, for screen readers; the same as --progress accessible")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "errors only; the same as --progress quiet")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "show the output of the tools that run")
	for flag, values := range map[string][]string{
		"progress": progressModes(),
		"output":   {"table", "json", "yaml"},
		"color":    {"auto", "always", "never"},
	} {
		must(root.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)))
	}
	must(root.RegisterFlagCompletionFunc("name", completeNames))
	root.AddCommand(
		a.upCommand(), a.statusCommand(), a.envCommand(), a.execCommand(),
		a.logsCommand(), a.eventsCommand(), a.describeCommand(), a.restartCommand(), a.shellCommand(), a.openCommand(), a.tfCommand(), a.alertsCommand(), a.downCommand(), a.replayCommand(), a.imagesCommand(), a.doctorCommand(), a.versionCommand(), a.agentCommand(),
	)
	strictDefaults(root)
	return root
}

// strictDefaults adds the commands that cobra brings, and lets them refuse a
// word that they do not know: cobra prints the help and calls that a success.
func strictDefaults(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd("completion") // also where the command line is about another command
	for _, cmd := range root.Commands() {
		switch cmd.Name() {
		case "help":
			cmd.Run, cmd.RunE = nil, func(cmd *cobra.Command, words []string) error {
				about, rest, err := cmd.Root().Find(words)
				if err != nil || len(rest) > 0 {
					return knownCommand(about, rest)
				}
				about.InitDefaultHelpFlag()
				return about.Help()
			}
		case "completion":
			cmd.Args = knownCommand
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		}
	}
}

// readOutputFlags takes from the command line how errors are to be written,
// where a wrong flag kept cobra from reading that far.
func (a *app) readOutputFlags(root *cobra.Command) {
	reader := &cobra.Command{FParseErrWhitelist: cobra.FParseErrWhitelist{UnknownFlags: true}}
	for _, name := range []string{"output", "progress", "color", "ascii"} {
		reader.Flags().AddFlag(root.PersistentFlags().Lookup(name))
	}
	_ = reader.ParseFlags(a.args) // there is an error already, and it is the one to tell
}

// dashboardOrHelp shows the sandbox that is there, to a person at a terminal.
func (a *app) dashboardOrHelp(cmd *cobra.Command, _ []string) error {
	name, err := session.One(a.name)
	if err == nil && isTerminal(a.Out) && !a.drawable() {
		st, err := statusOf(cmd.Context(), name, 0)
		if err != nil {
			return err
		}
		return a.writeStatus([]render.Status{st})
	}
	if err != nil && a.name == "" && isTerminal(a.Out) && isTerminal(a.Err) {
		if _, werr := fmt.Fprintf(a.Err, "%s; this is how to use it:\n\n", strings.TrimPrefix(err.Error(), "which sandbox?: ")); werr != nil {
			return werr
		}
	}
	if !isTerminal(a.Out) || !isTerminal(a.In) || (err != nil && a.name == "") {
		return cmd.Help()
	}
	if err != nil {
		return err
	}
	return a.dashboard(cmd.Context(), name, "sandbox "+name+" stays up; `sandbox down --name "+name+"` removes it")
}

// knownCommand refuses a word that is no command, with the nearest one.
func knownCommand(cmd *cobra.Command, words []string) error {
	if len(words) == 0 {
		return nil
	}
	try := cmd.CommandPath() + " --help"
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(words[0]); len(near) > 0 {
		try = cmd.CommandPath() + " " + near[0]
	}
	return fault.New(fault.Invalid, fmt.Sprintf("unknown command %q", words[0]), "", try)
}

// progressModes are the values of --progress.
func progressModes() []string {
	list := []string{string(render.ModeAuto)}
	for _, m := range render.Modes {
		list = append(list, string(m))
	}
	return list
}

// must panics on an error that only a mistake in this package can cause.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func oneOf(cmd *cobra.Command, flag, value string, allowed ...string) error {
	for _, v := range allowed {
		if v == value {
			return nil
		}
	}
	return usageError(fmt.Errorf("--%s %q: use one of %s", flag, value, strings.Join(allowed, ", ")), cmd.CommandPath())
}

// args gives cobra's checks of arguments this program's form of errors.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, a []string) error {
		if err := check(cmd, a); err != nil {
			return usageError(err, cmd.CommandPath())
		}
		return nil
	}
}
