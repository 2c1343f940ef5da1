package render

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/charmbracelet/x/exp/golden"
	"go.uber.org/goleak"

	"github.com/sandbox-stack/sandbox/internal/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// moment is something that happens some time into a run.
type moment struct {
	at time.Duration
	event.Payload
}

// play emits the moments at their time, by the bubble's clock, and closes the
// sink. All but those at 0 come a millisecond late, so that none comes together
// with a tick of the sink's clock.
func play(t *testing.T, sink Sink, moments []moment) {
	t.Helper()
	began := time.Now()
	log := event.NewLog("run-1", nil, sink)
	for _, m := range moments {
		if m.at > 0 {
			m.at += ms
		}
		<-time.After(time.Until(began.Add(m.at)))
		log.Emit(m.Payload)
		synctest.Wait() // it has been drawn before the next happens
	}
	if err := errors.Join(log.Close(), sink.Close()); err != nil {
		t.Fatal(err)
	}
}

// drawn returns what a mode makes of the moments.
func drawn(t *testing.T, mode Mode, style Style, moments []moment) (out string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var buf bytes.Buffer
		sink, err := New(mode, &buf, style)
		if err != nil {
			t.Fatal(err)
		}
		play(t, sink, moments)
		out = buf.String()
	})
	return out
}

const ms = time.Millisecond

var plan = event.PlanReady{
	Stack: "web-app", Command: "up", Engine: "podman 4.3.1",
	Steps: []event.PlanStep{
		{ID: "network", Title: "network"},
		{ID: "cluster", Title: "cluster", After: []string{"network"}},
		{ID: "aws", Title: "aws emulator", After: []string{"network"}},
		{ID: "observe/prometheus", Title: "prometheus"},
		{ID: "observe/grafana", Title: "grafana"},
		{ID: "release/web-app", Title: "release web-app", After: []string{"cluster"}},
		{ID: "health", Title: "health"},
	},
}

var succeeding = []moment{
	{0, plan},
	{0, event.StepStarted{ID: "network"}},
	{30 * ms, event.StepFinished{ID: "network", Outcome: event.Unchanged, Elapsed: 30 * ms}},
	{40 * ms, event.StepStarted{ID: "cluster"}},
	{40 * ms, event.StepStarted{ID: "aws"}},
	{40 * ms, event.StepStarted{ID: "observe/prometheus"}},
	{50 * ms, event.StepFinished{ID: "observe/grafana", Outcome: event.Off, Note: "image unavailable: no registry can be reached and no package has it"}},
	{900 * ms, event.StepFinished{ID: "observe/prometheus", Outcome: event.Done, Note: "started", Elapsed: 860 * ms}},
	{2 * time.Second, event.StepProgress{ID: "cluster", Progress: event.Progress{Text: "starting the control plane"}}},
	{3 * time.Second, event.StepProgress{ID: "aws", Progress: event.Progress{Text: "waiting for services", Done: 3, Total: 7, Unit: "services", Blockers: []string{"sqs: starting", "kms: starting", "iam: starting", "ssm: starting"}}}},
	{3 * time.Second, event.StepLog{ID: "aws", Source: "localstack", Line: "\x1b[31mready\x1b[0m soon"}},
	{14200 * ms, event.StepFinished{ID: "aws", Outcome: event.Done, Note: "7 services", Elapsed: 14160 * ms}},
	{26 * time.Second, event.StepProgress{ID: "cluster", Progress: event.Progress{Text: "loading image", Done: 12e6, Total: 225e6, Unit: "bytes"}}},
	{63900 * ms, event.StepFinished{ID: "cluster", Outcome: event.Done, Note: "1 node", Elapsed: 63860 * ms}},
	{63900 * ms, event.HealthChanged{Health: event.Health{Component: "cluster", State: event.StateOK, Reason: "1 of 1 nodes ready"}}},
	{65 * time.Second, event.StepStarted{ID: "release/web-app"}},
	{66100 * ms, event.HealthChanged{Health: event.Health{Component: "release/web-app", State: event.StateDegraded, Reason: "Deployment/web-app 1 of 3: connect ECONNREFUSED", Blames: "aws"}}},
	{67 * time.Second, event.HealthChanged{Health: event.Health{Component: "release/web-app", State: event.StateOK, Reason: "3 of 3 ready"}}},
	{68 * time.Second, event.AlertChanged{Rule: "WebAppDown", State: "inactive"}},
	{69 * time.Second, event.AlertChanged{Rule: "WebAppDown", State: "firing", Labels: map[string]string{"severity": "critical", "namespace": "production"}}},
	{70 * time.Second, event.AlertChanged{Rule: "WebAppDown", State: "inactive", Labels: map[string]string{"severity": "critical", "namespace": "production"}}},
	{71 * time.Second, event.StepFinished{ID: "release/web-app", Outcome: event.Done, Note: "revision 1", Elapsed: 6 * time.Second}},
	{71 * time.Second, event.StepFinished{ID: "health", Outcome: event.Done, Elapsed: 20 * ms}},
	{71 * time.Second, event.RunFinished{OK: true, Elapsed: 71 * time.Second}},
}

