package observe

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// ensure runs Ensure and checks whether it changed something.
func ensure(t *testing.T, p *Prometheus, want bool) {
	t.Helper()
	changed, err := p.Ensure(t.Context(), event.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if changed != want {
		t.Errorf("changed = %v, want %v", changed, want)
	}
	if ok, err := p.Check(t.Context()); err != nil || !ok {
		t.Errorf("Check after Ensure = %v, %v; want true", ok, err)
	}
}

func TestEnsureIsIdempotent(t *testing.T) {
	dir, prom := t.TempDir(), &fakeProm{}
	e := newEngine(t, prom)
	cfg := promConfigIn(t, dir)

	if ok, err := NewPrometheus(e, cfg).Check(t.Context()); err != nil || ok {
		t.Errorf("Check before = %v, %v; want false", ok, err)
	}
	ensure(t, NewPrometheus(e, cfg), true)
	ensure(t, NewPrometheus(e, cfg), false)
	cfg.Run = "run-2"
	ensure(t, NewPrometheus(e, cfg), false)
	if e.created != 1 || prom.reloaded() != 0 {
		t.Errorf("%d containers created and %d reloads, want 1 and 0", e.created, prom.reloaded())
	}

	spec := e.spec(t)
	if got := spec.Ports; len(got) != 1 || got[0] != (runtime.Port{HostIP: "127.0.0.1", HostPort: 9090, Container: 9090}) {
		t.Errorf("ports = %v, want 127.0.0.1:9090 only", got)
	}
	for label, want := range map[string]string{
		runtime.LabelName: "demo", runtime.LabelComponent: "observe/prometheus", runtime.LabelRun: "run-1",
	} {
		if spec.Labels[label] != want {
			t.Errorf("label %s = %q, want %q", label, spec.Labels[label], want)
		}
	}
}

func TestEnsureReplacesWhatIsDescribedDifferently(t *testing.T) {
	for name, change := range map[string]func(*engine, *PrometheusConfig){
		"another port":  func(_ *engine, cfg *PrometheusConfig) { cfg.Port = 19090 },
		"another image": func(e *engine, _ *PrometheusConfig) { e.imageID = "sha256:2" },
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t, &fakeProm{})
			cfg := promConfigIn(t, t.TempDir())
			ensure(t, NewPrometheus(e, cfg), true)
			change(e, &cfg)
			ensure(t, NewPrometheus(e, cfg), true)
			if e.created != 2 || len(e.containers) != 1 {
				t.Errorf("%d created, %d left; want 2 and 1", e.created, len(e.containers))
			}
		})
	}
}

func TestEnsureStartsAStoppedContainer(t *testing.T) {
	e := newEngine(t, &fakeProm{})
	cfg := promConfigIn(t, t.TempDir())
	ensure(t, NewPrometheus(e, cfg), true)
	e.change(func(c *runtime.Container) { c.State = "exited" })
	ensure(t, NewPrometheus(e, cfg), true)
	if e.created != 1 {
		t.Errorf("%d created, want the old one started again", e.created)
	}
}

func TestChangedRulesAreReloaded(t *testing.T) {
	prom := &fakeProm{}
	e := newEngine(t, prom)
	cfg := promConfigIn(t, t.TempDir())
	ensure(t, NewPrometheus(e, cfg), true)

	more := strings.ReplaceAll(goodRules, "1m", "2m")
	if err := os.WriteFile(cfg.Rules[0], []byte(more), 0o600); err != nil {
		t.Fatal(err)
	}
	ensure(t, NewPrometheus(e, cfg), true)
	if e.created != 1 || prom.reloaded() != 1 {
		t.Errorf("%d created and %d reloads, want 1 and 1", e.created, prom.reloaded())
	}
	got, err := os.ReadFile(filepath.Join(cfg.Dir, "config", "rules", "01-alerts.yaml"))
	if err != nil || string(got) != more {
		t.Errorf("copied rules: %v, %q", err, got)
	}

	// A run that was killed before the reload leaves no mark: reload again.
	if err := os.Remove(filepath.Join(cfg.Dir, appliedFile)); err != nil {
		t.Fatal(err)
	}
	ensure(t, NewPrometheus(e, cfg), true)
	if prom.reloaded() != 2 {
		t.Errorf("%d reloads, want 2", prom.reloaded())
	}
}

