//go:build integration

package live_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/render"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/podman"
	"github.com/sandbox-stack/sandbox/internal/session"
	"github.com/sandbox-stack/sandbox/internal/tui"
)

// TestLive watches a real sandbox while it is well, and while its cluster is lost.
// Other faults are those of the e2e tests, which look at them on the screen.
func TestLive(t *testing.T) {
	const name = "live-integration"
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	w := up(ctx, t, name)

	w.must(2*time.Minute, "all of it ok", func(v event.View) bool {
		return v.Health["release/web-app"].State == event.StateOK && v.Health["terraform/infra"].State == event.StateOK &&
			allHealthy(v)
	})
	t.Run("samples", func(t *testing.T) {
		w.t = t
		w.must(2*time.Minute, "samples of containers, nodes and workloads", func(v event.View) bool {
			for _, c := range []string{
				"aws", "observe/prometheus", "cluster/node/sandbox-" + name + "-control-plane",
				"release/web-app", "release/web-app/Deployment/web-app",
			} {
				if s := v.Samples[c]; len(s) == 0 || s[len(s)-1].Memory == 0 {
					return false
				}
			}
			return true
		})
	})
	t.Run("logs", func(t *testing.T) {
		w.t = t
		w.must(2*time.Minute, "lines of pods, containers and the node", func(v event.View) bool {
			seen := map[string]bool{}
			for _, e := range v.Logs {
				seen[e.Component] = true
			}
			return seen["release/web-app"] && seen["aws"] && seen["observe/prometheus"] && seen["cluster"]
		})
	})
	t.Run("alerts", func(t *testing.T) {
		w.t = t
		w.must(2*time.Minute, "alerts and Alertmanager", func(v event.View) bool {
			return len(v.Alerts) > 0 && v.Alertmanager != nil && len(v.Alertmanager.Receivers) > 0
		})
	})
	t.Run("module", func(t *testing.T) {
		w.t = t
		w.must(2*time.Minute, "all resources seen", func(v event.View) bool {
			m := v.Modules["infra"]
			return len(m.Resources) > 5 && m.Drift == 0
		})
	})
	t.Run("idle cost", func(t *testing.T) { w.t = t; idleCost(t, 30*time.Second) })
	t.Run("refresh", func(t *testing.T) {
		w.t = t
		began := time.Now()
		w.refresh <- "terraform/infra"
		w.must(5*time.Minute, "a full comparison", func(v event.View) bool { return v.Modules["infra"].Refreshed.After(began) })
		t.Logf("a full comparison took %s", time.Since(began).Round(100*time.Millisecond))
	})
	t.Run("replay", func(t *testing.T) { w.t = t; replayed(t, w) })
	t.Run("stopped node", func(t *testing.T) { w.t = t; stoppedNode(ctx, t, w) })
}

// replayed compares what the dashboard shows of what was recorded with what it
// showed of it live.
func replayed(t *testing.T, w *world) {
	w.mu.Lock()
	live, record := w.feed, bytes.NewReader(bytes.Clone(w.record.Bytes()))
	frames := map[[2]int]string{}
	sizes := [][2]int{{80, 24}, {100, 30}, {160, 45}}
	for _, size := range sizes {
		frames[size] = tui.Frame(tui.Options{Name: w.name, Feed: live, Now: live.Now, Color: true}, size[0], size[1])
	}
	w.mu.Unlock()

	again := tui.NewFeed()
	if err := render.Replay(t.Context(), record, again, 0); err != nil {
		t.Fatal(err)
	}
	for _, size := range sizes {
		got := tui.Frame(tui.Options{Name: w.name, Feed: again, Now: again.Now, Color: true}, size[0], size[1])
		if got != frames[size] {
			t.Errorf("at %v live:\n%s\nreplayed:\n%s", size, frames[size], got)
		}
		if !strings.Contains(got, "release/web-app") {
			t.Errorf("at %v there is nothing of the stack:\n%s", size, got)
		}
	}
}

// world is a sandbox that is watched.
type world struct {
	t       *testing.T
	name    string
	state   string
	engine  runtime.Runtime
	refresh chan string

	mu      sync.Mutex
	view    event.View
	feed    *tui.Feed
	record  bytes.Buffer
	changed chan struct{}
}

