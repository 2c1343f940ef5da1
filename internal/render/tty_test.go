package render

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/exp/golden"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// firstUp is a recording of a first `sandbox up` on a machine that reaches no
// image registry, without most of its progress and log.
func firstUp(t *testing.T) []byte {
	t.Helper()
	recording, err := os.ReadFile("testdata/first-up.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	return recording
}

// newScreen returns a TTY sink and the terminal it draws on.
func newScreen(t *testing.T, style Style, width, height int) (*TTY, *screen) {
	t.Helper()
	s := &screen{t: t, width: width, height: height}
	return NewTTY(s, style, TTYOptions{Size: s.size}), s
}

// The screen at some times of a recorded run, and what is left at its end.
func TestTTY(t *testing.T) {
	for _, width := range []int{60, 80, 100, 160} {
		for name, style := range map[string]Style{"colour": {Color: true}, "ascii": {ASCII: true}} {
			t.Run(fmt.Sprintf("%d %s", width, name), func(t *testing.T) {
				recording := firstUp(t)
				synctest.Test(t, func(t *testing.T) {
					sink, screen := newScreen(t, style, width, 24)
					var out strings.Builder
					began := time.Now()
					look := func(at time.Duration) {
						<-time.After(time.Until(began.Add(at)))
						synctest.Wait()
						fmt.Fprintf(&out, "at %s:\n%s\n", at, screen.text())
						checkLines(t, screen, style)
					}
					played := make(chan error)
					go func() { played <- Replay(context.Background(), bytes.NewReader(recording), sink, 1) }()
					for _, at := range []time.Duration{1550 * ms, 80050 * ms, 1000050 * ms} {
						look(at)
					}
					if err := errors.Join(<-played, sink.Close()); err != nil {
						t.Fatal(err)
					}
					fmt.Fprintf(&out, "at the end:\n%s\n", screen.text())
					checkLines(t, screen, style)
					golden.RequireEqual(t, out.String())
				})
			})
		}
	}
}

// checkLines checks that no line is wider than the screen or not to be shown.
func checkLines(t *testing.T, s *screen, style Style) {
	t.Helper()
	for line := range strings.SplitSeq(s.text(), "\n") {
		if w := ansi.StringWidth(line); w >= s.width {
			t.Errorf("%d columns on a terminal of %d: %q", w, s.width, line)
		}
		if style.ASCII && strings.ContainsFunc(line, func(r rune) bool { return r > 0x7e }) {
			t.Errorf("not ASCII: %q", line)
		}
	}
}

func TestTTYFails(t *testing.T) {
	for name, style := range map[string]Style{"plain": {}, "colour": {Color: true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sink, screen := newScreen(t, style, 100, 24)
				play(t, sink, failing)
				golden.RequireEqual(t, screen.text())
			})
		})
	}
}

// busy is a view with more going on than any screen has rows for.
func busy() *event.View {
	v := &event.View{Stack: "web-app", Command: "up", Started: now.Add(-time.Minute), Now: now}
	v.Health, v.Alerts = map[string]event.Health{}, map[string]event.AlertChanged{}
	for i := range 10 {
		id := fmt.Sprintf("release/日本語-%d", i)
		v.Steps = append(v.Steps, event.StepView{
			PlanStep: event.PlanStep{ID: id}, Started: now.Add(-time.Duration(i) * time.Second),
			Progress: &event.Progress{
				Text: "waiting for\x1b[2J objects", Done: int64(i), Total: 10, Unit: "objects",
				Blockers: []string{"Deployment/a 0 of 1: \x1b[31mImagePullBackOff", "b", "c", "d", "e"},
			},
			Log: []event.StepLog{{Line: strings.Repeat("wide 日本語 ", 40)}},
		})
		v.Steps = append(v.Steps, event.StepView{PlanStep: event.PlanStep{ID: fmt.Sprintf("later/%d", i)}})
		v.Health[id] = event.Health{Component: id, State: event.StateFailed, Reason: "CrashLoopBackOff", Blames: "aws"}
	}
	v.Alerts["x"] = event.AlertChanged{Rule: "WebAppDown", State: "firing", Labels: map[string]string{"severity": "critical"}}
	return v
}

