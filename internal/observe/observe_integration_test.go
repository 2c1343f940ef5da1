//go:build integration

package observe

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/detect"
)

const testSandbox = "observetest"

// openEngine returns the real engine, with what an earlier test left removed
// and a network for this one.
func openEngine(t *testing.T) runtime.Runtime {
	t.Helper()
	ctx := context.Background() // outlives the test, for the clean-up
	rt, _, err := detect.Open(ctx, detect.Choice{}, t.TempDir(), nil)
	if err != nil {
		t.Fatalf("this test needs a container engine: %v", err)
	}
	labels := map[string]string{runtime.LabelName: testSandbox}
	clean := func() {
		containers, err := rt.Containers(ctx, labels)
		if err != nil {
			t.Errorf("clean up: %v", err)
		}
		for _, c := range containers {
			if err := rt.RemoveContainer(ctx, c.ID); err != nil {
				t.Errorf("clean up: %v", err)
			}
		}
		networks, err := rt.Networks(ctx, labels)
		if err != nil {
			t.Errorf("clean up: %v", err)
		}
		for _, n := range networks {
			if err := rt.RemoveNetwork(ctx, n.Name); err != nil {
				t.Errorf("clean up: %v", err)
			}
		}
	}
	clean()
	t.Cleanup(func() {
		clean()
		if err := rt.Close(); err != nil {
			t.Errorf("close the engine: %v", err)
		}
	})
	if _, err := rt.CreateNetwork(ctx, "sandbox-"+testSandbox, labels); err != nil {
		t.Fatal(err)
	}
	return rt
}