// A paused one goes on with the configuration that it had, so it has to reload.
func TestAPausedContainerGoesOn(t *testing.T) {
	prom := &fakeProm{}
	e := newEngine(t, prom)
	cfg := promConfigIn(t, t.TempDir())
	ensure(t, NewPrometheus(e, cfg), true)
	pause := func(c *runtime.Container) { c.State = "paused" }
	e.change(pause)
	if ok, err := NewPrometheus(e, cfg).Check(t.Context()); err != nil || ok {
		t.Errorf("Check = %v, %v; want false", ok, err)
	}
	ensure(t, NewPrometheus(e, cfg), false)
	e.change(func(c *runtime.Container) {
		if !c.Running() {
			t.Errorf("it is %s", c.State)
		}
	})

	e.change(pause)
	if err := os.WriteFile(cfg.Rules[0], []byte(strings.ReplaceAll(goodRules, "1m", "2m")), 0o600); err != nil {
		t.Fatal(err)
	}
	ensure(t, NewPrometheus(e, cfg), true)
	if e.created != 1 || prom.reloaded() != 1 {
		t.Errorf("%d created and %d reloads, want 1 and 1", e.created, prom.reloaded())
	}
}

func TestRefusedConfigurationIsTakenBack(t *testing.T) {
	prom := &fakeProm{}
	e := newEngine(t, prom)
	e.log = "level=error msg=\"Error reloading config\"\n"
	cfg := promConfigIn(t, t.TempDir())
	ensure(t, NewPrometheus(e, cfg), true)
	before, err := readFiles(configDir(cfg.Dir))
	if err != nil {
		t.Fatal(err)
	}

	prom.set(func() { prom.refuse = `group "app", rule 1: bad` })
	if err := os.WriteFile(cfg.Rules[0], []byte(strings.ReplaceAll(goodRules, "1m", "3m")), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = NewPrometheus(e, cfg).Ensure(t.Context(), event.Discard)
	var f *fault.Error
	if !errors.As(err, &f) || f.Code != fault.Failed || f.Why != `group "app", rule 1: bad` || len(f.Log) != 1 {
		t.Fatalf("got %#v, want a fault with Prometheus' words and its log", err)
	}
	after, err := readFiles(configDir(cfg.Dir))
	if err != nil {
		t.Fatal(err)
	}
	if after.hash() != before.hash() {
		t.Error("the refused configuration was left in place; the next start would fail")
	}
}

func TestInvalidRulesStopBeforeAnythingStarts(t *testing.T) {
	e := newEngine(t, &fakeProm{})
	cfg := promConfigIn(t, t.TempDir())
	if err := os.WriteFile(cfg.Rules[0], []byte(strings.ReplaceAll(goodRules, "up == 0", "rate(")), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := NewPrometheus(e, cfg).Ensure(t.Context(), event.Discard)
	if fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), "alerts.yaml:5:") {
		t.Errorf("got %v, want invalid input with its position", err)
	}
	if e.created != 0 {
		t.Error("a container was created")
	}
}

