package cluster

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"
	kindexec "sigs.k8s.io/kind/pkg/exec"
	"sigs.k8s.io/kind/pkg/log"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

func TestNewRejects(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no name":             {Kubeconfig: "/k"},
		"negative nodes":      {Name: "web", Nodes: -1, Kubeconfig: "/k"},
		"relative kubeconfig": {Name: "web", Kubeconfig: "k"},
	} {
		if _, err := New(newEngine(), cfg); fault.CodeOf(err) != fault.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInspect(t *testing.T) {
	stopped := node("worker")
	stopped.State = "exited"
	other := node("control-plane")
	other.ImageID = "sha256:older"
	for name, tc := range map[string]struct {
		nodes      []runtime.Container
		kubeconfig bool
		phase      Phase
		drift      string
	}{
		"nothing":        {nil, true, Absent, ""},
		"killed create":  {[]runtime.Container{node("worker"), node("control-plane")}, false, Partial, ""},
		"running":        {[]runtime.Container{node("worker"), node("control-plane")}, true, Running, ""},
		"one is stopped": {[]runtime.Container{stopped, node("control-plane")}, true, Stopped, ""},
		"one is missing": {[]runtime.Container{node("control-plane")}, true, Running, "1 of the 2 nodes"},
		"older image":    {[]runtime.Container{other, node("worker")}, true, Running, "was made from image"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, newEngine(tc.nodes...), 2)
			if tc.kubeconfig {
				writeKubeconfig(t, c)
			}
			st, err := c.Inspect(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if st.Phase != tc.phase || !strings.Contains(st.Drift, tc.drift) || (tc.drift == "") != (st.Drift == "") {
				t.Errorf("phase %s, drift %q; want %s, %q", st.Phase, st.Drift, tc.phase, tc.drift)
			}
			if len(st.Nodes) > 0 && st.Nodes[0].Name != c.ControlPlane() {
				t.Errorf("the first node is %s", st.Nodes[0].Name)
			}
		})
	}
}

func TestCreate(t *testing.T) {
	e := newEngine()
	c := newCluster(t, e, 3)
	if err := os.WriteFile(c.Kubeconfig(), []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.provision = func(engine runtime.Info, network, kubeconfig string, cfg *v1alpha4.Cluster, _ log.Logger) error {
		if engine.Engine != "podman" || network != "sandbox-web" || kubeconfig != c.Kubeconfig() || cfg.Name != "sandbox-web" {
			t.Errorf("kind called for %s, %s, %s, %s", engine.Engine, network, kubeconfig, cfg.Name)
		}
		if _, err := os.Stat(kubeconfig); !errors.Is(err, fs.ErrNotExist) {
			t.Error("an old kubeconfig would pass for a finished create")
		}
		if len(cfg.Nodes) != 3 || cfg.Nodes[0].Role != v1alpha4.ControlPlaneRole || cfg.Nodes[2].Role != v1alpha4.WorkerRole {
			t.Errorf("nodes %+v", cfg.Nodes)
		}
		if cfg.Networking.APIServerAddress != "127.0.0.1" {
			t.Errorf("the API server is published on %q", cfg.Networking.APIServerAddress)
		}
		if !slices.Contains(cfg.KubeadmConfigPatches, kubeletCgroupV1) {
			t.Error("the kubelet would refuse cgroup v1")
		}
		if _, err := os.Stat(cfg.Nodes[0].ExtraMounts[0].HostPath); err != nil {
			t.Errorf("kubeadm's patches: %v", err)
		}
		return nil
	}
	if err := c.Create(t.Context(), event.Discard); err != nil {
		t.Fatal(err)
	}
}

func TestCreateNeedsTheNetwork(t *testing.T) {
	e := newEngine()
	e.networks = nil
	if err := newCluster(t, e, 1).Create(t.Context(), event.Discard); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("error %v", err)
	}
}

