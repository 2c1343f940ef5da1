package cli

import (
	"context"
	"errors"

	"github.com/sandbox-stack/sandbox/internal/session"
	"github.com/sandbox-stack/sandbox/internal/tui"
)

// dashboard shows a sandbox, live, until its user quits. Whatever happens to it,
// the sandbox stays up. What is recorded shows at once, and the rest as soon as
// the engine has answered.
func (a *app) dashboard(ctx context.Context, name, farewell string) (err error) {
	s, err := session.Peek(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	feed := tui.NewFeed()
	watching, stop := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	refresh := make(chan string)
	go func() {
		defer close(watched)
		if err := s.Watch(watching, feed, refresh); err != nil {
			stop(err) // there is nothing to look at
		}
		_ = feed.Close() // it never fails
	}()
	style := a.style(a.Out)
	err = tui.Run(watching, tui.Options{
		In: a.In, Out: a.Out, Name: name, Feed: feed, ASCII: style.ASCII, Color: style.Color,
		Actions: actions{s: s, events: s.Events(), refresh: refresh}, Farewell: farewell,
	})
	stop(nil)
	<-watched
	return err
}