func TestSetCluster(t *testing.T) {
	prom := &fakeProm{}
	e := newEngine(t, prom)
	cfg := promConfigIn(t, t.TempDir())
	ensure(t, NewPrometheus(e, cfg), true)

	access := Access{Server: "https://node:6443", CA: newCA(t), Token: "secret"}
	p := NewPrometheus(e, cfg)
	if changed, err := p.SetCluster(t.Context(), access, event.Discard); err != nil || !changed {
		t.Fatalf("SetCluster = %v, %v; want a change", changed, err)
	}
	if prom.reloaded() != 1 || e.created != 1 {
		t.Errorf("%d reloads, %d created; want 1 and 1", prom.reloaded(), e.created)
	}
	config, err := os.ReadFile(filepath.Join(cfg.Dir, "config", promFile))
	if err != nil || !strings.Contains(string(config), "api_server: https://node:6443") || strings.Contains(string(config), "secret") {
		t.Errorf("configuration: %v\n%s", err, config)
	}
	if changed, err := p.SetCluster(t.Context(), access, event.Discard); err != nil || changed {
		t.Errorf("the same access again = %v, %v; want no change", changed, err)
	}
	// A later process knows of the cluster without being told.
	ensure(t, NewPrometheus(e, cfg), false)

	access.Token = "another"
	if changed, err := NewPrometheus(e, cfg).SetCluster(t.Context(), access, event.Discard); err != nil || !changed {
		t.Errorf("another token = %v, %v; want a change", changed, err)
	}
	for name, bad := range map[string]Access{
		"no https URL":   {Server: "node:6443", CA: access.CA, Token: "t"},
		"no certificate": {Server: "https://node:6443", CA: []byte("none"), Token: "t"},
	} {
		if _, err := p.SetCluster(t.Context(), bad, event.Discard); err == nil {
			t.Errorf("%s: was accepted", name)
		}
	}
}

func TestFilesArePrivate(t *testing.T) {
	e := newEngine(t, &fakeProm{})
	cfg := promConfigIn(t, t.TempDir())
	p := NewPrometheus(e, cfg)
	if _, err := p.SetCluster(t.Context(), Access{Server: "https://n:6443", CA: newCA(t), Token: "secret"}, event.Discard); err != nil {
		t.Fatal(err)
	}
	seen := 0
	err := filepath.Walk(cfg.Dir, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		seen++
		want := os.FileMode(0o600)
		if info.IsDir() {
			want = 0o700
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %o, want %o", path, info.Mode().Perm(), want)
		}
		return nil
	})
	if err != nil || seen < 8 {
		t.Errorf("walked %d files: %v", seen, err)
	}
}

func TestForeignContainerIsLeftAlone(t *testing.T) {
	e := newEngine(t, &fakeProm{})
	e.containers["theirs"] = runtime.Container{ID: "theirs", Name: "sandbox-demo-prometheus", State: "running"}
	_, err := NewPrometheus(e, promConfigIn(t, t.TempDir())).Ensure(t.Context(), event.Discard)
	if fault.CodeOf(err) != fault.Conflict || !strings.Contains(err.Error(), "sandbox-demo-prometheus") {
		t.Errorf("got %v, want a conflict that names the container", err)
	}
	if _, there := e.containers["theirs"]; !there || e.created != 0 {
		t.Error("the foreign container was touched")
	}
}

func TestADeadContainerEndsTheWait(t *testing.T) {
	for name, tc := range map[string]struct {
		onStart func(*runtime.Container)
		why     string
	}{
		"exited": {func(c *runtime.Container) { c.State, c.ExitCode = "exited", 2 }, "exit code 2"},
		"oom":    {func(c *runtime.Container) { c.State, c.OOM = "exited", true }, "more memory than its limit"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t, &fakeProm{notReady: true})
			e.log, e.onStart = "starting\nbad flag\n", tc.onStart
			_, err := NewPrometheus(e, promConfigIn(t, t.TempDir())).Ensure(t.Context(), event.Discard)
			var f *fault.Error
			if !errors.As(err, &f) || !strings.Contains(f.Why, tc.why) || len(f.Log) != 2 || f.Log[1] != "bad flag" {
				t.Errorf("got %#v, want the reason %q and the log", err, tc.why)
			}
			if len(e.stopped) != 1 || len(e.containers) != 1 {
				t.Errorf("stopped %v, left %d containers; want the dead one stopped and kept", e.stopped, len(e.containers))
			}
		})
	}
}