// A failed create must tell why, and leave nothing.
func TestCreateThatFails(t *testing.T) {
	e := newEngine()
	e.exec = func(_ string, spec runtime.ExecSpec) int {
		_, _ = spec.Stdout.Write([]byte("kubelet says no\n"))
		return 0
	}
	c := newCluster(t, e, 1)
	c.provision = func(_ runtime.Info, _, _ string, _ *v1alpha4.Cluster, l log.Logger) error {
		e.nodes = []runtime.Container{node("control-plane")}
		l.V(0).Infof(kindPhaseStart, "Starting control-plane 🕹️")
		return &kindexec.RunError{
			Command: []string{"kubeadm", "init"}, Inner: errors.New("exit status 1"),
			Output: []byte("[init] going\nerror: error execution phase wait-control-plane: timed out\nTo see the stack trace\n"),
		}
	}
	err := c.Create(t.Context(), event.Discard)
	var f *fault.Error
	if !errors.As(err, &f) {
		t.Fatalf("error %v", err)
	}
	if !strings.Contains(f.What, "starting control-plane") || !strings.Contains(f.Why, "wait-control-plane: timed out") || f.Try == "" {
		t.Errorf("fault %+v", f)
	}
	if !slices.Contains(f.Log, "sandbox-web-control-plane kubelet: kubelet says no") || !slices.Contains(f.Log, "[init] going") {
		t.Errorf("log %q", f.Log)
	}
	if len(e.nodes) != 0 {
		t.Errorf("left %v", e.nodes)
	}
}

// kind cannot be cancelled: without its nodes it must return, and nothing that
// it made meanwhile may stay.
func TestCreateThatIsCancelled(t *testing.T) {
	e := newEngine(node("control-plane"))
	c := newCluster(t, e, 1)
	ctx, cancel := context.WithCancel(t.Context())
	c.provision = func(_ runtime.Info, _, _ string, _ *v1alpha4.Cluster, _ log.Logger) error {
		cancel()
		for {
			e.mu.Lock()
			gone := len(e.nodes) == 0
			e.mu.Unlock()
			if gone {
				break
			}
		}
		e.mu.Lock()
		e.nodes = []runtime.Container{node("worker")}
		e.mu.Unlock()
		return errors.New("no such container")
	}
	if err := c.Create(ctx, event.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if len(e.nodes) != 0 {
		t.Errorf("left %v", e.nodes)
	}
}

func TestEnsureRefusesAnotherCluster(t *testing.T) {
	c := newCluster(t, newEngine(node("control-plane")), 2)
	writeKubeconfig(t, c)
	if _, err := c.Ensure(t.Context(), event.Discard); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("error %v", err)
	}
}

func TestEnsureReplacesAPartialCluster(t *testing.T) {
	e := newEngine(node("control-plane"))
	c := newCluster(t, e, 1)
	var created bool
	c.provision = func(runtime.Info, string, string, *v1alpha4.Cluster, log.Logger) error {
		created = len(e.nodes) == 0
		return errors.New("enough for this test")
	}
	if _, err := c.Ensure(t.Context(), event.Discard); err == nil {
		t.Error("no error")
	}
	if !created {
		t.Error("kind was called with the old nodes in place")
	}
}

func TestStartStartsOnlyWhatIsStopped(t *testing.T) {
	worker := node("worker")
	worker.State = "exited"
	e := newEngine(worker, node("control-plane"))
	if err := newCluster(t, e, 2).Start(t.Context(), event.Discard); err != nil {
		t.Fatal(err)
	}
	if want := []string{"start id-worker"}; !slices.Equal(e.calls, want) {
		t.Errorf("calls %q", e.calls)
	}
}

