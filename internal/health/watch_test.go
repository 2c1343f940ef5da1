package health

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// fixed is a probe that always finds the same.
func fixed(found ...event.Health) Probe {
	return func(context.Context) []event.Health { return found }
}

// hang is a probe that never answers, whatever its context says.
func hang(release <-chan struct{}) Probe {
	return func(context.Context) []event.Health { <-release; return nil }
}

func TestCollectDoesNotWaitForTheSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		defer close(release)
		began := time.Now()
		got := Collect(t.Context(), []Source{
			{Name: "slow", Components: []string{"cluster", "cluster/node/a"}, Probe: hang(release)},
			{Name: "aws", Components: []string{"aws"}, Probe: fixed(event.Health{Component: "aws", State: event.StateOK})},
		}, 2*time.Second, nil)
		if took := time.Since(began); took != 2*time.Second {
			t.Errorf("took %s, want the deadline of 2s", took)
		}
		want := []event.Health{
			{Component: "aws", State: event.StateOK},
			{Component: "cluster", State: event.StateStale, Reason: "no answer within 2s"},
			{Component: "cluster/node/a", State: event.StateStale, Reason: "no answer within 2s"},
		}
		if !slices.Equal(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	})
}

func TestCollectSaysThatItWasInterrupted(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	got := Collect(ctx, []Source{{Components: []string{"aws"}, Probe: hang(release)}}, time.Hour, nil)
	want := []event.Health{{Component: "aws", State: event.StateStale, Reason: "not asked to the end: context canceled"}}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// watching runs a Watcher in the background and returns its emissions so far.
func watching(t *testing.T, w Watcher) func() []event.Health {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var said []event.Health
	w.Emit = func(h event.HealthChanged) { said = append(said, h.Health) }
	done := make(chan struct{})
	go func() { defer close(done); w.Watch(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return func() []event.Health {
		synctest.Wait() // all goroutines of the watcher are idle
		out := said
		said = nil
		return out
	}
}

func TestWatchSaysOnlyWhatChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var state atomic.Value
		state.Store(event.Health{Component: "aws", State: event.StateWorking, Reason: "starting"})
		said := watching(t, Watcher{
			Interval: time.Second, Deadline: time.Second,
			Sources: []Source{{Name: "aws", Probe: func(context.Context) []event.Health {
				return []event.Health{state.Load().(event.Health)}
			}}},
		})
		expect := func(want ...event.Health) {
			t.Helper()
			if got := said(); !slices.Equal(got, want) {
				t.Fatalf("at %s said %+v\nwant %+v", time.Since(start), got, want)
			}
		}
		expect(event.Health{Component: "aws", State: event.StateWorking, Reason: "starting"})

		<-time.After(2500 * time.Millisecond)
		expect()

		state.Store(event.Health{Component: "aws", State: event.StateWorking, Reason: "s3 is starting"})
		<-time.After(time.Second)
		expect(event.Health{Component: "aws", State: event.StateWorking, Reason: "s3 is starting"})

		state.Store(event.Health{Component: "aws", State: event.StateOK})
		<-time.After(time.Second)
		expect(event.Health{Component: "aws", State: event.StateOK, Since: start.Add(4 * time.Second)})
	})
}

func TestWatchTurnsTheLostStaleAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var lost atomic.Bool
		var looks atomic.Int32
		gate := make(chan struct{})
		said := watching(t, Watcher{
			Interval: time.Second, Deadline: 2 * time.Second,
			Sources: []Source{
				{Name: "emulator", Components: []string{"aws", "aws/sqs"}, Probe: func(context.Context) []event.Health {
					looks.Add(1)
					if lost.Load() {
						<-gate
					}
					return []event.Health{{Component: "aws", State: event.StateOK, Reason: "2 services"}, {Component: "aws/s3", State: event.StateOK}}
				}},
				{Name: "cluster", Probe: fixed(event.Health{Component: "cluster", State: event.StateOK})},
			},
		})
		if got := said(); len(got) != 4 {
			t.Fatalf("first look said %+v, want 4 components", got)
		}

		lost.Store(true)
		<-time.After(3 * time.Second) // the look at 1 s overruns at 3 s
		since := start.Add(3 * time.Second)
		want := []event.Health{
			{Component: "aws", State: event.StateStale, Reason: "no answer within 2s; was ok (2 services)", Since: since},
			{Component: "aws/s3", State: event.StateStale, Reason: "no answer within 2s; was ok", Since: since, Blames: "aws"},
			{Component: "aws/sqs", State: event.StateStale, Reason: "no answer within 2s; was stale (emulator does not report on it)", Blames: "aws"},
		}
		if got := said(); !slices.Equal(got, want) {
			t.Fatalf("said %+v\nwant %+v", got, want)
		}
		<-time.After(time.Minute)
		if got := said(); len(got) != 0 {
			t.Errorf("a source that stays silent was reported again: %+v", got)
		}
		if n := looks.Load(); n != 2 {
			t.Errorf("%d looks, want 2: the hanging one must not be started again", n)
		}

		lost.Store(false)
		close(gate)
		<-time.After(time.Second)
		now := time.Now()
		want = []event.Health{
			{Component: "aws", State: event.StateOK, Reason: "2 services", Since: now},
			{Component: "aws/s3", State: event.StateOK, Since: now},
			{Component: "aws/sqs", State: event.StateStale, Reason: "emulator does not report on it"},
		}
		if got := said(); !slices.Equal(got, want) {
			t.Errorf("said %+v\nwant %+v", got, want)
		}
	})
}

// What one source finds changes what is said of another's components.
func TestWatchResolvesAcrossSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cluster atomic.Value
		cluster.Store(event.StateOK)
		said := watching(t, Watcher{
			Interval: time.Second, Deadline: time.Second,
			Sources: []Source{
				{Probe: func(context.Context) []event.Health {
					return []event.Health{{Component: "cluster", State: cluster.Load().(event.State)}}
				}},
				{Probe: fixed(event.Health{Component: "release/a", State: event.StateOK})},
			},
		})
		said()
		cluster.Store(event.StateFailed)
		<-time.After(time.Second)
		got := said()
		if len(got) != 2 || got[1].Component != "release/a" || got[1].State != event.StateStale || got[1].Blames != "cluster" {
			t.Errorf("said %+v, want the cluster failed and the release stale because of it", got)
		}
	})
}

func TestWatchSaysThatAComponentIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var gone atomic.Bool
		said := watching(t, Watcher{
			Interval: time.Second, Deadline: time.Second,
			Sources: []Source{{Probe: func(context.Context) []event.Health {
				if gone.Load() {
					return nil
				}
				return []event.Health{{Component: "release/a/Deployment/x", State: event.StateOK}}
			}}},
		})
		said()
		gone.Store(true)
		<-time.After(3 * time.Second)
		got := said()
		if len(got) != 1 || got[0].State != event.StateOff || got[0].Reason != "no longer there" {
			t.Errorf("said %+v, want once that it is no longer there", got)
		}
	})
}

// What the probes use is closed when Watch has returned.
func TestWatchWaitsForTheLookUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var looking atomic.Bool
		looking.Store(true)
		go func() { <-time.After(time.Second); cancel() }()
		Watcher{
			Interval: time.Second, Deadline: time.Minute, Emit: func(event.HealthChanged) {},
			Sources: []Source{{Probe: func(ctx context.Context) []event.Health {
				<-ctx.Done()
				<-time.After(500 * time.Millisecond) // to clean up
				looking.Store(false)
				return nil
			}}},
		}.Watch(ctx)
		if looking.Load() {
			t.Error("Watch returned while a probe was looking")
		}
	})
}

func TestWatchLooksWhenItIsWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looks atomic.Int32
		wake := make(chan struct{}, 1)
		said := watching(t, Watcher{
			Interval: time.Hour, Deadline: time.Second,
			Sources: []Source{{Wake: wake, Probe: func(context.Context) []event.Health {
				return []event.Health{{Component: "aws", State: event.StateOK, Reason: string('a' + looks.Add(1))}}
			}}},
		})
		said()
		wake <- struct{}{}
		if got := said(); len(got) != 1 || looks.Load() != 2 {
			t.Errorf("%d looks, said %+v", looks.Load(), got)
		}
	})
}
