package render

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// What a run has left on the screen at its end, a replay at any speed leaves
// too.
func TestReplayEndsAsTheRunDid(t *testing.T) {
	for name, moments := range map[string][]moment{"succeeds": succeeding, "fails": failing, "blocked": blocked} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sink, live := newScreen(t, Style{Color: true}, 100, 24)
				var recording bytes.Buffer
				play(t, both{sink, NewJSON(&recording)}, moments)
				for _, speed := range []float64{0, 0.5, 1, 60} {
					sink, replayed := newScreen(t, Style{Color: true}, 100, 24)
					err := errors.Join(Replay(context.Background(), bytes.NewReader(recording.Bytes()), sink, speed), sink.Close())
					if err != nil {
						t.Fatal(err)
					}
					if replayed.text() != live.text() {
						t.Errorf("at speed %v:\n%s\nthe run itself:\n%s", speed, replayed.text(), live.text())
					}
				}
			})
		})
	}
}

// both hands a run to two sinks.
type both struct{ a, b Sink }

func (s both) Handle(e event.Envelope) error { return errors.Join(s.a.Handle(e), s.b.Handle(e)) }
func (s both) Close() error                  { return errors.Join(s.a.Close(), s.b.Close()) }

// recorder keeps when it got each envelope.
type recorder struct {
	began time.Time
	at    []time.Duration
}

func (r *recorder) Handle(event.Envelope) error {
	r.at = append(r.at, time.Since(r.began))
	return nil
}

func (r *recorder) Close() error { return nil }

// recorded returns a recording with an envelope at each of the times.
func recorded(t *testing.T, run string, start time.Time, at ...time.Duration) string {
	t.Helper()
	var out bytes.Buffer
	sink := NewJSON(&out)
	for i, d := range at {
		if err := sink.Handle(event.Envelope{Schema: 1, Run: run, Seq: uint64(i + 1), Time: start.Add(d), StepStarted: &event.StepStarted{ID: "aws"}}); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

// A replay keeps the recorded pace, and leaves out the time between two runs.
func TestReplayPace(t *testing.T) {
	recording := recorded(t, "one", now, 0, time.Second, 10*time.Second) + recorded(t, "two", now.Add(24*time.Hour), 0, 4*time.Second)
	for speed, want := range map[float64]string{
		-1: "[0s 0s 0s 0s 0s]", 0: "[0s 0s 0s 0s 0s]", 1: "[0s 1s 10s 10s 14s]", 2: "[0s 500ms 5s 5s 7s]", 0.5: "[0s 2s 20s 20s 28s]",
	} {
		synctest.Test(t, func(t *testing.T) {
			r := &recorder{began: time.Now()}
			if err := Replay(context.Background(), strings.NewReader(recording), r, speed); err != nil {
				t.Fatal(err)
			}
			if got := fmt.Sprint(r.at); got != want {
				t.Errorf("at speed %v: %s, want %s", speed, got, want)
			}
		})
	}
}

// What a sink draws between two events keeps to the pace as well.
func TestReplayClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink, screen := newScreen(t, Style{}, 80, 24)
		recording := recorded(t, "one", now, 0, 10*time.Minute)
		played := make(chan error)
		go func() { played <- Replay(context.Background(), strings.NewReader(recording), sink, 60) }()
		<-time.After(5050 * ms)
		synctest.Wait()
		if want := "~ running   aws   5m00s"; !strings.Contains(screen.text(), want) {
			t.Errorf("after five seconds at 60 times the pace there is no %q:\n%s", want, screen.text())
		}
		if err := errors.Join(<-played, sink.Close()); err != nil {
			t.Fatal(err)
		}
	})
}

// Lines that can't be read cost no more than themselves.
func TestReplayTorn(t *testing.T) {
	recording := recorded(t, "one", now, 0, time.Second)
	torn := "{\"schema\":1,\"ru\n" + recording + "{\"schema\":99}\n"
	r := &recorder{began: time.Now()}
	err := Replay(context.Background(), strings.NewReader(torn), r, 0)
	if err == nil || !strings.Contains(err.Error(), "2 lines could not be read") || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("got %v", err)
	}
	if len(r.at) != 2 {
		t.Errorf("%d envelopes were played, want 2", len(r.at))
	}
	if err := Replay(context.Background(), strings.NewReader("nonsense\n"), r, 0); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("one bad line: %v", err)
	}
}

func TestReplayStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		recording := recorded(t, "one", now, 0, time.Hour)
		if err := Replay(ctx, strings.NewReader(recording), &recorder{}, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want the context's error", err)
		}
		broken := errors.New("broken")
		if err := Replay(context.Background(), strings.NewReader(recording), brokenSink{broken}, 1); !errors.Is(err, broken) {
			t.Errorf("got %v, want the sink's error", err)
		}
	})
}

type brokenSink struct{ err error }

func (s brokenSink) Handle(event.Envelope) error { return s.err }
func (s brokenSink) Close() error                { return nil }

// Where a file holds many runs, each is drawn as its own.
func TestRunsOneAfterAnother(t *testing.T) {
	for _, mode := range []Mode{ModeTTY, ModePlain, ModeGitHub, ModeAccessible} {
		var buf bytes.Buffer
		sink, err := New(mode, &buf, Style{})
		if err != nil {
			t.Fatal(err)
		}
		for _, run := range []string{"one", "two"} {
			for i, p := range []event.Envelope{
				{PlanReady: &event.PlanReady{Stack: "web-app", Command: "up", Steps: []event.PlanStep{{ID: "aws"}}}},
				{StepFinished: &event.StepFinished{ID: "aws", Outcome: event.Failed, Error: &event.Problem{What: "no space left"}}},
				{RunFinished: &event.RunFinished{Error: &event.Problem{What: "no space left"}}},
			} {
				p.Schema, p.Run, p.Seq, p.Time = 1, run, uint64(i+1), now
				if err := sink.Handle(p); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := sink.Close(); err != nil {
			t.Fatal(err)
		}
		said := strings.Count(strings.ToLower(buf.String()), "no space left")
		if mode == ModeGitHub {
			said /= 3 // the line, and the annotation's title and text
		}
		if said != 2 {
			t.Errorf("%s draws the problem %d times for two runs:\n%s", mode, said, buf.String())
		}
	}
}
