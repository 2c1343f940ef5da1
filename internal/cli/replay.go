package cli

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/render"
	"github.com/sandbox-stack/sandbox/internal/tui"
)

func (a *app) replayCommand() *cobra.Command {
	var speed float64
	var junit string
	var dashboard bool
	cmd := &cobra.Command{
		Use:   "replay EVENTS.JSONL",
		Short: "Show a recorded run again, in any output",
		Long: `Shows recorded runs as they were drawn while they ran. Every sandbox records its
runs in events.jsonl in its state folder; --progress json writes the same.`,
		Example: `  sandbox replay ~/.local/state/sandbox/web-app/events.jsonl --speed 10
  sandbox replay events.jsonl --speed 0 --junit report.xml --progress github
  sandbox replay run.jsonl --dashboard`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, argv []string) (err error) {
			if speed < 0 {
				return negative(cmd, "speed")
			}
			f, err := os.Open(argv[0])
			if err != nil {
				return fault.Wrap(fault.Invalid, err, "sandbox replay with the path of an events.jsonl", "no recording at %s", argv[0])
			}
			defer f.Close() // only read
			if dashboard {
				return a.replayDashboard(cmd.Context(), f, argv[0], speed)
			}
			sinks, _, err := a.sinks(junit)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, closeAll(sinks)) }()
			if err := render.Replay(cmd.Context(), f, tee(sinks), speed); err != nil && cmd.Context().Err() == nil {
				return fault.Wrap(fault.Failed, err, "sandbox replay with an events.jsonl that sandbox has recorded", "%s could not be replayed whole", argv[0])
			}
			return cmd.Context().Err()
		},
	}
	cmd.Flags().Float64Var(&speed, "speed", 1, "pace of the recording: 2 is twice as fast, 0 does not wait")
	cmd.Flags().BoolVar(&dashboard, "dashboard", false, "show the recording in the dashboard")
	cmd.Flags().StringVar(&junit, "junit", "", "write a JUnit report of the run to this file")
	return cmd
}

// replayDashboard shows a recording in the dashboard, which stays at its end.
func (a *app) replayDashboard(ctx context.Context, from io.Reader, path string, speed float64) error {
	if !isTerminal(a.In) || !isTerminal(a.Out) {
		return fault.New(fault.Invalid, "the dashboard needs a terminal", "input and output are not both one", "sandbox replay "+path+" --speed 0")
	}
	feed := tui.NewFeed()
	ctx, stop := context.WithCancel(ctx)
	replayed := make(chan error, 1)
	go func() { replayed <- errors.Join(render.Replay(ctx, from, feed, speed), feed.Close()) }()
	style := a.style(a.Out)
	err := tui.Run(ctx, tui.Options{
		In: a.In, Out: a.Out, Name: path, Feed: feed, Replay: true, Now: feed.Now, ASCII: style.ASCII, Color: style.Color,
	})
	stop()
	if err := <-replayed; err != nil && !errors.Is(err, context.Canceled) {
		return fault.Wrap(fault.Failed, err, "sandbox replay with an events.jsonl that sandbox has recorded", "%s could not be replayed whole", path)
	}
	return err
}
