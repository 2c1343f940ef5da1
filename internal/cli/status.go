package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/render"
	"github.com/sandbox-stack/sandbox/internal/session"
)

func (a *app) statusCommand() *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what is there, whether it is healthy, why not, and where",
		Long: `Shows every component with its state, the reason for a state that is not ok,
and where it answers. Without --name and with several sandboxes, shows them all.
Exits with 5 when a component is neither ok nor off.`,
		Example: `  sandbox status
  sandbox status -o json | jq '.[].components[] | select(.state != "ok")'
  sandbox status --wait 2m`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if wait < 0 {
				return negative(cmd, "wait")
			}
			names, err := session.Names(a.name)
			if err != nil {
				return err
			}
			var all []render.Status
			for _, name := range names {
				st, err := statusOf(ctx, name, wait)
				if err != nil {
					return err
				}
				all = append(all, st)
			}
			return a.writeStatus(all)
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", 0, "wait up to this long until everything is ok")
	return cmd
}

// statusOf looks at a sandbox, until it is healthy or wait has passed.
func statusOf(ctx context.Context, name string, wait time.Duration) (render.Status, error) {
	s, err := session.Open(ctx, name)
	if err != nil {
		return render.Status{}, err
	}
	defer s.Close() // nothing was written
	deadline := time.Now().Add(wait)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		now, err := s.Reread()
		if err != nil {
			return render.Status{}, err
		}
		st := now.Status(ctx)
		if st.State.Healthy() || !time.Now().Before(deadline) {
			return st, nil
		}
		select {
		case <-ctx.Done():
			return st, context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// printStatus prints the status after a run, whose own outcome is what counts: a
// target that was just found, and not scraped yet, is no reason to fail it.
func (a *app) printStatus(ctx context.Context, s *session.Session) error {
	_, err := a.drawStatus([]render.Status{s.Status(ctx)})
	return err
}

// writeStatus prints the status, and fails where something is not ok.
func (a *app) writeStatus(all []render.Status) error {
	bad, err := a.drawStatus(all)
	if err != nil || bad == nil {
		return err
	}
	return &reported{fault.New(fault.Unhealthy, bad.Component+" is "+string(bad.State), bad.Reason, bad.Try)}
}

// drawStatus prints the status and returns the first component that is not ok.
func (a *app) drawStatus(all []render.Status) (bad *event.Health, err error) {
	if err := render.WriteStatusList(a.Out, all, render.Format(a.output), a.style(a.Out), time.Now()); err != nil {
		return nil, fmt.Errorf("write status: %w", err)
	}
	for _, st := range all {
		for i, h := range st.Components {
			if !h.State.Healthy() && bad == nil {
				bad = &st.Components[i]
			}
		}
	}
	return bad, nil
}
