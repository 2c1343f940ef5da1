package render

import (
	"bytes"
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

// blocked is a run that fails on an object that is named by what the step was
// waiting for, with log lines that would be commands to GitHub and that no XML
// can hold.
var blocked = []moment{
	{0, event.PlanReady{Stack: "web-app", Command: "up", Engine: "podman 4.3.1", Steps: []event.PlanStep{
		{ID: "cluster"}, {ID: "aws"}, {ID: "observe/grafana"}, {ID: "release/web-app", After: []string{"cluster"}}, {ID: "health"},
	}}},
	{0, event.StepStarted{ID: "cluster"}},
	{0, event.StepStarted{ID: "aws"}},
	{0, event.StepFinished{ID: "observe/grafana", Outcome: event.Off, Note: "image unavailable"}},
	{100 * ms, event.StepLog{ID: "aws", Source: "localstack", Line: "::error::you are owned"}},
	{100 * ms, event.StepLog{ID: "aws", Source: "localstack", Line: "##[group]you too \uffff <&\"]]>"}},
	{38200 * ms, event.StepFinished{ID: "cluster", Outcome: event.Done, Note: "::warning::1 node ##[error]x", Elapsed: 38200 * ms}},
	{39 * time.Second, event.StepStarted{ID: "release/web-app"}},
	{40 * time.Second, event.StepProgress{ID: "release/web-app", Progress: event.Progress{
		Text: "waiting for objects", Done: 1, Total: 2, Unit: "objects",
		Blockers: []string{"Deployment/web-app 0 of 3: ImagePullBackOff (429 Too Many Requests), 100% broken"},
	}}},
	{40 * time.Second, event.HealthChanged{Health: event.Health{Component: "aws", State: event.StateFailed, Reason: "container exited with 137", Try: "sandbox logs aws"}}},
	{40 * time.Second, event.HealthChanged{Health: event.Health{Component: "cluster", State: event.StateOK, Reason: "1 of 1 nodes ready"}}},
	{40 * time.Second, event.HealthChanged{Health: event.Health{Component: "observe/grafana", State: event.StateOff, Reason: "image unavailable"}}},
	{41 * time.Second, event.HealthChanged{Health: event.Health{Component: "release/web-app", State: event.StateDegraded, Reason: "Deployment/web-app 0 of 3", Blames: "aws"}}},
	{42 * time.Second, event.AlertChanged{Rule: "WebAppDown", State: "firing", Labels: map[string]string{"severity": "critical"}}},
	{339 * time.Second, event.StepFinished{ID: "release/web-app", Outcome: event.Failed, Elapsed: 5 * time.Minute, Error: &event.Problem{
		Code: "timeout", What: "release web-app: timed out, after 5m00s", Try: "sandbox logs release/web-app",
		Log: []string{"::set-output name=x::y"},
	}}},
	{339 * time.Second, event.StepFinished{ID: "health", Outcome: event.Skipped, Note: "release/web-app failed"}},
	{340 * time.Second, event.StepFinished{ID: "aws", Outcome: event.Canceled, Elapsed: 340 * time.Second}},
	{340 * time.Second, event.RunFinished{Elapsed: 340 * time.Second, Error: &event.Problem{Code: "failed", What: "1 step failed"}}},
}

// drawnBy returns what a sink makes of the moments; make gets where it draws.
func drawnBy(t *testing.T, moments []moment, open func(*bytes.Buffer) Sink) (out string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var buf bytes.Buffer
		play(t, open(&buf), moments)
		out = buf.String()
	})
	return out
}

func github(style Style) func(*bytes.Buffer) Sink {
	return func(buf *bytes.Buffer) Sink {
		g := NewGitHub(buf, style)
		n := 0
		g.token = func() string { n++; return fmt.Sprintf("token-%d", n) }
		return g
	}
}

func TestGitHub(t *testing.T) {
	for name, tc := range map[string]struct {
		style   Style
		moments []moment
	}{
		"blocked":           {Style{}, blocked},
		"blocked in colour": {Style{Color: true, Width: 40}, blocked},
		"fails ascii":       {Style{ASCII: true}, failing},
		"succeeds":          {Style{}, succeeding},
	} {
		t.Run(name, func(t *testing.T) { golden.RequireEqual(t, drawnBy(t, tc.moments, github(tc.style))) })
	}
}

// commands returns the commands that a runner would find in a log: it takes
// none between stop-commands and the token.
func commands(t *testing.T, log string) []string {
	t.Helper()
	var found []string
	token := ""
	for line := range strings.Lines(log) {
		line = strings.TrimSuffix(line, "\n")
		switch trimmed := strings.TrimSpace(line); {
		case token != "":
			if trimmed == "::"+token+"::" {
				token = ""
			}
		case strings.HasPrefix(trimmed, "::stop-commands::"):
			token = strings.TrimPrefix(trimmed, "::stop-commands::")
		case strings.HasPrefix(trimmed, "::"):
			found = append(found, trimmed)
		case strings.Contains(line, "##["):
			t.Errorf("an old command in %q", line)
		}
	}
	if token != "" {
		t.Errorf("a fence is left open:\n%s", log)
	}
	return found
}

