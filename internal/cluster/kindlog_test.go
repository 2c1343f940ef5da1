package cluster

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	kind "sigs.k8s.io/kind/pkg/cluster"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// recorder is a Reporter that remembers.
type recorder struct {
	mu       sync.Mutex
	progress []event.Progress
	lines    []string
}

func (r *recorder) Progress(p event.Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress = append(r.progress, p)
}

func (r *recorder) Log(source, line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, source+": "+line)
}

func (r *recorder) texts() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, p := range r.progress {
		out = append(out, p.Text)
	}
	return out
}

// fakePodman is enough of a podman for kind to come as far as making a node,
// where it fails.
const fakePodman = `#!/bin/sh
case "$*" in
  *version*) echo "podman version 5.4.0" ;;
  info*json*) echo '{"host":{"cgroupVersion":"v2","cgroupControllers":["cpu","memory","pids"]}}' ;;
  "volume create"*) echo "no space left" >&2; exit 1 ;;
esac
`

// TestKindFormats runs the real kind against a podman that fails, to pin the
// formats that the adapter knows its phases by.
func TestKindFormats(t *testing.T) {
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "podman"), []byte(fakePodman), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":/usr/bin:/bin")
	t.Setenv("KIND_EXPERIMENTAL_PODMAN_NETWORK", "sandbox-web")
	rec := &recorder{}
	cfg := kindConfig(Config{Name: "web", Nodes: 1, NodeImage: "localhost/node:1"}, runtime.Info{}, t.TempDir())
	err := kind.NewProvider(kind.ProviderWithPodman(), kind.ProviderWithLogger(newKindLogger(rec))).Create("sandbox-web",
		kind.CreateWithV1Alpha4Config(cfg), kind.CreateWithRetain(true),
		kind.CreateWithKubeconfigPath(filepath.Join(t.TempDir(), "kubeconfig")))
	if err == nil {
		t.Fatal("kind made a node without an engine")
	}
	if got, want := rec.texts(), []string{"ensuring node image (localhost/node:1)", "preparing nodes"}; !slices.Equal(got, want) {
		t.Errorf("phases %q, want %q", got, want)
	}
	all := strings.Join(rec.lines, "\n")
	for _, unwanted := range noise {
		if strings.Contains(all, unwanted) {
			t.Errorf("noise %q in\n%s", unwanted, all)
		}
	}
	for _, want := range []string{"kind: ensuring node image (localhost/node:1): done after", "kind: preparing nodes: failed after"} {
		if !strings.Contains(all, want) {
			t.Errorf("no line %q in\n%s", want, all)
		}
	}
}

func TestHeartbeatSaysHowLongAPhaseHasTaken(t *testing.T) {
	rec := &recorder{}
	l := newKindLogger(rec)
	now := time.Unix(100, 0)
	l.now = func() time.Time { return now }
	l.Heartbeat()
	l.V(0).Infof(kindPhaseStart, "Starting control-plane 🕹️")
	now = now.Add(7 * time.Second)
	l.Heartbeat()
	if got, want := rec.texts(), []string{"starting control-plane", "starting control-plane (7s)"}; !slices.Equal(got, want) {
		t.Errorf("progress %q, want %q", got, want)
	}
}

func TestKindLoggerPassesOnLines(t *testing.T) {
	rec := &recorder{}
	l := newKindLogger(rec)
	l.Warn("careful\n")
	l.Errorf("bad %d", 1)
	l.V(0).Info("one\n\ntwo")
	l.V(1).Info("debug")
	if want := []string{"kind: careful", "kind: bad 1", "kind: one", "kind: two"}; !slices.Equal(rec.lines, want) {
		t.Errorf("lines %q, want %q", rec.lines, want)
	}
}
