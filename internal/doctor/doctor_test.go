package doctor

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

// A check that hangs is named, and holds nobody up.
func TestHangingCheckIsGivenUp(t *testing.T) {
	stuck := Check{ID: "test/stuck", Title: "never ends", limit: 300 * time.Millisecond, run: func(context.Context, *exam) Finding {
		select {}
	}}
	fine := Check{ID: "test/fine", Title: "ends", run: func(context.Context, *exam) Finding { return ok("so it is") }}
	var ended []string
	report, err := Run(t.Context(), recorded(nil), Need{}, []Check{stuck, fine}, func(r Result) { ended = append(ended, r.ID) })
	if err != nil {
		t.Fatal(err)
	}
	if got := report.Checks[0]; got.State != Warn || !strings.Contains(got.What, "no answer within 300ms") || !strings.Contains(got.Why, "test/stuck") {
		t.Errorf("the one that hangs: %+v", got)
	}
	if report.Checks[1].State != OK || report.State != Warn || len(ended) != 2 || ended[0] != "test/fine" {
		t.Errorf("the other: %+v, all: %s, in this order: %v", report.Checks[1], report.State, ended)
	}
}

// A cancelled examination ends at once, with the reason.
func TestCancel(t *testing.T) {
	reason := errors.New("somebody has seen enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	wait := Check{ID: "test/wait", run: func(ctx context.Context, _ *exam) Finding {
		cancel(reason)
		<-ctx.Done()
		return ok("too late")
	}}
	if _, err := Run(ctx, recorded(nil), Need{}, []Check{wait}, nil); !errors.Is(err, reason) {
		t.Errorf("got %v", err)
	}
}

// What needs the engine is skipped where there is none, instead of failing for
// a second time.
func TestNoEngineFailsOnce(t *testing.T) {
	report, err := Run(t.Context(), recorded(nil, "apt-get"), Need{Ports: []Port{{Number: 1}}}, engineAndSandboxes(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := report.Count(Fail); n != 1 {
		t.Errorf("%d failures: %+v", n, report.Checks)
	}
	failed, _ := report.Failed()
	f := failed.Fault()
	if f.Code != fault.Unhealthy || f.What != "no container engine is installed" ||
		f.Try != "apt-get update && apt-get install -y --no-install-recommends aardvark-dns iptables netavark podman runc" {
		t.Errorf("%v", f)
	}
}

func engineAndSandboxes() []Check {
	return append(append([]Check{}, engineChecks...), sandboxChecks...)
}

// up makes no check that asks the network or the engine.
func TestCheapChecks(t *testing.T) {
	for _, c := range Cheap() {
		if c.engine || strings.HasPrefix(c.ID, "network/") || strings.HasPrefix(c.ID, "tools/") || c.ID == "engine/running" {
			t.Errorf("%s is not cheap", c.ID)
		}
	}
	if len(Cheap()) == 0 {
		t.Error("up checks nothing")
	}
}

func TestIDsAreUnique(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Checks() {
		if seen[c.ID] || c.Title == "" {
			t.Errorf("%s twice, or without a title", c.ID)
		}
		seen[c.ID] = true
	}
}

func TestUnheard(t *testing.T) {
	dir := t.TempDir() + "/cache"
	of := func(ids ...string) Report {
		var r Report
		for _, id := range ids {
			r.Checks = append(r.Checks, Result{ID: id, Finding: Finding{State: Warn}})
		}
		r.Checks = append(r.Checks, Result{ID: "fine", Finding: Finding{State: OK}})
		return r
	}
	for i, step := range []struct {
		report Report
		want   string
	}{{of("a", "b"), "a b"}, {of("a", "b"), ""}, {of("a", "b", "c"), "c"}, {of("c"), ""}, {of("a", "c"), "a"}} {
		fresh, err := Unheard(dir, step.report)
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, c := range fresh {
			ids = append(ids, c.ID)
		}
		if got := strings.Join(ids, " "); got != step.want {
			t.Errorf("step %d: %q, want %q", i, got, step.want)
		}
	}
}
