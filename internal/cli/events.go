package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/render"
	"github.com/sandbox-stack/sandbox/internal/session"
)

func (a *app) eventsCommand() *cobra.Command {
	var during time.Duration
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Print what happens in a sandbox, until interrupted",
		Long: `Prints the sandbox's last run and then what happens in it: changes of health and
of alerts, and events of Kubernetes, of the engine and of sandbox itself. With
-o json it prints the whole stream that the dashboard is drawn from, one object a
line, with logs and resource use: sandbox replay shows that again.`,
		Example: `  sandbox events
  sandbox events -o json --for 5m > run.jsonl
  sandbox replay run.jsonl --dashboard`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if during < 0 {
				return negative(cmd, "for")
			}
			return a.open(cmd.Context(), func(s *session.Session) error {
				ctx := cmd.Context()
				if during > 0 {
					var stop context.CancelFunc
					ctx, stop = context.WithTimeout(ctx, during)
					defer stop()
				}
				return s.Watch(ctx, a.eventPrinter(), nil)
			})
		},
	}
	cmd.Flags().DurationVar(&during, "for", 0, "end after this long, for example 5m (default: until interrupted)")
	return cmd
}

// eventPrinter writes events as lines, each as soon as it is there.
func (a *app) eventPrinter() event.Sink {
	if a.output != "table" {
		out := bufio.NewWriter(a.Out)
		enc := json.NewEncoder(out)
		enc.SetEscapeHTML(false)
		return event.SinkFunc(func(e event.Envelope) error { return errors.Join(enc.Encode(e), out.Flush()) })
	}
	style := a.style(a.Out)
	var view event.View
	said := map[string]time.Time{}
	return event.SinkFunc(func(e event.Envelope) error {
		view.Apply(e)
		if e.LogLine != nil || e.StepLog != nil || e.StepProgress != nil || e.ResourceSample != nil {
			return nil // many, and none of them is news
		}
		for _, line := range render.News(&view, said, style) {
			if _, err := fmt.Fprintln(a.Out, line); err != nil {
				return err
			}
		}
		return nil
	})
}