// platformImage returns a platform image that is in the engine's store.
func platformImage(t *testing.T, rt runtime.Runtime, name string) string {
	t.Helper()
	images, err := rt.Images(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, img := range images {
		for _, ref := range img.Names {
			if strings.HasPrefix(ref, "localhost/sandbox/"+name+":") {
				return ref
			}
		}
	}
	t.Fatalf("no image localhost/sandbox/%s in the engine's store: run sandbox images build %s", name, name)
	return ""
}

// eventually waits until ok returns true, and shows the last answer otherwise.
func eventually(t *testing.T, what string, ok func() (bool, any)) {
	t.Helper()
	const long = 3 * time.Minute
	deadline := time.After(long)
	for {
		done, last := ok()
		if done {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s: not within %s; last: %+v", what, long, last)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// fatal ends the test with an error and the log that came with it.
func fatal(t *testing.T, err error) {
	t.Helper()
	var f *fault.Error
	if errors.As(err, &f) {
		t.Fatalf("%v\n%s", err, strings.Join(f.Log, "\n"))
	}
	t.Fatal(err)
}

func states(all []event.Health, want ...event.State) (bool, any) {
	var got []event.State
	for _, h := range all {
		got = append(got, h.State)
	}
	return slices.Equal(got, want), all
}

func TestPrometheusAndAlertmanagerForReal(t *testing.T) {
	rt := openEngine(t)
	dir := t.TempDir()
	common := Common{Sandbox: testSandbox, Run: "r1", Network: "sandbox-" + testSandbox}
	rules := filepath.Join(dir, "alerts.yaml")
	writeRules := func(t *testing.T, alert string) {
		t.Helper()
		content := "groups:\n- name: g\n  rules:\n  - alert: " + alert + "\n    expr: vector(1)\n"
		if err := os.WriteFile(rules, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	writeRules(t, "First")

	am := NewAlertmanager(rt, AlertmanagerConfig{
		Common: common, Image: platformImage(t, rt, "alertmanager"), Dir: filepath.Join(dir, "alertmanager"),
	})
	cfg := PrometheusConfig{
		Common: common, Image: platformImage(t, rt, "prometheus"), Dir: filepath.Join(dir, "prometheus"),
		Rules: []string{rules}, Alertmanager: true,
		ScrapeInterval: time.Second, EvaluationInterval: time.Second,
	}
	prom := NewPrometheus(rt, cfg)

	began := time.Now()
	if _, err := am.Ensure(t.Context(), event.Discard); err != nil {
		fatal(t, err)
	}
	if _, err := prom.Ensure(t.Context(), event.Discard); err != nil {
		fatal(t, err)
	}
	t.Logf("both ready after %s", time.Since(began))

	began = time.Now()
	for _, svc := range []interface {
		Ensure(context.Context, event.Reporter) (bool, error)
	}{am, NewPrometheus(rt, cfg)} {
		if changed, err := svc.Ensure(t.Context(), event.Discard); err != nil || changed {
			t.Errorf("%T: a second Ensure changed %v, %v", svc, changed, err)
		}
	}
	t.Logf("both unchanged after %s", time.Since(began))

	eventually(t, "healthy", func() (bool, any) { return states(prom.Health(t.Context()), event.StateOK, event.StateOK) })
	eventually(t, "alertmanager healthy", func() (bool, any) { return states(am.Health(t.Context()), event.StateOK) })
	amURL, err := am.URL(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	alertArrives := func(t *testing.T, name string) {
		t.Helper()
		eventually(t, "alert "+name+" in Alertmanager", func() (bool, any) {
			body, err := request(t.Context(), http.MethodGet, amURL+"/api/v2/alerts")
			return err == nil && strings.Contains(string(body), `"`+name+`"`), string(body)
		})
	}
	alertArrives(t, "First")
	before, err := rt.Container(t.Context(), "sandbox-observetest-prometheus")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range before.Ports {
		if p.HostIP != "127.0.0.1" {
			t.Errorf("published on %q", p.HostIP)
		}
	}

	t.Run("new rules are reloaded in place", func(t *testing.T) {
		writeRules(t, "Second")
		if changed, err := prom.Ensure(t.Context(), event.Discard); err != nil || !changed {
			t.Fatalf("changed %v, %v", changed, err)
		}
		alertArrives(t, "Second")
		after, err := rt.Container(t.Context(), before.Name)
		if err != nil || after.ID != before.ID || !after.Started.Equal(before.Started) {
			t.Errorf("%v: the container was replaced or restarted", err)
		}
	})

	t.Run("a configuration that Prometheus refuses is taken back", func(t *testing.T) {
		twice := cfg
		twice.Targets = []Target{{Job: JobPrometheus, Address: "localhost:9090"}}
		_, err := NewPrometheus(rt, twice).Ensure(t.Context(), event.Discard)
		if fault.CodeOf(err) != fault.Failed || err == nil {
			t.Fatalf("got %v, want a refusal", err)
		}
		t.Logf("refusal: %v", err)
		if ok, err := NewPrometheus(rt, cfg).Check(t.Context()); err != nil || !ok {
			t.Errorf("Check of the old configuration = %v, %v; want it in place", ok, err)
		}
	})

	t.Run("a cluster that does not answer is named", func(t *testing.T) {
		access := Access{Server: "https://127.0.0.1:6443", CA: newCA(t), Token: "t"}
		if changed, err := prom.SetCluster(t.Context(), access, event.Discard); err != nil || !changed {
			t.Fatalf("changed %v, %v", changed, err)
		}
		eventually(t, "degraded, naming the kubelet's job", func() (bool, any) {
			h := prom.Health(t.Context())[0]
			return h.State == event.StateDegraded && strings.Contains(h.Reason, JobKubelet), h
		})
	})

	t.Run("a stopped Prometheus is seen and started again, with its data", func(t *testing.T) {
		if err := rt.StopContainer(t.Context(), before.ID, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		eventually(t, "seen", func() (bool, any) {
			h := prom.Health(t.Context())[0]
			return h.State == event.StateFailed, h
		})
		if changed, err := prom.Ensure(t.Context(), event.Discard); err != nil || !changed {
			t.Fatalf("changed %v, %v", changed, err)
		}
		eventually(t, "history from before", func() (bool, any) {
			value, err := prom.Query(t.Context(), `count_over_time(ALERTS{alertname="First"}[1h])`)
			if err != nil {
				return false, err
			}
			return !isEmpty(value), value
		})
	})
}