// The only commands are our own; the blocking object is in the annotation.
func TestGitHubCommands(t *testing.T) {
	out := drawnBy(t, blocked, github(Style{}))
	want := []string{
		"::error title=release web-app%3A timed out%2C after 5m00s::Deployment/web-app 0 of 3: ImagePullBackOff (429 Too Many Requests), 100%25 broken%0ATry: sandbox logs release/web-app",
		"::group::! canceled aws 5m40s",
		"::endgroup::",
		"::error title=1 step failed::1 step failed",
		"::error title=aws is failed::container exited with 137%0ATry: sandbox logs aws",
		"::warning title=release/web-app is degraded::Deployment/web-app 0 of 3 (because of aws)",
		"::warning title=alert WebAppDown is firing::severity=critical",
	}
	if got := commands(t, out); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("commands:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestGitHubHeartbeat(t *testing.T) {
	out := drawnBy(t, blocked, github(Style{}))
	for _, want := range []string{
		" 30s running cluster\n 30s running aws\n",
		" 5m08s running aws\n 4m28s running release/web-app: waiting for objects, 1 of 2 objects: Deployment/web-app 0 of 3: ImagePullBackOff",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("got:\n%s\nwant %q in it", out, want)
		}
	}
}

// A long log keeps its end, and a step that never finished is drawn at the end.
func TestGitHubLongLog(t *testing.T) {
	moments := []moment{{0, event.StepStarted{ID: "build"}}}
	for i := range 3*githubLog + 7 {
		moments = append(moments, moment{0, event.StepLog{ID: "build", Line: fmt.Sprintf("line %d", i)}})
	}
	out := drawnBy(t, moments, github(Style{}))
	last := fmt.Sprintf("line %d\n::token-1::\n::endgroup::\n", 3*githubLog+6)
	if !strings.HasSuffix(out, last) || !strings.Contains(out, fmt.Sprintf("(%d lines before this left out)\nline %d\n", 2*githubLog+7, 2*githubLog+7)) {
		t.Errorf("got %d lines, from:\n%s", strings.Count(out, "\n"), out[:min(len(out), 300)])
	}
}

func TestGitHubAnnotationsAreLimited(t *testing.T) {
	var moments []moment
	for i := range 30 {
		moments = append(moments, moment{0, event.HealthChanged{Health: event.Health{Component: fmt.Sprintf("release/%d", i), State: event.StateFailed, Reason: "x"}}})
	}
	out := drawnBy(t, append(moments, moment{0, event.RunFinished{}}), github(Style{}))
	if n := len(commands(t, out)); n != githubAnnotations {
		t.Errorf("%d annotations, want %d", n, githubAnnotations)
	}
}

func TestAccessible(t *testing.T) {
	for name, moments := range map[string][]moment{"succeeds": succeeding, "fails": failing, "blocked": blocked} {
		t.Run(name, func(t *testing.T) {
			out := drawnBy(t, moments, func(buf *bytes.Buffer) Sink { return NewAccessible(buf) })
			if i := strings.IndexFunc(out, func(r rune) bool { return r > 0x7e || r < 0x20 && r != '\n' }); i >= 0 {
				t.Errorf("signs that can't be read aloud at %q", out[i:min(len(out), i+20)])
			}
			golden.RequireEqual(t, out)
		})
	}
}

func TestSpoken(t *testing.T) {
	for text, want := range map[string]string{
		"a → b · c…":             "a then b, c...",
		"━━━━ 3/4 MB":            "3/4 MB",
		"⠙ pulling █░ ┌─┐ naïve": "pulling naïve",
		"one\ntwo":               "one; two",
		"\x1b[31mred\x1b[0m":     "red",
	} {
		if got := spoken(text); got != want {
			t.Errorf("spoken(%q) = %q, want %q", text, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "less than a second", 499 * ms: "less than a second", time.Second: "1 second", 38200 * ms: "38 seconds",
		time.Minute: "1 minute", 64 * time.Second: "1 minute 4 seconds", 59*time.Minute + 59900*ms: "1 hour 0 minutes",
		2*time.Hour + 5*time.Minute + 3*time.Second: "2 hours 5 minutes",
	} {
		if got := spokenDuration(d); got != want {
			t.Errorf("spokenDuration(%s) = %q, want %q", d, got, want)
		}
	}
}

// junit returns the report of a run.
func junit(t *testing.T, moments []moment) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "junit.xml")
	sink, err := NewJUnit(path)
	if err != nil {
		t.Fatal(err)
	}
	at := now
	for i, m := range moments {
		var one event.Envelope
		log := event.NewLog("run-1", func() time.Time { return at.Add(m.at) }, event.SinkFunc(func(e event.Envelope) error { one = e; return nil }))
		log.Emit(m.Payload)
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
		one.Seq = uint64(i + 1)
		if err := sink.Handle(one); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(sink.Close(), sink.Close()); err != nil { // twice does no harm
		t.Fatal(err)
	}
	out, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestNoReportOfNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "junit.xml")
	sink, err := NewJUnit(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a report without a test looks like success: %v", err)
	}
}

