package observe

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

func TestSummarize(t *testing.T) {
	target := func(pool string, health promv1.HealthStatus, lastError string) promv1.ActiveTarget {
		return promv1.ActiveTarget{ScrapePool: pool, Health: health, LastError: lastError}
	}
	up := target("prometheus", promv1.HealthGood, "")
	for name, tc := range map[string]struct {
		targets  []promv1.ActiveTarget
		expected []string
		state    event.State
		reason   string
	}{
		"all up": {[]promv1.ActiveTarget{up, target("kubernetes-pods", promv1.HealthGood, "")}, nil, event.StateOK, "2 of 2 targets up"},
		"one down": {
			[]promv1.ActiveTarget{up, target("kube-state-metrics", promv1.HealthBad, `Get "https://node:6443/api/v1/x": dial tcp 10.89.0.2:6443: connect: connection refused`)},
			nil, event.StateDegraded, "kube-state-metrics 0 of 1 up: connection refused",
		},
		"some of a job down": {
			[]promv1.ActiveTarget{
				target("kubernetes-pods", promv1.HealthBad, "server returned HTTP status 503 Service Unavailable"),
				target("kubernetes-pods", promv1.HealthGood, ""),
			},
			nil, event.StateDegraded, "kubernetes-pods 1 of 2 up: server returned HTTP status 503 Service Unavailable",
		},
		"not seen yet": {
			[]promv1.ActiveTarget{up, target("kubernetes-kubelet", promv1.HealthUnknown, "")},
			[]string{"kubernetes-kubelet"},
			event.StateWorking, "first scrape: kubernetes-kubelet 0 of 1 seen",
		},
		"pods that have just started": {
			[]promv1.ActiveTarget{up, target("kubernetes-pods", promv1.HealthUnknown, "")},
			nil, event.StateOK, "1 of 2 targets up, the others are not scraped yet",
		},
		"expected and not found": {
			[]promv1.ActiveTarget{up}, []string{"kube-state-metrics"}, event.StateDegraded, "kube-state-metrics: nothing found to scrape",
		},
	} {
		t.Run(name, func(t *testing.T) {
			state, reason := summarize(tc.targets, tc.expected)
			if state != tc.state || reason != tc.reason {
				t.Errorf("got %s %q, want %s %q", state, reason, tc.state, tc.reason)
			}
		})
	}
}

const (
	targetsUp = `{"activeTargets":[{"scrapePool":"prometheus","health":"up"}]}`
	oneAM     = `{"activeAlertmanagers":[{"url":"http://alertmanager:9093/api/v2/alerts"}]}`
	someRules = `{"groups":[{"name":"g","rules":[
		{"type":"alerting","name":"AppDown","health":"ok","state":"firing","query":"up == 0","labels":{"severity":"critical"},
		 "alerts":[{"state":"firing","value":"1e+00","activeAt":"2026-11-24T10:00:00Z","labels":{"alertname":"AppDown","pod":"a"}},
		           {"state":"pending","value":"1e+00","activeAt":"2026-11-24T10:00:00Z","labels":{"alertname":"AppDown","pod":"b"}}]},
		{"type":"alerting","name":"Quiet","health":"ok","state":"inactive","query":"x","labels":{"severity":"warning"},"alerts":[]},
		{"type":"recording","name":"job:up","health":"ok","query":"up"}]}]}`
	brokenRules = `{"groups":[{"name":"g","rules":[
		{"type":"recording","name":"job:up","health":"err","lastError":"many-to-many matching not allowed","query":"up"}]}]}`
)