var failure = event.Problem{
	Code: "failed", What: "release web-app is not ready after 5m00s",
	Why: "Deployment/web-app 1 of 3: CrashLoopBackOff\ncontainer web-app: exit 1, 4 restarts",
	Try: "sandbox logs release/web-app",
	Log: []string{"{\"level\":\"error\",\"msg\":\"no such host queue.local\"}", "", "npm error code 1"},
}

var failing = []moment{
	{0, plan},
	{0, event.StepStarted{ID: "cluster"}},
	{500 * ms, event.StepFinished{ID: "cluster", Outcome: event.Unchanged, Elapsed: 500 * ms}},
	{600 * ms, event.StepStarted{ID: "aws"}},
	{700 * ms, event.StepLog{ID: "aws", Source: "localstack", Line: "Traceback:"}},
	{800 * ms, event.StepLog{ID: "aws", Source: "localstack", Line: "OSError: [Errno 28] No space left on device"}},
	{900 * ms, event.StepFinished{ID: "aws", Outcome: event.Failed, Elapsed: 300 * ms, Error: &event.Problem{Code: "failed", What: "the emulator stopped", Why: "exit code 1"}}},
	{1000 * ms, event.StepStarted{ID: "release/web-app"}},
	{6 * time.Second, event.StepFinished{ID: "release/web-app", Outcome: event.Failed, Elapsed: 5 * time.Minute, Error: &failure}},
	{6 * time.Second, event.StepFinished{ID: "health", Outcome: event.Skipped}},
	{7 * time.Second, event.RunFinished{Elapsed: 7 * time.Second, Error: &failure}},
}

func TestPlain(t *testing.T) {
	for name, tc := range map[string]struct {
		style   Style
		moments []moment
	}{
		"succeeds":           {Style{}, succeeding},
		"succeeds in colour": {Style{Color: true, Width: 100}, succeeding},
		"succeeds narrow":    {Style{Width: 64}, succeeding},
		"succeeds ascii":     {Style{ASCII: true}, succeeding},
		"fails":              {Style{}, failing},
		"fails in colour":    {Style{Color: true, Width: 100}, failing},
	} {
		t.Run(name, func(t *testing.T) { golden.RequireEqual(t, drawn(t, ModePlain, tc.style, tc.moments)) })
	}
}

func TestPlainWithLogs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var buf bytes.Buffer
		sink := NewPlain(&buf, Style{})
		sink.Logs = true
		play(t, sink, failing[:6])
		if want := "│ aws localstack: OSError: [Errno 28]"; !strings.Contains(buf.String(), want) {
			t.Errorf("got:\n%s\nwant %q in it", buf.String(), want)
		}
	})
}

// A run that is interrupted says so, and a problem that no step had is drawn.
func TestPlainEndings(t *testing.T) {
	interrupted := drawn(t, ModePlain, Style{}, []moment{
		{0, plan},
		{0, event.StepStarted{ID: "cluster"}},
		{500 * ms, event.StepFinished{ID: "cluster", Outcome: event.Canceled, Elapsed: 500 * ms}},
		{500 * ms, event.RunFinished{Elapsed: 500 * ms}},
	})
	if want := "✗ up web-app: interrupted"; strings.Contains(interrupted, want) || !strings.Contains(interrupted, "! up web-app: interrupted after 0.5s (1 canceled)") {
		t.Errorf("got:\n%s", interrupted)
	}
	early := drawn(t, ModePlain, Style{}, []moment{
		{0, event.RunFinished{Elapsed: 10 * ms, Error: &event.Problem{Code: "unavailable", What: "no container engine answers", Try: "sudo apt-get install podman"}}},
	})
	for _, want := range []string{"✗ run", "no container engine answers", "Try: sudo apt-get install podman"} {
		if !strings.Contains(early, want) {
			t.Errorf("got:\n%s\nwant %q in it", early, want)
		}
	}
}

