package tui

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// load is a second of a busy stack: 1,000 events and 5,000 log lines.
func load(f *Feed, second int, pause func()) {
	for i := range 1000 {
		e := event.Envelope{Run: "r", Seq: uint64(second*6000 + 6*i + 1), Time: dawn.Add(time.Duration(second)*time.Second + time.Duration(i)*time.Millisecond)}
		name := string(rune('a' + i%20))
		switch i % 4 {
		case 0:
			e.HealthChanged = &event.HealthChanged{Health: event.Health{Component: "release/web/" + name, State: []event.State{event.StateOK, event.StateFailed}[i/4%2]}}
		case 1:
			e.ResourceSample = &event.ResourceSample{Component: "release/web/" + name, CPU: float64(i), Memory: int64(i)}
		case 2:
			e.ObjectEvent = &event.ObjectEvent{Object: "pod/" + name, Reason: "Started"}
		case 3:
			e.StepProgress = &event.StepProgress{ID: "step/" + name, Progress: event.Progress{Done: int64(i)}}
		}
		_ = f.Handle(e)
		for range 5 {
			e = event.Envelope{Run: "r", Seq: e.Seq + 1, Time: e.Time, LogLine: &event.LogLine{Component: "release/web/" + name, Line: "GET /orders 200 4ms, the usual length of a line of an access log"}}
			_ = f.Handle(e)
		}
		pause()
	}
}

// Under load the dashboard gets ten states a second at most, and so ten
// messages: a key that is pressed never waits behind more than one of them.
func TestLoadIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		feed := NewFeed()
		var states atomic.Int64
		var last snapshot
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			seen, notBefore := uint64(0), time.Now()
			for {
				s, ok := feed.next(ctx, seen, notBefore)
				if !ok {
					return
				}
				states.Add(1)
				last, seen, notBefore = s, s.version, time.Now().Add(frameTime)
			}
		}()
		for second := range 3 {
			load(feed, second, func() { time.Sleep(time.Millisecond) }) //nolint:forbidigo // the bubble's clock stands still otherwise
		}
		synctest.Wait()
		busy := states.Load()
		assert.LessOrEqual(t, busy, int64(31))
		assert.GreaterOrEqual(t, busy, int64(28))
		time.Sleep(time.Minute) //nolint:forbidigo // the bubble's clock stands still otherwise
		synctest.Wait()
		assert.LessOrEqual(t, states.Load(), busy+1, "a quiet stack brings nothing new")
		assert.Equal(t, uint64(18_000), last.version)
		assert.Zero(t, last.view.Missed)
		assert.Len(t, last.view.Logs, event.LogTail)
		stop()
		<-ended
	})
}

// A dashboard that is not looked at, or is slow, costs a bounded amount.
func TestFeedIsBounded(t *testing.T) {
	feed := NewFeed()
	for second := range 5 {
		load(feed, second, func() {})
	}
	v := feed.latest().view
	assert.Len(t, v.Logs, event.LogTail)
	assert.LessOrEqual(t, cap(v.Logs), 2*event.LogTail)
	assert.LessOrEqual(t, len(v.Events), event.EventTail)
	for _, s := range v.Samples {
		assert.LessOrEqual(t, len(s), event.SampleTail)
	}
}

func TestFeedWakesAllWhoWait(t *testing.T) {
	feed := NewFeed()
	got := make(chan uint64, 3)
	for range 3 {
		go func() {
			s, _ := feed.next(t.Context(), 0, time.Time{})
			got <- s.version
		}()
	}
	require.NoError(t, feed.Handle(event.Envelope{Run: "r", Seq: 1}))
	for range 3 {
		assert.Equal(t, uint64(1), <-got)
	}
}

// BenchmarkBusySecond is what a second of load costs the dashboard: taking in
// 6,000 envelopes, ten states and ten frames with a key each.
func BenchmarkBusySecond(b *testing.B) {
	for _, s := range []screen{overview, logsScreen} {
		b.Run(s.name(), func(b *testing.B) {
			feed := NewFeed()
			m := newModel(b.Context(), Options{Name: "web", Feed: feed, Now: feed.Now, Color: true})
			m.resize(100, 30)
			m.leaveTo(s)
			for second := 0; b.Loop(); second++ {
				n := 0
				load(feed, second, func() {
					if n++; n%100 == 0 {
						m.Update(snapshotMsg(feed.latest()))
						m.View()
						m.Update(tea.KeyPressMsg{Code: 'j', Text: "j"})
						m.View()
					}
				})
			}
		})
	}
}

// BenchmarkFrame is what one frame costs.
func BenchmarkFrame(b *testing.B) {
	feed := replay(b, recording)
	for _, s := range []screen{overview, stepsScreen, logsScreen, eventsScreen} {
		b.Run(s.name(), func(b *testing.B) {
			m := newModel(b.Context(), Options{Name: "web", Feed: feed, Now: feed.Now, Color: true})
			m.resize(160, 45)
			m.leaveTo(s)
			for b.Loop() {
				m.Update(tickMsg{})
				m.View()
			}
		})
	}
}

// BenchmarkLongLines is what a frame of lines of 64 KiB costs, the longest
// there are.
func BenchmarkLongLines(b *testing.B) {
	for _, wrap := range []bool{false, true} {
		b.Run(fmt.Sprintf("wrap=%t", wrap), func(b *testing.B) {
			feed := NewFeed()
			line := strings.Repeat("日本語 👍 e\u0301 ", 3000)
			for i := range 100 {
				_ = feed.Handle(event.Envelope{Run: "r", Seq: uint64(i + 1), LogLine: &event.LogLine{Component: "aws", Line: line}})
			}
			m := newModel(b.Context(), Options{Name: "web", Feed: feed, Now: feed.Now})
			m.resize(160, 45)
			m.leaveTo(logsScreen)
			m.logs.wrap = wrap
			for b.Loop() {
				m.Update(tea.KeyPressMsg{Code: 'k', Text: "k"})
				m.View()
			}
		})
	}
}

// BenchmarkSearch is what a key costs that is typed into a search, with as many
// lines as are kept.
func BenchmarkSearch(b *testing.B) {
	feed := NewFeed()
	for second := range 2 {
		load(feed, second, func() {})
	}
	m := newModel(b.Context(), Options{Name: "web", Feed: feed, Now: feed.Now})
	m.leaveTo(logsScreen)
	for b.Loop() {
		m.setFilter("timeout|refused")
		m.dirty = true
		m.View()
	}
}
