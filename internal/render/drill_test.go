package render

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/charmbracelet/x/exp/golden"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// drillRun is a recording of a `sandbox alerts drill` of two alerts, the first of
// which passes; the other one fails, as the expression of its rule stays false.
func drillRun(t *testing.T) []byte {
	t.Helper()
	recording, err := os.ReadFile("testdata/drills.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	return recording
}

// replayed returns what a sink makes of a recording, played at its own pace.
func replayed(t *testing.T, recording []byte, open func(*bytes.Buffer) Sink) (out string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var buf bytes.Buffer
		sink := open(&buf)
		err := Replay(context.Background(), bytes.NewReader(recording), sink, 1)
		if err := errors.Join(err, sink.Close()); err != nil {
			t.Fatal(err)
		}
		out = buf.String()
	})
	return out
}

func TestDrill(t *testing.T) {
	mode := func(mode Mode, style Style) func(*bytes.Buffer) Sink {
		return func(buf *bytes.Buffer) Sink {
			sink, err := New(mode, buf, style)
			if err != nil {
				t.Fatal(err)
			}
			return sink
		}
	}
	for name, open := range map[string]func(*bytes.Buffer) Sink{
		"plain":        mode(ModePlain, Style{}),
		"plain colour": mode(ModePlain, Style{Color: true, Width: 100}),
		"plain narrow": mode(ModePlain, Style{Width: 72}),
		"plain ascii":  mode(ModePlain, Style{ASCII: true}),
		"github":       github(Style{}),
		"accessible":   mode(ModeAccessible, Style{}),
		"quiet":        mode(ModeQuiet, Style{}),
	} {
		t.Run(name, func(t *testing.T) {
			out := replayed(t, drillRun(t), open)
			if name == "github" {
				commands(t, out)
			}
			golden.RequireEqual(t, out)
		})
	}
}

// The screen at some times of the drills, and what is left at their end.
func TestDrillTTY(t *testing.T) {
	for _, size := range [][2]int{{72, 14}, {80, 24}, {160, 45}} {
		for name, style := range map[string]Style{"colour": {Color: true}, "ascii": {ASCII: true}} {
			t.Run(fmt.Sprintf("%dx%d %s", size[0], size[1], name), func(t *testing.T) {
				recording := drillRun(t)
				synctest.Test(t, func(t *testing.T) {
					sink, screen := newScreen(t, style, size[0], size[1])
					var out strings.Builder
					began := time.Now()
					played := make(chan error)
					go func() { played <- Replay(context.Background(), bytes.NewReader(recording), sink, 1) }()
					for _, at := range []time.Duration{1050 * ms, 5050 * ms, 30050 * ms, 50050 * ms, 100050 * ms} {
						<-time.After(time.Until(began.Add(at)))
						synctest.Wait()
						fmt.Fprintf(&out, "at %s:\n%s\n", at, screen.text())
						checkLines(t, screen, style)
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

// A replay of drills is their stream again: written anew, it is the same.
func TestDrillReplay(t *testing.T) {
	recording := drillRun(t)
	again := replayed(t, recording, func(buf *bytes.Buffer) Sink { return NewJSON(buf) })
	if again != string(recording) {
		t.Error("the replay differs from the recording")
	}
}

// The report has a case for each drill, with the link that is broken and the
// times of the stages.
func TestDrillJUnit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "drills.xml")
	sink, err := NewJUnit(path)
	if err != nil {
		t.Fatal(err)
	}
	err = Replay(context.Background(), bytes.NewReader(drillRun(t)), sink, 0)
	if err := errors.Join(err, sink.Close()); err != nil {
		t.Fatal(err)
	}
	out, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var report testSuites
	if err := xml.Unmarshal(out, &report); err != nil {
		t.Fatal(err)
	}
	passed, failed := report.Suites[0].Cases[0], report.Suites[0].Cases[1]
	if passed.Failure != nil || !strings.Contains(passed.SystemOut, "+31s  firing in Prometheus") {
		t.Errorf("the drill that passed: %+v", passed)
	}
	if f := failed.Failure; f == nil || !strings.HasPrefix(f.Text, "broken link: expression false\nits value is 0") || !strings.Contains(f.Message, "does not fire within") {
		t.Errorf("the drill that failed: %+v", f)
	}
	if !strings.Contains(failed.SystemOut, "failed  pending in Prometheus") {
		t.Errorf("the drill that failed says:\n%s", failed.SystemOut)
	}
	golden.RequireEqual(t, out)
}

// What is known of an earlier drill is not part of this run.
func TestAnEarlierDrillIsNoNews(t *testing.T) {
	for _, mode := range []Mode{ModePlain, ModeAccessible, ModeGitHub} {
		old := event.DrillChanged{Alert: "Down", State: event.DrillPassed, Started: time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)}
		for _, name := range event.DrillStages {
			old.Stages = append(old.Stages, event.DrillStage{Name: name, State: event.StageDone, At: old.Started})
		}
		out := drawn(t, mode, Style{}, []moment{
			{0, event.PlanReady{Stack: "web-app", Command: "alerts drill", Steps: []event.PlanStep{{ID: "drill/Down"}, {ID: "drill/Slow"}}}},
			{0, event.StepStarted{ID: "drill/Down"}},
			{ms, old},
			{2 * ms, event.DrillChanged{Alert: "Elsewhere", Started: old.Started, Stages: old.Stages}},
		})
		if strings.Contains(out, string(event.StagePending)) {
			t.Errorf("%s draws what is over:\n%s", mode, out)
		}
	}
}
