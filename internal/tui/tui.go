package tui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// Options say what a dashboard shows, and where.
type Options struct {
	// In is where keys come from and Out is drawn on; both are a terminal.
	In  io.Reader
	Out io.Writer
	// Name is the name of the sandbox.
	Name string
	// Feed is what is shown.
	Feed *Feed
	// Actions is what can be done; nil makes the dashboard read-only, as for a
	// recording.
	Actions Actions
	// ASCII draws with ASCII characters only.
	ASCII bool
	// Color uses the terminal's sixteen colours. The caller decides, from the
	// flags and from NO_COLOR.
	Color bool
	// Now is the clock; nil means time.Now. Its location is the one that times
	// are shown in.
	Now func() time.Time
	// Replay says in the header that a recording is shown.
	Replay bool
	// Farewell is written to Out once the terminal is as it was before: what
	// goes on, and how to come back or to end it.
	Farewell string
}

// Run shows the dashboard until its user quits or ctx ends, and leaves the
// terminal as it was. A drill that was started in it and still runs is ended; Run
// then waits until its fault is undone. It returns the cause where ctx has ended it, and an error
// where the terminal cannot be drawn on or the dashboard itself has failed.
func Run(ctx context.Context, o Options) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop() // ends what waits for the feed, and actions under way
	m := newModel(ctx, o)
	profile := colorprofile.ASCII
	if o.Color {
		profile = colorprofile.ANSI
	}
	_, err := tea.NewProgram(m,
		tea.WithInput(o.In), tea.WithOutput(o.Out),
		tea.WithFPS(10), tea.WithColorProfile(profile),
	).Run()
	undone := m.drilling.leave(o.Out, m.theme.pick("…", "..."), undoTime)
	switch {
	case ctx.Err() != nil:
		return errors.Join(context.Cause(ctx), undone)
	case undone != nil:
		return undone
	case err != nil && !errors.Is(err, tea.ErrInterrupted):
		return fmt.Errorf("show the dashboard: %w", err)
	}
	if o.Farewell != "" {
		if _, err := fmt.Fprintln(o.Out, o.Farewell); err != nil {
			return fmt.Errorf("write to the terminal: %w", err)
		}
	}
	return nil
}

// Frame draws the dashboard once, as it looks when it opens on a screen of w
// columns and h lines: for pictures, and for comparing a replay with its run.
// Colours are part of the text, as the terminal would get them.
func Frame(o Options, w, h int) string {
	m := newModel(context.Background(), o)
	m.resize(w, h)
	return m.View().Content
}

// state is what the screens draw.
type state struct {
	event.View
	now time.Time
}
