package live

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// The times between attempts to get a lost source back.
const (
	firstRetry = 500 * time.Millisecond
	lastRetry  = 5 * time.Second
)

// keep runs a feed again and again until ctx ends. run calls up whenever it
// is in contact with its source and returns when it has lost it. Losing it and
// getting it back is told, once each.
func (l *live) keep(ctx context.Context, name string, run func(ctx context.Context, up func()) error) {
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = firstRetry, lastRetry
	var since time.Time // when the source was lost; zero while it is not
	told := func(kind event.Severity, reason, message string) {
		l.emit(event.ObjectEvent{
			Type: kind, Source: "sandbox", Object: "feed/" + name, Reason: reason, Message: message, Last: time.Now(),
		})
	}
	for {
		err := run(ctx, func() {
			retry.Reset()
			if !since.IsZero() {
				told(event.Normal, "Back", "seen again after "+time.Since(since).Round(time.Second).String())
				since = time.Time{}
			}
		})
		if ctx.Err() != nil {
			return
		}
		if since.IsZero() {
			since = time.Now()
			told(event.Warning, "Stale", fmt.Sprintf("not seen since %s: %v", since.Format(time.TimeOnly), err))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(retry.NextBackOff()):
		}
	}
}

// poll is a feed that looks at each interval. A look may take no longer.
func (l *live) poll(interval time.Duration, look func(context.Context) error) func(context.Context, func()) error {
	return func(ctx context.Context, up func()) error {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			bounded, cancel := context.WithTimeout(ctx, interval)
			err := look(bounded)
			cancel()
			if err != nil {
				return err
			}
			up()
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
		}
	}
}

// signal says that something has changed since it was last received.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

func (s signal) set() {
	select {
	case s <- struct{}{}:
	default: // it is set already
	}
}

// flag is a bool for several goroutines.
type flag struct{ atomic.Bool }

// during holds the flag until the function it returns is called.
func (f *flag) during() func() {
	f.Store(true)
	return func() { f.Store(false) }
}