// Plain is never silent for more than ten seconds while something runs, and
// silent when nothing does.
func TestPlainHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var times []time.Time
		sink := NewPlain(writerFunc(func(b []byte) (int, error) { times = append(times, time.Now()); return len(b), nil }), Style{})
		began := time.Now()
		play(t, sink, []moment{
			{0, event.StepStarted{ID: "cluster"}},
			{2 * time.Minute, event.StepFinished{ID: "cluster", Outcome: event.Done}},
			{10 * time.Minute, event.StepLog{ID: "cluster", Line: "late"}},
		})
		last := began
		for _, at := range times {
			if gap := at.Sub(last); gap > heartbeat {
				t.Errorf("silent for %s until %s", gap, at.Sub(began))
			}
			last = at
		}
		if n := len(times); n < 12 || n > 15 {
			t.Errorf("%d outputs in two minutes, want one in ten seconds", n)
		}
		if end := last.Sub(began); end != 2*time.Minute+ms {
			t.Errorf("the last output came at %s, want it with the end of the step", end)
		}
	})
}

// A replay has the times of the recording, whenever it is drawn.
func TestPlainReplay(t *testing.T) {
	var buf bytes.Buffer
	sink := NewPlain(&buf, Style{})
	at := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	for i, e := range []event.Envelope{
		{Schema: 1, Run: "r", Seq: 1, Time: at, StepStarted: &event.StepStarted{ID: "aws"}},
		{Schema: 1, Run: "r", Seq: 2, Time: at.Add(90 * time.Second), StepFinished: &event.StepFinished{ID: "aws", Outcome: event.Done, Elapsed: 90 * time.Second}},
	} {
		if err := sink.Handle(e); err != nil {
			t.Fatalf("event %d: %v", i, err)
		}
	}
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
	if want := " 1m30s  ✓ done      aws"; !strings.Contains(buf.String(), want) {
		t.Errorf("got:\n%s\nwant %q in it", buf.String(), want)
	}
}

func TestJSONRoundTrip(t *testing.T) {
	out := drawn(t, ModeJSON, Style{}, failing)
	n := 0
	for e, err := range event.Read(strings.NewReader(out)) {
		if err != nil {
			t.Fatal(err)
		}
		n++
		if e.Seq != uint64(n) {
			t.Errorf("line %d has sequence %d", n, e.Seq)
		}
	}
	if n != len(failing) {
		t.Errorf("%d lines, want %d", n, len(failing))
	}
}

func TestQuiet(t *testing.T) {
	if out := drawn(t, ModeQuiet, Style{}, succeeding); out != "" {
		t.Errorf("a run without errors drew:\n%s", out)
	}
	golden.RequireEqual(t, drawn(t, ModeQuiet, Style{}, failing))
}

func TestWriteErrorsAreReturned(t *testing.T) {
	broken := errors.New("broken pipe")
	for _, mode := range Modes {
		sink, err := New(mode, writerFunc(func([]byte) (int, error) { return 0, broken }), Style{})
		if err != nil {
			t.Fatal(err)
		}
		at := time.Now()
		err = sink.Handle(event.Envelope{Schema: 1, Run: "r", Seq: 1, Time: at, StepFinished: &event.StepFinished{
			ID: "a", Outcome: event.Failed, Error: &event.Problem{What: "x"},
		}})
		if mode != ModeTTY && !errors.Is(err, broken) { // which draws later
			t.Errorf("%s: Handle returned %v, want the write's error", mode, err)
		}
		remembers := mode != ModeJSON && mode != ModeQuiet
		if err := sink.Close(); remembers && !errors.Is(err, broken) {
			t.Errorf("%s: Close returned %v, want the write's error", mode, err)
		}
	}
}

// Closing early, twice, or before anything happened does no harm.
func TestPlainClose(t *testing.T) {
	var buf bytes.Buffer
	sink := NewPlain(&buf, Style{})
	for range 2 {
		if err := sink.Close(); err != nil {
			t.Fatal(err)
		}
	}
	err := sink.Handle(event.Envelope{Schema: 1, Run: "r", Seq: 1, Time: time.Now(), StepFinished: &event.StepFinished{ID: "late", Outcome: event.Done}})
	if err != nil || !strings.Contains(buf.String(), "late") {
		t.Errorf("after Close: %v, drew %q", err, buf.String())
	}
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestUnknownMode(t *testing.T) {
	if _, err := New("fancy", &bytes.Buffer{}, Style{}); err == nil {
		t.Error("an unknown mode was accepted")
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(b []byte) (int, error) { return f(b) }