func TestStartGoesOnWithWhatIsPaused(t *testing.T) {
	paused := node("control-plane")
	paused.State = "paused"
	e := newEngine(paused)
	c := newCluster(t, e, 1)
	if err := c.Start(t.Context(), event.Discard); err != nil {
		t.Fatal(err)
	}
	if want := []string{"start id-control-plane"}; !slices.Equal(e.calls, want) {
		t.Errorf("calls %q", e.calls)
	}
}

func TestDeleteRemovesOnlyItsOwn(t *testing.T) {
	e := newEngine(node("control-plane"))
	foreign := node("control-plane")
	foreign.ID, foreign.Labels = "foreign", map[string]string{LabelKind: "sandbox-web2"}
	e.nodes = append(e.nodes, foreign)
	e.volumes = []runtime.Volume{
		{Name: "mine", Labels: map[string]string{"sandbox-web-control-plane": "true"}},
		{Name: "mine too", Labels: map[string]string{"sandbox-web-worker12": "true"}},
		{Name: "other sandbox", Labels: map[string]string{"sandbox-web-x-control-plane": "true"}},
		{Name: "no node", Labels: map[string]string{"sandbox-web": "true"}},
	}
	c := newCluster(t, e, 1)
	writeKubeconfig(t, c)
	if err := c.Delete(t.Context(), event.Discard); err != nil {
		t.Fatal(err)
	}
	if want := []string{"remove id-control-plane", "remove volume mine", "remove volume mine too"}; !slices.Equal(e.calls, want) {
		t.Errorf("calls %q", e.calls)
	}
	if _, err := os.Stat(c.Kubeconfig()); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the kubeconfig is still there")
	}
	if err := c.Delete(t.Context(), event.Discard); err != nil {
		t.Errorf("deleting again: %v", err)
	}
}

func TestHealthWithoutKubernetes(t *testing.T) {
	dead := node("control-plane")
	dead.State, dead.ExitCode = "exited", 137
	for name, tc := range map[string]struct {
		nodes      []runtime.Container
		kubeconfig bool
		want       event.State
		reason     string
	}{
		"absent":    {nil, false, event.StateFailed, "does not exist"},
		"partial":   {[]runtime.Container{node("control-plane")}, false, event.StateFailed, "did not finish"},
		"dead node": {[]runtime.Container{dead}, true, event.StateFailed, "killed"},
		"no API":    {[]runtime.Container{node("control-plane")}, true, event.StateFailed, "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, newEngine(tc.nodes...), 1)
			if tc.kubeconfig {
				writeKubeconfig(t, c)
			}
			hs := c.Health(t.Context())
			if hs[0].Component != "cluster" || hs[0].State != tc.want || !strings.Contains(hs[0].Reason, tc.reason) || hs[0].Try == "" {
				t.Errorf("health %+v", hs[0])
			}
		})
	}
}

// A cluster of the same name that the user made with kind must be left alone.
func TestForeignClusterIsNeverTouched(t *testing.T) {
	foreign := node("control-plane")
	foreign.IPs = map[string]string{"kind": "10.89.1.2"}
	e := newEngine(foreign)
	c := newCluster(t, e, 1)
	if _, err := c.Ensure(t.Context(), event.Discard); fault.CodeOf(err) != fault.Conflict {
		t.Errorf("ensure: %v", err)
	}
	if err := c.Delete(t.Context(), event.Discard); err == nil {
		t.Error("delete said nothing")
	}
	if len(e.calls) != 0 || len(e.nodes) != 1 {
		t.Errorf("touched it: %v", e.calls)
	}
}

func TestSandboxes(t *testing.T) {
	foreign, other := node("control-plane"), node("worker")
	foreign.Labels = map[string]string{LabelKind: "kind"}
	other.Labels, other.IPs = map[string]string{LabelKind: "sandbox-api"}, nil
	got, err := Sandboxes(t.Context(), newEngine(node("worker"), node("control-plane"), foreign, other))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"api", "web"}; !slices.Equal(got, want) {
		t.Errorf("sandboxes %q, want %q", got, want)
	}
}