func TestJUnit(t *testing.T) {
	for name, moments := range map[string][]moment{
		"succeeds": succeeding, "fails": failing, "blocked": blocked,
		"unfinished": succeeding[:10],
	} {
		t.Run(name, func(t *testing.T) {
			out := junit(t, moments)
			var report testSuites
			if err := xml.Unmarshal(out, &report); err != nil {
				t.Fatalf("%v in:\n%s", err, out)
			}
			var tests, failures, errs, skipped int
			for _, s := range report.Suites {
				for _, c := range s.Cases {
					tests++
					switch {
					case c.Failure != nil:
						failures++
					case c.Error != nil:
						errs++
					case c.Skipped != nil:
						skipped++
					}
				}
			}
			if got, want := fmt.Sprint(tests, failures, errs, skipped), fmt.Sprint(report.Tests, report.Failures, report.Errors, report.Skipped); got != want {
				t.Errorf("the cases count %s, the report says %s", got, want)
			}
			golden.RequireEqual(t, out)
		})
	}
}

// Any text makes a report that can be read, with what of it XML can hold.
func TestJUnitHostile(t *testing.T) {
	hostile := "a\x00\x07\x0b\u0085\ufffe\uffff\xff ]]> <b a='1'> & \"\n\tz"
	e := event.Envelope{Schema: 1, Run: hostile, Seq: 1, Time: now, StepFinished: &event.StepFinished{
		ID: hostile, Outcome: event.Failed, Error: &event.Problem{Code: hostile, What: hostile, Why: hostile, Log: []string{hostile}},
	}}
	path := filepath.Join(t.TempDir(), "junit.xml")
	sink, err := NewJUnit(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(sink.Handle(e), sink.Close()); err != nil {
		t.Fatal(err)
	}
	out, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var report testSuites
	if err := xml.Unmarshal(out, &report); err != nil {
		t.Fatalf("%v in:\n%s", err, out)
	}
	want := "a\u0085\ufffd ]]> <b a='1'> & \"\n\tz"
	if c := report.Suites[0].Cases[0]; c.Name != want || c.Failure.Message != want || c.Failure.Type != want || !strings.HasPrefix(c.Failure.Text, want) {
		t.Errorf("read back %+v with %+v, want %q", c, c.Failure, want)
	}
}

func TestJUnitNeedsItsFile(t *testing.T) {
	if _, err := NewJUnit(filepath.Join(t.TempDir(), "missing", "junit.xml")); err == nil {
		t.Error("a report in a folder that is not there was accepted")
	}
}

func TestChoose(t *testing.T) {
	for name, tc := range map[string]struct {
		mode     Mode
		terminal bool
		env      map[string]string
		want     Mode
	}{
		"terminal":               {ModeAuto, true, map[string]string{"TERM": "xterm"}, ModeTTY},
		"pipe":                   {ModeAuto, false, map[string]string{"TERM": "xterm"}, ModePlain},
		"dumb terminal":          {ModeAuto, true, map[string]string{"TERM": "dumb"}, ModePlain},
		"nameless terminal":      {ModeAuto, true, nil, ModePlain},
		"GitHub":                 {ModeAuto, false, map[string]string{"GITHUB_ACTIONS": "true", "CI": "true"}, ModeGitHub},
		"GitHub with a terminal": {ModeAuto, true, map[string]string{"GITHUB_ACTIONS": "true", "TERM": "xterm"}, ModeGitHub},
		"not GitHub":             {ModeAuto, false, map[string]string{"GITHUB_ACTIONS": "false"}, ModePlain},
		"other CI":               {ModeAuto, true, map[string]string{"CI": "1", "TERM": "xterm"}, ModePlain},
		"not CI":                 {ModeAuto, true, map[string]string{"CI": "false", "TERM": "xterm"}, ModeTTY},
		"accessible":             {ModeAuto, true, map[string]string{"ACCESSIBLE": "1", "TERM": "xterm"}, ModeAccessible},
		"not accessible":         {ModeAuto, true, map[string]string{"ACCESSIBLE": "0", "TERM": "xterm"}, ModeTTY},
		"asked for":              {ModeJSON, true, map[string]string{"GITHUB_ACTIONS": "true", "ACCESSIBLE": "1"}, ModeJSON},
	} {
		if got := Choose(tc.mode, tc.terminal, func(name string) string { return tc.env[name] }); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
	if !ModeGitHub.Stdout() || ModeTTY.Stdout() {
		t.Error("only GitHub's commands are for standard output")
	}
}