func TestAFailedStartLeavesNothing(t *testing.T) {
	e := newEngine(t, &fakeProm{})
	e.startErr = fault.New(fault.Conflict, "port 9090 is taken", "by nc, PID 7", "")
	_, err := NewPrometheus(e, promConfigIn(t, t.TempDir())).Ensure(t.Context(), event.Discard)
	if !errors.Is(err, e.startErr) {
		t.Errorf("got %v, want the engine's own fault", err)
	}
	if len(e.containers) != 0 {
		t.Errorf("left %v", e.containers)
	}
}

func TestALostContainerIsCreatedAnew(t *testing.T) {
	e := newEngine(t, &fakeProm{})
	p := NewPrometheus(e, promConfigIn(t, t.TempDir()))
	if _, err := p.Ensure(t.Context(), event.Discard); err != nil {
		t.Fatal(err)
	}
	lost := e.containers["id-1"]
	lost.State = "exited"
	e.containers["id-1"], e.lost = lost, "id-1"
	changed, err := p.Ensure(t.Context(), event.Discard)
	if err != nil || !changed {
		t.Fatalf("changed %v, %v", changed, err)
	}
	if len(e.containers) != 1 || e.containers["id-2"].State != "running" {
		t.Errorf("containers: %+v, want id-2 alone, running", e.containers)
	}
}

func TestAMissingImageIsUnavailable(t *testing.T) {
	e := newEngine(t, &fakeProm{})
	e.imageID = ""
	_, err := NewPrometheus(e, promConfigIn(t, t.TempDir())).Ensure(t.Context(), event.Discard)
	if fault.CodeOf(err) != fault.Unavailable || !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("got %v, want unavailable because of the image", err)
	}
}

func TestAlertmanagerAndGrafana(t *testing.T) {
	dir := t.TempDir()
	common := Common{Sandbox: "demo", Run: "r", Network: "sandbox-demo"}
	dashboard := filepath.Join(dir, "app.json")
	if err := os.WriteFile(dashboard, []byte(`{"panels":[{"datasource":"${DS_PROMETHEUS}"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	am := NewAlertmanager(newEngine(t, &fakeProm{}), AlertmanagerConfig{Common: common, Image: "am", Dir: filepath.Join(dir, "am")})
	e := newEngine(t, &fakeProm{})
	grafana := GrafanaConfig{Common: common, Image: "g", Dir: filepath.Join(dir, "grafana"), Dashboards: []string{dashboard}}
	for _, svc := range []interface {
		Ensure(ctx context.Context, rep event.Reporter) (bool, error)
		Check(ctx context.Context) (bool, error)
	}{am, NewGrafana(e, grafana)} {
		for i, want := range []bool{true, false} {
			if changed, err := svc.Ensure(t.Context(), event.Discard); err != nil || changed != want {
				t.Errorf("%T, call %d: changed %v, %v; want %v", svc, i+1, changed, err, want)
			}
		}
		if ok, err := svc.Check(t.Context()); err != nil || !ok {
			t.Errorf("%T: Check = %v, %v", svc, ok, err)
		}
	}
	copied, err := os.ReadFile(filepath.Join(dir, "grafana/config/dashboards/01-app.json"))
	if err != nil || !strings.Contains(string(copied), `"datasource":"prometheus"`) {
		t.Errorf("copied dashboard: %v: %s", err, copied)
	}
	// Grafana reads its datasources at its start only.
	if err := os.WriteFile(dashboard, []byte(`{}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if changed, err := NewGrafana(e, grafana).Ensure(t.Context(), event.Discard); err != nil || !changed || e.created != 2 {
		t.Errorf("a changed dashboard: changed %v, %v, %d created; want a new container", changed, err, e.created)
	}

	off := NewGrafana(e, GrafanaConfig{Common: common, Unavailable: "no registry can be reached"})
	if _, err := off.Ensure(t.Context(), event.Discard); fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "no registry") {
		t.Errorf("got %v, want unavailable with the reason", err)
	}
	if h := off.Health(t.Context()); len(h) != 1 || h[0].State != event.StateOff || h[0].Reason != "no registry can be reached" {
		t.Errorf("health = %+v, want off with the reason", h)
	}
}
