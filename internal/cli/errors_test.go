package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"slices"
	"strings"
	"testing"

	"k8s.io/klog/v2"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/steps"
)

func TestUnsaid(t *testing.T) {
	plain, known := errors.New("plain"), fault.New(fault.Failed, "known", "", "")
	shown := &reported{errors.New("shown")}
	for name, tc := range map[string]struct {
		err  error
		want []error
	}{
		"none":                     {nil, nil},
		"one":                      {plain, []error{plain}},
		"shown":                    {shown, nil},
		"shown, wrapped":           {fmt.Errorf("up: %w", shown), nil},
		"the command's own":        {commandExit(3), nil},
		"joined":                   {errors.Join(plain, known), []error{plain, known}},
		"joined with what is told": {errors.Join(shown, errors.Join(known, commandExit(3))), []error{known}},
	} {
		if got := unsaid(tc.err); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
	// The text of an error that wraps two is more than theirs.
	both := fmt.Errorf("first %w, then %w", plain, known)
	if got := unsaid(both); len(got) != 1 || got[0].Error() != both.Error() {
		t.Errorf("got %v, want %v", got, both)
	}
}

// A run draws how it failed. The error that comes back is not told a second
// time, in whatever way the run is drawn; what failed before a run, is.
func TestAFailureIsToldOnce(t *testing.T) {
	for _, mode := range []string{"plain", "github", "accessible", "json", "quiet"} {
		var out, errs bytes.Buffer
		a := &app{Streams: Streams{Out: &out, Err: &errs}, progress: mode, output: "table", color: "never"}
		draw, err := a.progressSink()
		if err != nil {
			t.Fatal(err)
		}
		if early := errors.New("no lock"); draw.reported(early) != early { //nolint:errorlint // the very same
			t.Errorf("%s: an error before the run counts as told", mode)
		}
		failure := fault.New(fault.Failed, "the chart is broken", "a brace is missing", "helm lint")
		err = failedRun(t, draw, failure)
		for _, e := range unsaid(draw.reported(err)) {
			a.fail(e)
		}
		// GitHub's log has it twice by itself: as a line and as an annotation.
		where, want := errs.String(), 1
		if mode == "github" {
			where, want = out.String(), 2
		}
		if n := strings.Count(where, failure.Why); mode != "json" && n != want {
			t.Errorf("%s: told %d times, not %d:\n%s", mode, n, want, where)
		}
		if mode == "github" && errs.Len() > 0 || mode == "json" && strings.Contains(where, `{"error":`) {
			t.Errorf("%s: told again on standard error:\n%s", mode, errs.String())
		}
	}
}

func failedRun(t *testing.T, sink event.Sink, failure error) error {
	t.Helper()
	list := []steps.Step{{ID: "release/x", Title: "x", Apply: func(context.Context, event.Reporter) (steps.Result, error) {
		return steps.Result{}, failure
	}}}
	log := event.NewLog("run", nil, sink)
	log.Emit(event.PlanReady{Stack: "demo", Command: "up", Steps: steps.Plan(list)})
	err := steps.Run(t.Context(), list, steps.Options{Emit: func(p event.Payload) { log.Emit(p) }})
	log.Emit(event.RunFinished{OK: err == nil, Error: steps.Problem(err)})
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	return err
}

// Libraries of Kubernetes and Helm write notes of their own; none of them may
// land in what the program prints.
func TestLibrariesAreSilent(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	old := os.Stderr
	os.Stderr = w
	t.Cleanup(func() {
		os.Stderr = old
		log.SetOutput(old)
		klog.ClearLogger()
	})
	if code := Main([]string{"version"}, Streams{Out: io.Discard, Err: io.Discard}); code != 0 {
		t.Fatalf("exit code %d", code)
	}
	klog.Error("from klog")
	klog.Background().Info("from klog's logger")
	klog.Flush()
	log.Print("from log")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if len(said) > 0 {
		t.Errorf("standard error got %q", said)
	}
}

func TestConfirmation(t *testing.T) {
	for _, tc := range []struct {
		answer string
		want   bool
	}{
		{"y\n", true},
		{"YES\n", true},
		{" yes \r\n", true},
		{"n\n", false},
		{"\n", false},
		{"", false},
		{"yesterday\n", false},
		{"y", true}, // the input ends with it
	} {
		var out bytes.Buffer
		got, err := ask(t.Context(), strings.NewReader(tc.answer), &out, "--all removes demo. Go on? [y/N] ")
		if err != nil || got != tc.want || out.String() != "--all removes demo. Go on? [y/N] " {
			t.Errorf("%q: %v, %v, asked %q", tc.answer, got, err, out.String())
		}
	}
	broken := errors.New("closed")
	if _, err := ask(t.Context(), io.MultiReader(strings.NewReader("y"), failing{broken}), io.Discard, "?"); !errors.Is(err, broken) {
		t.Errorf("a broken input: %v", err)
	}
	// An interrupt ends the question.
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errInterrupted)
	r, w := io.Pipe()
	defer w.Close()
	if _, err := ask(ctx, r, io.Discard, "?"); !errors.Is(err, errInterrupted) {
		t.Errorf("interrupted: %v", err)
	}
	// Without a terminal nobody is asked.
	a := &app{Streams: Streams{In: strings.NewReader("y\n"), Out: io.Discard, Err: io.Discard}}
	var f *fault.Error
	if err := a.confirm(t.Context(), "--all removes demo", "sandbox down --all --yes"); !errors.As(err, &f) || f.Code != fault.Confirm || f.Try != "sandbox down --all --yes" {
		t.Errorf("without a terminal: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestTheGivenTimeIsToldAsTheReason(t *testing.T) {
	ctx, cancel := withTimeout(t.Context(), 1)
	defer cancel()
	<-ctx.Done()
	err := endOf(ctx, fmt.Errorf("connect: %w", ctx.Err()))
	if exitCode(err) != exitTimeout || !strings.Contains(err.Error(), "not up within 1ns") {
		t.Errorf("got %v", err)
	}
	other := errors.New("x")
	if err := endOf(t.Context(), other); !errors.Is(err, other) {
		t.Errorf("got %v", err)
	}
}