func TestPrometheusHealth(t *testing.T) {
	prom := &fakeProm{api: map[string]string{
		"/api/v1/targets": targetsUp, "/api/v1/alertmanagers": oneAM, "/api/v1/rules": someRules,
	}}
	e := newEngine(t, prom)
	e.log = "opening storage\nno space left on device\n"
	p := NewPrometheus(e, promConfigIn(t, t.TempDir()))

	expect := func(step string, prometheus, rules event.State, reasons ...string) {
		t.Helper()
		h := p.Health(t.Context())
		if len(h) != 2 || h[0].Component != ComponentPrometheus || h[1].Component != ComponentRules {
			t.Fatalf("%s: %+v", step, h)
		}
		if h[0].State != prometheus || h[1].State != rules {
			t.Errorf("%s: states %s and %s, want %s and %s: %+v", step, h[0].State, h[1].State, prometheus, rules, h)
		}
		for i, want := range reasons {
			if !strings.Contains(h[i].Reason, want) {
				t.Errorf("%s: reason %q, want %q in it", step, h[i].Reason, want)
			}
		}
	}
	expect("not there", event.StateFailed, event.StateStale, "its container is not there", "prometheus is failed")
	ensure(t, p, true)
	expect("all well", event.StateOK, event.StateOK, "1 of 1 targets up", "3 loaded, firing: AppDown")

	alerts, err := p.Alerts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, a := range alerts {
		got = append(got, a.Rule+" "+a.State+" "+a.Labels["pod"]+a.Labels["severity"])
	}
	if want := []string{"AppDown firing a", "AppDown pending b", "Quiet inactive warning"}; !slices.Equal(got, want) {
		t.Errorf("alerts = %v, want %v", got, want)
	}

	prom.set(func() { prom.api["/api/v1/rules"] = brokenRules })
	expect("broken rule", event.StateOK, event.StateDegraded, "", "1 of 1 can't be evaluated: job:up: many-to-many")
	prom.set(func() { prom.api["/api/v1/alertmanagers"] = `{"activeAlertmanagers":[]}` })
	expect("no alertmanager", event.StateDegraded, event.StateDegraded, "no Alertmanager")
	prom.set(func() { prom.api["/api/v1/targets"] = "" })
	expect("no answer", event.StateDegraded, event.StateDegraded, "its targets are not known")

	prom.set(func() { prom.notReady = true })
	expect("just started", event.StateWorking, event.StateWaiting, "not ready: 503")
	e.change(func(c *runtime.Container) { c.Started = c.Started.Add(-2 * graceStarted) })
	expect("long not ready", event.StateFailed, event.StateStale, "not ready: 503")
	e.change(func(c *runtime.Container) { c.State, c.ExitCode = "exited", 1 })
	expect("dead", event.StateFailed, event.StateStale, "exit code 1: no space left on device")
}

func TestPrometheusHealthExpectsTheCluster(t *testing.T) {
	e := newEngine(t, &fakeProm{api: map[string]string{
		"/api/v1/targets": targetsUp, "/api/v1/alertmanagers": oneAM, "/api/v1/rules": someRules,
	}})
	p := NewPrometheus(e, promConfigIn(t, t.TempDir()))
	if _, err := p.SetCluster(t.Context(), Access{Server: "https://n:6443", CA: newCA(t), Token: "x"}, event.Discard); err != nil {
		t.Fatal(err)
	}
	h := p.Health(t.Context())[0]
	if h.State != event.StateDegraded || !strings.Contains(h.Reason, "kubernetes-kubelet: nothing found to scrape") {
		t.Errorf("got %+v, want degraded: the cluster's targets are missing", h)
	}
}

func TestQuery(t *testing.T) {
	prom := &fakeProm{api: map[string]string{
		"/api/v1/query": `{"resultType":"vector","result":[{"metric":{"job":"a"},"value":[1,"3"]}]}`,
	}}
	e := newEngine(t, prom)
	p := NewPrometheus(e, promConfigIn(t, t.TempDir()))
	if _, err := p.Query(t.Context(), "up"); err == nil {
		t.Error("a query without a Prometheus succeeded")
	}
	ensure(t, p, true)
	value, err := p.Query(t.Context(), "up")
	if err != nil {
		t.Fatal(err)
	}
	if v, ok := value.(model.Vector); !ok || len(v) != 1 || v[0].Value != 3 {
		t.Errorf("got %v", value)
	}
}

func TestDashboardQueries(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"a.json": `{
			"templating":{"list":[
				{"name":"namespace","current":{"value":"production"}},
				{"name":"pod","current":{"value":["a","b"]}},
				{"name":"node","current":{"value":"$__all"}},
				{"name":"job","allValue":".+","current":{"value":["$__all"]}}]},
			"panels":[
				{"title":"Rate","targets":[{"refId":"A","expr":"rate(x{namespace=\"$namespace\",pod=~\"${pod:regex}\"}[$__rate_interval])"},{"refId":"B","expr":""}]},
				{"title":"Row","panels":[{"title":"Inner","targets":[{"refId":"A","expr":"y{node=~\"[[node]]\",job=~\"$job\"} > $unknown"}]}]}]}`,
		"notes.txt": "not a dashboard",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := DashboardQueries(dir)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "a.json")
	want := []DashboardQuery{
		{file, "Rate", "A", `rate(x{namespace="production",pod=~"a|b"}[1m])`},
		{file, "Inner", "A", `y{node=~".*",job=~".+"} > $unknown`},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}

	bad := filepath.Join(dir, "bad.json")
	if err := os.WriteFile(bad, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := DashboardQueries(bad); err == nil || !strings.Contains(err.Error(), "bad.json") {
		t.Errorf("got %v, want an error that names the file", err)
	}
	if _, err := DashboardQueries(filepath.Join(dir, "missing")); err == nil {
		t.Error("a missing folder was accepted")
	}
}