func busyRegion(style Style) region {
	v := busy()
	r := region{view: v, now: now, style: style, keys: "enter dashboard · ctrl+c stop", logged: map[string]time.Time{}}
	for _, s := range v.Steps {
		r.logged[s.ID] = now
	}
	return r
}

// The region fits into every terminal and leaves a row for the cursor.
func TestRegionFits(t *testing.T) {
	for _, style := range []Style{{}, {Color: true}, {ASCII: true}} {
		r := busyRegion(style)
		for height := range 70 {
			for _, width := range []int{0, 1, 5, 20, 39, 60, 79, 99, 159, 300} {
				lines := r.fit(width, height)
				if len(lines) > max(0, height-1) {
					t.Fatalf("%d lines on %d rows", len(lines), height)
				}
				for _, line := range lines {
					if w := ansi.StringWidth(line); w > width {
						t.Fatalf("%d columns of %d: %q", w, width, line)
					}
					if strings.Contains(line, "\x1b[2J") || strings.Contains(line, "\x1b[31mI") {
						t.Fatalf("foreign control sequence in %q", line)
					}
				}
			}
		}
	}
}

// With fewer rows, the least important lines go first, and what is left out is
// said.
func TestRegionShrinks(t *testing.T) {
	var out strings.Builder
	for _, height := range []int{70, 40, 24, 12, 6, 2} {
		lines := busyRegion(Style{}).fit(79, height)
		fmt.Fprintf(&out, "%d rows:\n%s\n\n", height, strings.Join(lines, "\n"))
	}
	golden.RequireEqual(t, out.String())
}

// Nothing is drawn but for an event or the clock's next second, and never more
// than ten times a second.
func TestTTYDrawsSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink, screen := newScreen(t, Style{}, 80, 24)
		log := event.NewLog("run-1", nil, sink)
		log.Emit(plan)
		log.Emit(event.StepStarted{ID: "cluster"})
		<-time.After(50 * ms)
		synctest.Wait()
		during := func(d time.Duration) int {
			before := screen.drawn()
			<-time.After(d)
			synctest.Wait()
			return screen.drawn() - before
		}
		if n := during(time.Minute); n < 60 || n > 61 {
			t.Errorf("drawn %d times in a minute without events, want once a second", n)
		}
		before := screen.drawn()
		for i := range 1000 {
			log.Emit(event.StepProgress{ID: "cluster", Progress: event.Progress{Text: fmt.Sprint(i)}})
			<-time.After(ms)
		}
		if n := screen.drawn() - before; n < 9 || n > 11 {
			t.Errorf("drawn %d times for a thousand events in a second, want about 10", n)
		}
		log.Emit(event.StepFinished{ID: "cluster", Outcome: event.Done})
		log.Emit(event.RunFinished{OK: true})
		during(time.Second)
		if n := during(time.Minute); n != 0 {
			t.Errorf("drawn %d times in the minute after the run", n)
		}
		if err := errors.Join(log.Close(), sink.Close()); err != nil {
			t.Fatal(err)
		}
	})
}

// A resize leaves no line of the old region behind, though they wrap.
func TestTTYResize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink, screen := newScreen(t, Style{}, 120, 40)
		log := event.NewLog("run-1", nil, sink)
		for _, m := range succeeding[:10] {
			log.Emit(m.Payload)
		}
		for _, size := range [][2]int{{120, 40}, {61, 40}, {40, 30}, {160, 50}, {80, 12}, {80, 24}} {
			screen.resize(size[0], size[1])
			<-time.After(redraw + ms)
			synctest.Wait()
			if n := strings.Count(screen.text(), "─── up web-app"); n != 1 {
				t.Errorf("%d regions at %v:\n%s", n, size, screen.text())
			}
			if n := strings.Count(screen.text(), "✓ unchanged network"); n != 1 {
				t.Errorf("%d lines of a finished step at %v:\n%s", n, size, screen.text())
			}
		}
		if err := errors.Join(log.Close(), sink.Close()); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(screen.text(), "─── ") {
			t.Errorf("the region is still there:\n%s", screen.text())
		}
	})
}

