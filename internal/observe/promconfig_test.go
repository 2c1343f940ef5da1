package observe

import (
	"testing"
	"time"

	"github.com/charmbracelet/x/exp/golden"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	promrelabel "github.com/prometheus/prometheus/model/relabel"
	"go.yaml.in/yaml/v3"
)

// That Prometheus takes such configurations is what the integration test shows.
func TestConfigBeforeTheCluster(t *testing.T) {
	out, err := promSettings{
		sandbox: "web-app", scrape: 5 * time.Second, evaluation: 5 * time.Second, alertmanager: true,
		rules:   []string{"rules/01-alerts.yaml"},
		targets: []Target{{Job: "queue", Address: "queue:9000", Path: "/stats"}},
	}.render()
	if err != nil {
		t.Fatal(err)
	}
	golden.RequireEqual(t, out)
}

func TestConfigWithTheCluster(t *testing.T) {
	out, err := promSettings{
		sandbox: "web-app", scrape: 1500 * time.Millisecond, evaluation: time.Second,
		apiServer: "https://sandbox-web-app-control-plane:6443",
	}.render()
	if err != nil {
		t.Fatal(err)
	}
	golden.RequireEqual(t, out)
}

// Targets are what Prometheus' own relabelling makes of discovered pods.
func TestPodTargets(t *testing.T) {
	pod := func(more map[string]string) map[string]string {
		m := map[string]string{
			"__address__":                                           "10.244.0.7:3000",
			"__metrics_path__":                                      "/metrics",
			"__meta_kubernetes_namespace":                           "production",
			"__meta_kubernetes_pod_name":                            "web-app-1",
			"__meta_kubernetes_pod_node_name":                       "node-1",
			"__meta_kubernetes_pod_phase":                           "Running",
			"__meta_kubernetes_pod_container_init":                  "false",
			"__meta_kubernetes_pod_container_port_number":           "3000",
			"__meta_kubernetes_pod_annotation_prometheus_io_scrape": "true",
			"__meta_kubernetes_pod_label_app_kubernetes_io_name":    "web-app",
		}
		for k, v := range more {
			if v == "" {
				delete(m, k)
			} else {
				m[k] = v
			}
		}
		return m
	}
	const annotation = "__meta_kubernetes_pod_annotation_prometheus_io_"
	for name, tc := range map[string]struct {
		change         map[string]string
		path, instance string // path "": dropped
	}{
		"declared port": {
			nil, "/api/v1/namespaces/production/pods/web-app-1:3000/proxy/metrics", "web-app-1:3000",
		},
		"port annotation wins": {
			map[string]string{annotation + "port": "9100"},
			"/api/v1/namespaces/production/pods/web-app-1:9100/proxy/metrics", "web-app-1:9100",
		},
		"port annotation without a declared port": {
			map[string]string{annotation + "port": "9100", "__meta_kubernetes_pod_container_port_number": ""},
			"/api/v1/namespaces/production/pods/web-app-1:9100/proxy/metrics", "web-app-1:9100",
		},
		"path annotation": {
			map[string]string{annotation + "path": "/internal/metrics"},
			"/api/v1/namespaces/production/pods/web-app-1:3000/proxy/internal/metrics", "web-app-1:3000",
		},
		"path annotation without a slash": {
			map[string]string{annotation + "path": "stats"},
			"/api/v1/namespaces/production/pods/web-app-1:3000/proxy/stats", "web-app-1:3000",
		},
		"pod that speaks TLS": {
			map[string]string{annotation + "scheme": "https"},
			"/api/v1/namespaces/production/pods/https:web-app-1:3000/proxy/metrics", "web-app-1:3000",
		},
		"not annotated":  {map[string]string{annotation + "scrape": ""}, "", ""},
		"opted out":      {map[string]string{annotation + "scrape": "false"}, "", ""},
		"no port at all": {map[string]string{"__meta_kubernetes_pod_container_port_number": ""}, "", ""},
		"bad port":       {map[string]string{annotation + "port": "http", "__meta_kubernetes_pod_container_port_number": ""}, "", ""},
		"finished":       {map[string]string{"__meta_kubernetes_pod_phase": "Succeeded"}, "", ""},
		"init container": {map[string]string{"__meta_kubernetes_pod_container_init": "true"}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, kept := target(t, JobPods, pod(tc.change))
			if tc.path == "" {
				if kept {
					t.Fatalf("kept %v, want it dropped", got)
				}
				return
			}
			if !kept {
				t.Fatal("dropped, want it kept")
			}
			for label, want := range map[string]string{
				"__metrics_path__": tc.path,
				"__address__":      "node:6443",
				"instance":         tc.instance,
				"namespace":        "production",
				"pod":              "web-app-1",
				"node":             "node-1",
				"app":              "web-app",
			} {
				if got.Get(label) != want {
					t.Errorf("%s = %q, want %q", label, got.Get(label), want)
				}
			}
		})
	}
}

