package render

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// Replay feeds the recorded envelopes of r into the sink, at the pace of the
// recording times speed: at 2 a run takes half its time, at 0 or less none.
// What a sink draws itself between two events, such as how long a step has been
// running, keeps to that pace. The sink is not closed.
//
// A recording may hold many runs; the time between one's end and the next's
// beginning is left out. A line that can't be read is too: the rest is played
// and the first such line is the error that is returned.
func Replay(ctx context.Context, r io.Reader, sink Sink, speed float64) error {
	speed = max(0, speed)
	if s, ok := sink.(interface{ Pace(speed float64) }); ok {
		s.Pace(speed)
	}
	var torn error
	unread := 0
	var began time.Time // when the run's first event was played
	var first, last event.Envelope
	for e, err := range event.Read(r) {
		if err != nil {
			if unread++; torn == nil {
				torn = err
			}
			continue
		}
		if e.Run != last.Run {
			began, first = time.Now(), e
		}
		if speed > 0 {
			due := began.Add(time.Duration(float64(e.Time.Sub(first.Time)) / speed))
			if err := waitUntil(ctx, due); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := sink.Handle(e); err != nil {
			return fmt.Errorf("replay event %d: %w", e.Seq, err)
		}
		last = e
	}
	switch unread {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("replay: %w", torn)
	default:
		return fmt.Errorf("replay: %d lines could not be read, the first: %w", unread, torn)
	}
}

// waitUntil waits for the time, or for the end of ctx.
func waitUntil(ctx context.Context, due time.Time) error {
	left := time.Until(due)
	if left <= 0 {
		return nil
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
