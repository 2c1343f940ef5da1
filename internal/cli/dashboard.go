package cli

import (
	"context"
	"errors"

	"github.com/sandbox-stack/sandbox/internal/session"
	"github.com/sandbox-stack/sandbox/internal/tui"
)

// dashboard shows a sandbox, live, until its user quits. Whatever happens to it,
// the sandbox stays up.
func (a *app) dashboard(ctx context.Context, name, farewell string) (err error) {
	s, err := session.Open(ctx, name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	feed := tui.NewFeed()
	watching, stop := context.WithCancel(ctx)
	watched := make(chan error, 1)
	refresh := make(chan string)
	go func() {
		watched <- s.Watch(watching, feed, refresh)
		_ = feed.Close() // it never fails
	}()
	style := a.style(a.Out)
	err = tui.Run(ctx, tui.Options{
		In: a.In, Out: a.Out, Name: name, Feed: feed, ASCII: style.ASCII, Color: style.Color,
		Actions: actions{s: s, events: s.Events(), refresh: refresh}, Farewell: farewell,
	})
	stop()
	return errors.Join(err, <-watched)
}