func TestNodeAndStateMetricsTargets(t *testing.T) {
	node := map[string]string{"__address__": "10.89.0.2:10250", "__meta_kubernetes_node_name": "node-1"}
	stateMetrics := map[string]string{
		"__meta_kubernetes_namespace":                        "sandbox-system",
		"__meta_kubernetes_pod_name":                         "kube-state-metrics-5",
		"__meta_kubernetes_pod_label_app_kubernetes_io_name": "kube-state-metrics",
		"__meta_kubernetes_pod_container_port_number":        "8080",
	}
	for _, tc := range []struct {
		job, path, instance string
		discovered          map[string]string
	}{
		{JobKubelet, "/api/v1/nodes/node-1/proxy/metrics", "node-1", node},
		{JobCadvisor, "/api/v1/nodes/node-1/proxy/metrics/cadvisor", "node-1", node},
		{
			JobKubeStateMetrics, "/api/v1/namespaces/sandbox-system/pods/kube-state-metrics-5:8080/proxy/metrics",
			"kube-state-metrics-5", stateMetrics,
		},
	} {
		got, kept := target(t, tc.job, tc.discovered)
		if !kept || got.Get("__metrics_path__") != tc.path || got.Get("instance") != tc.instance || got.Get("__address__") != "node:6443" {
			t.Errorf("%s: kept %v: %v", tc.job, kept, got)
		}
	}
	// The telemetry port of kube-state-metrics describes itself.
	stateMetrics["__meta_kubernetes_pod_container_port_number"] = "8081"
	if got, kept := target(t, JobKubeStateMetrics, stateMetrics); kept {
		t.Errorf("telemetry port kept: %v", got)
	}
}

// target runs the job's generated relabelling with Prometheus' own code.
func target(t *testing.T, job string, discovered map[string]string) (labels.Labels, bool) {
	t.Helper()
	out, err := promSettings{
		sandbox: "t", scrape: time.Second, evaluation: time.Second, apiServer: "https://node:6443",
	}.render()
	if err != nil {
		t.Fatal(err)
	}
	var cfg struct {
		ScrapeConfigs []struct {
			JobName        string                `yaml:"job_name"`
			RelabelConfigs []*promrelabel.Config `yaml:"relabel_configs"`
		} `yaml:"scrape_configs"`
	}
	if err := yaml.Unmarshal(out, &cfg); err != nil {
		t.Fatal(err)
	}
	for _, sc := range cfg.ScrapeConfigs {
		if sc.JobName == job {
			for _, r := range sc.RelabelConfigs {
				r.NameValidationScheme = model.UTF8Validation // what loading a whole configuration sets
			}
			return promrelabel.Process(labels.FromMap(discovered), sc.RelabelConfigs...)
		}
	}
	t.Fatalf("no job %s in the configuration", job)
	return labels.EmptyLabels(), false
}