// up brings the web-app stack up and begins to watch it. It goes with the test.
func up(ctx context.Context, t *testing.T, name string) *world {
	t.Helper()
	w := &world{t: t, name: name, state: t.TempDir(), refresh: make(chan string), feed: tui.NewFeed(), changed: make(chan struct{}, 1)}
	t.Setenv("XDG_STATE_HOME", w.state)
	down := func() {
		if err := session.Down(context.WithoutCancel(ctx), name, false, event.SinkFunc(func(event.Envelope) error { return nil })); err != nil {
			t.Errorf("remove the sandbox: %v", err)
		}
	}
	down()
	t.Cleanup(down)
	wanted, err := session.Load("web-app", name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := session.Start(ctx, wanted, session.Options{AutoPorts: true, Program: program(t)})
	if err != nil {
		t.Fatal(err)
	}
	err = s.Up(ctx, event.SinkFunc(func(e event.Envelope) error {
		if e.StepFinished != nil {
			t.Logf("%s %s %s", e.StepFinished.ID, e.StepFinished.Outcome, e.StepFinished.Note)
		}
		return nil
	}))
	if err = errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}

	if s, err = session.Open(ctx, name); err != nil {
		t.Fatal(err)
	}
	if w.engine, err = podman.Open(ctx, podman.Options{StateDir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	watching, stop := context.WithCancel(ctx)
	ended := make(chan error)
	go func() { ended <- s.Watch(watching, event.SinkFunc(w.take), w.refresh) }()
	t.Cleanup(func() {
		stop()
		if err := errors.Join(<-ended, s.Close(), w.engine.Close()); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) take(e event.Envelope) error {
	w.mu.Lock()
	w.view.Apply(e)
	err := errors.Join(w.feed.Handle(e), json.NewEncoder(&w.record).Encode(e))
	w.mu.Unlock()
	select {
	case w.changed <- struct{}{}:
	default:
	}
	return err
}

// must waits until what is known fits, and returns how long that took.
func (w *world) must(within time.Duration, what string, fits func(event.View) bool) time.Duration {
	w.t.Helper()
	began := time.Now()
	deadline := time.After(within)
	for {
		w.mu.Lock()
		v := w.view.Snapshot()
		w.mu.Unlock()
		if fits(v) {
			return time.Since(began)
		}
		select {
		case <-w.changed:
		case <-deadline:
			health, _ := json.MarshalIndent(v.Components(), "", " ")
			w.t.Fatalf("no %s within %s; %d logs, samples of %d, modules %+v\n%s", what, within, len(v.Logs), len(v.Samples), v.Modules, health)
		}
	}
}

func allHealthy(v event.View) bool {
	return !slices.ContainsFunc(v.Components(), func(h event.Health) bool { return !h.State.Healthy() })
}

// fault expects the component to turn bad for the reason, and says how long that
// took: what it should take is a matter of e2e/bench.
func (w *world) fault(component string, reason ...string) {
	w.t.Helper()
	took := w.must(time.Minute, component+" not ok", func(v event.View) bool { return !v.Health[component].State.Healthy() })
	w.must(2*time.Minute, "reason for "+component+" with "+strings.Join(reason, " or "), func(v event.View) bool {
		return slices.ContainsFunc(reason, func(r string) bool { return strings.Contains(v.Health[component].Reason, r) })
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.view.Health[component]
	w.t.Logf("%s turned %s after %s: %s (blames %q)", component, h.State, took.Round(10*time.Millisecond), h.Reason, h.Blames)
}

// idleCost says what watching costs while nothing happens: of this process
// and of the engine's service, which is its child.
func idleCost(t *testing.T, during time.Duration) {
	before, service := cpu(t, syscall.RUSAGE_SELF), childCPU(t)
	<-time.After(during)
	own := (cpu(t, syscall.RUSAGE_SELF) - before).Seconds() / during.Seconds()
	engine := (childCPU(t) - service).Seconds() / during.Seconds()
	t.Logf("idle: %.2f %% of a core here, %.2f %% in the engine's services", 100*own, 100*engine)
}

func cpu(t *testing.T, who int) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(who, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// childCPU is what the living children of this process have used.
func childCPU(t *testing.T) time.Duration {
	t.Helper()
	const ticks = 100 // of a second; the kernel's USER_HZ
	var sum time.Duration
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range stats {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
		var ppid, utime, stime int64
		for i, into := range map[int]*int64{1: &ppid, 11: &utime, 12: &stime} {
			if err := json.Unmarshal([]byte(fields[i]), into); err != nil {
				t.Fatal(err)
			}
		}
		if ppid == int64(os.Getpid()) {
			sum += time.Duration(utime+stime) * time.Second / ticks
		}
	}
	return sum
}

// stoppedNode stops the cluster's only node and starts it again: the feeds of
// the cluster must be lost and come back by themselves.
func stoppedNode(ctx context.Context, t *testing.T, w *world) {
	node := "sandbox-" + w.name + "-control-plane"
	if err := w.engine.StopContainer(ctx, node, 0); err != nil {
		t.Fatal(err)
	}
	w.fault("cluster", "node container was killed", "API server")
	w.must(time.Minute, "a lost feed", feedSays("Stale"))
	if err := w.engine.StartContainer(ctx, node); err != nil {
		t.Fatal(err)
	}
	w.must(5*time.Minute, "a feed that is back", feedSays("Back"))
	w.must(5*time.Minute, "a cluster that is back", func(v event.View) bool { return v.Health["cluster"].State == event.StateOK })
}

func feedSays(reason string) func(event.View) bool {
	return func(v event.View) bool {
		return slices.ContainsFunc(v.EventsByTime(), func(g event.ObjectEvents) bool {
			return g.Object == "feed/kubernetes" && g.Reason == reason
		})
	}
}

// program builds sandbox, for what of it runs in containers.
func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sandbox")
	cmd := exec.Command("go", "build", "-tags", "remote exclude_graphdriver_btrfs containers_image_openpgp", "-o", path, "./cmd/sandbox")
	cmd.Dir = "../.."
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return path
}
