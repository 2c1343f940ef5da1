package live

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// recorder keeps what is emitted.
type recorder struct {
	mu  sync.Mutex
	all []event.Payload
}

func (r *recorder) emit(p event.Payload) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, p)
}

// take returns the payloads of one type since the last take, and drops the others.
func take[P event.Payload](r *recorder) []P {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []P
	for _, p := range r.all {
		if p, ok := p.(P); ok {
			list = append(list, p)
		}
	}
	r.all = nil
	return list
}

// running runs f until the test ends.
func running(t *testing.T, f func(context.Context)) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); f(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

func TestALostFeedSaysSoOnceAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{}
		l := newLive(Sources{}, r.emit)
		var lost atomic.Bool
		var attempts atomic.Int32
		running(t, func(ctx context.Context) {
			l.keep(ctx, "alerts", l.poll(time.Second, func(context.Context) error {
				attempts.Add(1)
				if lost.Load() {
					return errors.New("connection refused")
				}
				return nil
			}))
		})
		<-time.After(1500 * time.Millisecond)
		if got := take[event.ObjectEvent](r); len(got) != 0 {
			t.Fatalf("said %+v while all is well", got)
		}

		lost.Store(true)
		attempts.Store(0)
		<-time.After(30 * time.Second)
		got := take[event.ObjectEvent](r)
		if len(got) != 1 || got[0].Reason != "Stale" || got[0].Type != event.Warning || got[0].Object != "feed/alerts" {
			t.Fatalf("said %+v, want once that it is stale", got)
		}
		if n := attempts.Load(); n < 30/8 || n > 20 {
			t.Errorf("%d attempts in 30 s, want them to back off to some seconds", n)
		}

		lost.Store(false)
		<-time.After(2 * lastRetry)
		got = take[event.ObjectEvent](r)
		if len(got) != 1 || got[0].Reason != "Back" || got[0].Type != event.Normal {
			t.Fatalf("said %+v, want once that it is back", got)
		}
	})
}

func TestALookOfAPollIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLive(Sources{}, func(event.Payload) {})
		began := time.Now()
		err := l.poll(time.Second, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() })(t.Context(), func() {})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("ended with %v after %s, want the deadline after 1s", err, time.Since(began))
		}
	})
}

func TestRunEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			Run(ctx, Sources{Prometheus: &prometheus{err: errors.New("down")}, Refresh: make(chan string)}, func(event.Payload) {})
		}()
		<-time.After(time.Minute)
		cancel()
		synctest.Wait()
		if !isClosed(done) {
			t.Error("Run goes on after its context")
		}
	})
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
