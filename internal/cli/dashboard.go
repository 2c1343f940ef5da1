package cli

import (
	"context"
	"errors"

	"github.com/sandbox-stack/sandbox/internal/session"
	"github.com/sandbox-stack/sandbox/internal/tui"
)

// dashboard shows a running sandbox, live, until its user quits. It only looks:
// whatever happens to it, the sandbox stays up.
func (a *app) dashboard(ctx context.Context, name string) (err error) {
	s, err := session.Open(ctx, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	feed := tui.NewFeed()
	ctx, stop := context.WithCancel(ctx)
	watched := make(chan error, 1)
	go func() { watched <- s.Watch(ctx, feed, nil) }()
	style := a.style(a.Out)
	err = tui.Run(ctx, tui.Options{
		In: a.In, Out: a.Out, Name: name, Feed: feed, ASCII: style.ASCII, Color: style.Color,
		Farewell: "sandbox " + name + " stays up; `sandbox down --name " + name + "` removes it",
	})
	stop()
	return errors.Join(err, <-watched)
}