// While a key's hook has the terminal nothing is drawn; what happened is drawn
// after.
func TestTTYHook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &screen{t: t, width: 80, height: 24}
		var log *event.Log
		called := 0
		sink := NewTTY(s, Style{}, TTYOptions{Size: s.size, OnEnter: func() {
			called++
			if strings.Contains(s.text(), "─── ") {
				t.Errorf("the region is on the screen:\n%s", s.text())
			}
			before := s.drawn()
			log.Emit(event.StepFinished{ID: "cluster", Outcome: event.Done})
			<-time.After(time.Minute)
			if s.drawn() != before {
				t.Errorf("drawn %d times while the hook had the terminal", s.drawn()-before)
			}
		}})
		log = event.NewLog("run-1", nil, sink)
		log.Emit(plan)
		log.Emit(event.StepStarted{ID: "cluster"})
		log.Emit(event.StepStarted{ID: "aws"})
		<-time.After(time.Second)
		synctest.Wait()
		sink.key(keyEscape) // has no hook
		sink.key(keyEnter)
		<-time.After(time.Second)
		synctest.Wait()
		for _, want := range []string{"✓ done      cluster", "~ running   aws", "1 of 7 done, 1m02s"} {
			if called != 1 || !strings.Contains(s.text(), want) {
				t.Errorf("after %d calls the screen has no %q:\n%s", called, want, s.text())
			}
		}
		if err := errors.Join(log.Close(), sink.Close()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestTTYNoticeAndLogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &screen{t: t, width: 80, height: 24}
		sink := NewTTY(s, Style{}, TTYOptions{Size: s.size, Logs: true})
		log := event.NewLog("run-1", nil, sink)
		log.Emit(plan)
		log.Emit(event.StepStarted{ID: "aws"})
		log.Emit(event.StepLog{ID: "aws", Source: "localstack", Line: "Ready."})
		<-time.After(time.Second)
		synctest.Wait()
		sink.Notice("stopping\ninterrupt again to stop at once")
		want := "│ aws localstack: Ready.\nstopping\ninterrupt again to stop at once\n─── up web-app"
		if !strings.Contains(s.text(), want) {
			t.Errorf("the screen has no %q:\n%s", want, s.text())
		}
		if err := errors.Join(log.Close(), sink.Close()); err != nil {
			t.Fatal(err)
		}
	})
}

// A run that ends without having finished leaves what was done.
func TestTTYClosedEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sink, screen := newScreen(t, Style{}, 80, 24)
		play(t, sink, succeeding[:8])
		if text := screen.text(); !strings.HasSuffix(text, "started\n") || strings.Contains(text, "running") {
			t.Errorf("got:\n%s", text)
		}
		if err := sink.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestCriticalPath(t *testing.T) {
	at := func(s int) time.Time { return now.Add(time.Duration(s) * time.Second) }
	step := func(id string, from, to int, after ...string) event.StepView {
		return event.StepView{PlanStep: event.PlanStep{ID: id, After: after}, Started: at(from), Finished: at(to), Elapsed: at(to).Sub(at(from)), Outcome: event.Done}
	}
	for name, tc := range map[string]struct {
		steps []event.StepView
		want  string
	}{
		"none":    {nil, ""},
		"slowest": {[]event.StepView{step("a", 0, 5), step("b", 0, 9), step("c", 9, 10, "a", "b"), step("d", 5, 7, "a")}, "b c"},
		"skipped": {[]event.StepView{step("a", 0, 5), {PlanStep: event.PlanStep{ID: "b", After: []string{"a"}}, Finished: at(5), Outcome: event.Skipped}}, "a"},
		"cycle":   {[]event.StepView{step("a", 0, 5, "b"), step("b", 0, 9, "a")}, "a b"},
		"unknown": {[]event.StepView{step("a", 0, 5, "gone")}, "a"},
	} {
		var got []string
		for _, s := range criticalPath(tc.steps) {
			got = append(got, s.ID)
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s: %v, want %s", name, got, tc.want)
		}
	}
}

func TestKeyOf(t *testing.T) {
	for read, want := range map[string]key{"\r": keyEnter, "\n": keyEnter, "\x1b": keyEscape, "\x1b[A": 0, "\x1bOP": 0, "q": 0, "": 0} {
		if got := keyOf([]byte(read)); got != want {
			t.Errorf("keyOf(%q) = %d, want %d", read, got, want)
		}
	}
}
