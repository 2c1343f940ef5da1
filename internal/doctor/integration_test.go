//go:build integration

package doctor

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	sandbox "github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/podman"
)

// withPodman is this machine with the real engine.
func withPodman(t *testing.T, socket string) *Host {
	h := ThisHost()
	dir := t.TempDir()
	h.OpenEngine = func(ctx context.Context) (Engine, error) {
		return podman.Open(ctx, podman.Options{StateDir: dir, Socket: socket})
	}
	h.Choose = func(context.Context) (Choice, error) {
		return Choice{Engine: "podman", Host: os.Getenv("CONTAINER_HOST")}, nil
	}
	h.Owner = func(c sandbox.Container) string { return c.Labels[sandbox.LabelName] }
	return h
}

// A service that is stopped accepts connections, and never answers.
func TestStoppedServiceIsNamed(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "podman.sock")
	service := exec.Command("podman", "system", "service", "--time=0", "unix://"+socket)
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := service.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = service.Wait() // killed, as it says
	})
	waitFor(t, func() bool { return thisKernel{}.Dial(t.Context(), socket) == nil })
	t.Setenv("CONTAINER_HOST", "unix://"+socket)
	checkUntil(t, withPodman(t, ""), "engine/running", "while it runs", func(r Result) bool { return r.State == OK })

	if err := service.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return stopped(t, service.Process.Pid) })
	r := checkUntil(t, withPodman(t, ""), "engine/running", "stopped", func(r Result) bool { return r.State != Warn })
	if r.State != Fail || r.What != "Podman does not answer within 5s" || !strings.Contains(r.Why, socket) || !strings.Contains(r.Fix, "CONTAINER_HOST") {
		t.Errorf("stopped: %+v", r)
	}
	t.Logf("%s\n  %s\n  Try: %s", r.What, r.Why, r.Fix)

	if err := service.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	checkUntil(t, withPodman(t, ""), "engine/running", "after it goes on", func(r Result) bool { return r.State == OK })
}

// What carries our label and has no state folder is named, and stays.
func TestLeftoverNetworkIsNamed(t *testing.T) {
	const name = "doctor-leftover"
	h := withPodman(t, "")
	engine, err := h.OpenEngine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rt := engine.(sandbox.Runtime)
	t.Cleanup(func() {
		if err := rt.RemoveNetwork(context.Background(), "sandbox-"+name); err != nil {
			t.Error(err)
		}
		if err := rt.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := rt.CreateNetwork(t.Context(), "sandbox-"+name, map[string]string{sandbox.LabelName: name}); err != nil {
		t.Fatal(err)
	}
	// Others may have sandboxes here: all but this one count as recorded.
	h.Sandboxes = func() ([]Sandbox, error) {
		nets, err := rt.Networks(t.Context(), map[string]string{sandbox.LabelName: ""})
		var list []Sandbox
		for _, n := range nets {
			if other := n.Labels[sandbox.LabelName]; other != name {
				list = append(list, Sandbox{Name: other})
			}
		}
		return list, err
	}
	checkUntil(t, h, "sandboxes/leftovers", "a leftover", func(r Result) bool {
		return r.State == Warn && strings.Contains(r.What, name+" (1 network)") && !r.Fixable && strings.Contains(r.Fix, "sandbox down --name ")
	})
	nets, err := rt.Networks(t.Context(), map[string]string{sandbox.LabelName: name})
	if err != nil || len(nets) != 1 {
		t.Errorf("it is gone: %v %v", nets, err)
	}
}

// The real machine's engine passes, so that the failures above mean something.
func TestThisMachinesEngine(t *testing.T) {
	if os.Getenv("CONTAINER_HOST") != "" {
		t.Skip("another engine was chosen")
	}
	for _, id := range []string{"engine/installed", "engine/permission", "engine/running", "engine/version", "engine/runtime", "engine/network"} {
		checkUntil(t, withPodman(t, ""), id, "this machine", func(r Result) bool { return r.State == OK })
	}
}

// stopped reports whether every thread of the process has stopped.
func stopped(t *testing.T, pid int) bool {
	t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range threads {
		text, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(text), "State:\tT") {
			return false
		}
	}
	return len(threads) > 0
}

// checkUntil makes a check until it finds what fits: a busy engine may not answer
// within the check's time at first.
func checkUntil(t *testing.T, h *Host, id, when string, fits func(Result) bool) Result {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		r := check(t, h, Need{}, id)
		if fits(r) {
			return r
		}
		select {
		case <-deadline:
			t.Fatalf("%s, %s: %+v", when, id, r)
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func waitFor(t *testing.T, there func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !there() {
		if time.Now().After(deadline) {
			t.Fatal("it did not come in time")
		}
		select {
		case <-t.Context().Done():
			t.Fatal("cancelled")
		case <-time.After(20 * time.Millisecond):
		}
	}
}
