package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/plan"
	"github.com/sandbox-stack/sandbox/internal/render"
	"github.com/sandbox-stack/sandbox/internal/session"
	"github.com/sandbox-stack/sandbox/stacks"
)

// engines are the values of --runtime.
var engines = []string{"auto", "docker", "podman"}

// builders are the values of --builder.
var builders = []string{session.BuilderAuto, session.BuilderBuildah}

func (a *app) upCommand() *cobra.Command {
	var opt struct {
		ports, images  string
		runtime        string
		remoteEngine   bool
		builder        string
		junit          string
		strict, dryRun bool
		skipChecks     bool
		timeout        time.Duration
	}
	cmd := &cobra.Command{
		Use:   "up [STACK|DIR|FILE]",
		Short: "Bring a stack up, update it, or resume",
		Long: `Brings a stack up: the name of one that comes with sandbox, a folder with a
stack.yaml, or a stack file; without an argument, the stack.yaml of this folder or,
where there is none, the stack of the sandbox that is there (or of --name).
Run it again after a change, an interruption or a failure: what is there
already is left alone, what is missing is made.`,
		Example: `  sandbox up web-app                  a stack that comes with sandbox
  sandbox up ./deploy --name review   a folder of your own, under another name
  sandbox up --dry-run                what would be done, in what order
  sandbox up --ports auto             free ports instead of the well-known ones`,
		Args: args(cobra.MaximumNArgs(1)),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return stacks.Names(), cobra.ShellCompDirectiveDefault
		},
		RunE: func(cmd *cobra.Command, argv []string) error {
			if err := oneOf(cmd, "ports", opt.ports, "fixed", "auto"); err != nil {
				return err
			}
			if err := oneOf(cmd, "images", opt.images, "auto", "packages", "registry"); err != nil {
				return err
			}
			if cmd.Flags().Changed("runtime") {
				if err := oneOf(cmd, "runtime", opt.runtime, engines...); err != nil {
					return err
				}
			}
			if err := oneOf(cmd, "builder", opt.builder, builders...); err != nil {
				return err
			}
			if opt.timeout < 0 {
				return negative(cmd, "timeout")
			}
			arg := "."
			if len(argv) == 1 {
				arg = argv[0]
			}
			if len(argv) == 0 {
				if again, name, ok := session.Again(a.name); ok {
					arg, a.name = again, name
				}
			}
			if a.mode() == render.ModeTTY && !opt.dryRun && isTerminal(a.In) && !a.supervised() && !leadsSession() {
				return a.supervise()
			}
			wanted, err := session.Load(arg, a.name)
			if err != nil {
				return err
			}
			if opt.dryRun {
				_, err := fmt.Fprint(a.Out, plan.Format(plan.Build(wanted.Stack)))
				return err
			}
			ctx, cancel := withTimeout(cmd.Context(), opt.timeout)
			defer cancel()
			options := session.Options{
				AutoPorts: opt.ports == "auto", Images: opt.images, Strict: opt.strict,
				Runtime: opt.runtime, RemoteEngine: opt.remoteEngine, Builder: opt.builder,
			}
			if !opt.skipChecks {
				if err := a.preflight(ctx, wanted, options); err != nil {
					return endOf(ctx, err)
				}
			}
			return a.up(ctx, wanted, options, opt.junit)
		},
	}
	f := cmd.Flags()
	f.StringVar(&opt.ports, "ports", "fixed", "ports on this machine: fixed (the stack's), auto (free ones)")
	f.StringVar(&opt.images, "images", "auto", "where platform images come from: auto, packages, registry")
	f.StringVar(&opt.runtime, "runtime", "", "container engine: auto (the one that runs), docker, podman; without it, SANDBOX_RUNTIME or auto")
	f.StringVar(&opt.builder, "builder", session.BuilderAuto, "what builds the stack's images: auto (the engine), buildah")
	f.BoolVar(&opt.remoteEngine, "remote-engine", false, "allow a Docker on another machine, whose ports and files are shared with this one")
	f.BoolVar(&opt.strict, "strict", false, "fail where a component would be off for lack of its image")
	f.BoolVar(&opt.skipChecks, "skip-checks", false, "do not check this machine first, as sandbox doctor does")
	f.BoolVar(&opt.dryRun, "dry-run", false, "print the plan and change nothing")
	f.StringVar(&opt.junit, "junit", "", "write a JUnit report of the steps and the health to this file")
	f.DurationVar(&opt.timeout, "timeout", 0, "give up after this long, for example 20m (default: no limit)")
	must(cmd.RegisterFlagCompletionFunc("runtime", cobra.FixedCompletions(engines, cobra.ShellCompDirectiveNoFileComp)))
	must(cmd.RegisterFlagCompletionFunc("builder", cobra.FixedCompletions(builders, cobra.ShellCompDirectiveNoFileComp)))
	must(cmd.RegisterFlagCompletionFunc("ports", cobra.FixedCompletions([]string{"fixed", "auto"}, cobra.ShellCompDirectiveNoFileComp)))
	must(cmd.RegisterFlagCompletionFunc("images", cobra.FixedCompletions([]string{"auto", "packages", "registry"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

// up brings the stack up, drawn on the output that was asked for, and prints
// the status where people look on.
func (a *app) up(ctx context.Context, wanted session.Wanted, opt session.Options, junit string) (err error) {
	a.onEnter = func() {
		if err := a.dashboard(ctx, wanted.Name, ""); err != nil && ctx.Err() == nil {
			a.notice("the dashboard has ended: " + err.Error())
		}
	}
	if a.supervised() {
		a.onEscape = a.leave
	}
	sinks, drawn, err := a.sinks(junit)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll(sinks)) }()
	s, err := session.Start(ctx, wanted, opt)
	if err != nil {
		return endOf(ctx, err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if chosen := s.Chosen(); chosen != "" && a.mode() != render.ModeJSON && a.mode() != render.ModeQuiet {
		fmt.Fprintln(a.Err, chosen)
	}
	a.stopping.Store("stopping; interrupt again to stop at once (`sandbox up` resumes)")
	err = s.Up(ctx, eventSinks(sinks)...)
	// Who looks on in the dashboard may change things now.
	if err := errors.Join(err, s.Unlock()); err != nil {
		return drawn.reported(runFailed(err))
	}
	if err := closeAll(sinks); err != nil { // what they still draw comes before the status
		return err
	}
	sinks = nil
	switch a.mode() {
	case render.ModeJSON, render.ModeQuiet:
		return nil
	default:
		return errors.Join(a.printStatus(ctx, s), a.warn(s.Warnings()))
	}
}

// warn says what is not wrong, and not good either.
func (a *app) warn(warnings []string) error {
	for _, w := range warnings {
		if _, err := fmt.Fprintln(a.Err, "warning: "+event.Clean(w)); err != nil {
			return err
		}
	}
	return nil
}

// runFailed keeps exit code 2 for input that was refused before anything was
// created: what a step finds wrong later is a failed step.
func runFailed(err error) error {
	if fault.CodeOf(err) != fault.Invalid {
		return err
	}
	return fault.Wrap(fault.Failed, err, "sandbox up", "a step failed")
}

// endOf returns why ctx has ended, where that is why err happened.
func endOf(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return context.Cause(ctx)
}
