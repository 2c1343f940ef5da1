package stacks

import (
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// charts are the charts of the stacks and of the fixtures, each with values that
// a stack sets.
var charts = map[string]map[string]any{
	"web-app/chart": {
		"image":  map[string]any{"repository": "localhost/web-app", "tag": "abc", "pullPolicy": "IfNotPresent"},
		"config": map[string]any{"bucket": "orders", "queueUrl": "http://aws/000000000000/orders"},
	},
	"minimal/chart": {"image": "localhost/hello:abc"},
	"../fixtures/external/deploy/charts/inventory": {
		"image":  map[string]any{"repository": "localhost/inventory", "tag": "abc", "pullPolicy": "IfNotPresent"},
		"config": map[string]any{"bucket": "reports"},
	},
}

func TestChartsHaveNoLintErrors(t *testing.T) {
	for dir, values := range charts {
		t.Run(filepath.Base(filepath.Dir(dir)), func(t *testing.T) {
			result := lint.AllWithKubeVersion(dir, values, "production", &chartutil.KubeVersion{Version: "v1.37.2", Major: "1", Minor: "37"})
			for _, m := range result.Messages {
				if m.Severity >= support.WarningSev {
					t.Errorf("%s: %v", m.Path, m.Err)
				}
			}
		})
	}
}

func TestChartsRenderAsExpected(t *testing.T) {
	for dir, values := range charts {
		t.Run(filepath.Base(filepath.Dir(dir)), func(t *testing.T) {
			got := render(t, dir, values)
			golden := filepath.Join("testdata", strings.ReplaceAll(strings.TrimPrefix(dir, "../"), "/", "-")+".golden.yaml")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("%s renders differently; look at the diff after make golden. Got:\n%s", dir, got)
			}
		})
	}
}

// render renders a chart for the release of the chart's name and checks that
// every document is YAML.
func render(t *testing.T, dir string, values map[string]any) string {
	t.Helper()
	chart, err := loader.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	caps := *chartutil.DefaultCapabilities
	caps.KubeVersion = chartutil.KubeVersion{Version: "v1.37.2", Major: "1", Minor: "37"}
	vals, err := chartutil.ToRenderValues(chart, values, chartutil.ReleaseOptions{Name: chart.Name(), Namespace: "production", IsInstall: true}, &caps)
	if err != nil {
		t.Fatal(err)
	}
	files, err := engine.Render(chart, vals)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		text := strings.TrimSpace(files[name])
		if text == "" {
			continue
		}
		b.WriteString("# " + name + "\n" + text + "\n---\n")
		if !strings.HasSuffix(name, ".yaml") {
			continue
		}
		for _, doc := range strings.Split(text, "\n---\n") {
			var object struct {
				APIVersion string `json:"apiVersion"`
				Kind       string `json:"kind"`
			}
			if err := yaml.Unmarshal([]byte(doc), &object); err != nil || object.Kind == "" || object.APIVersion == "" {
				t.Errorf("%s: %v, kind %q", name, err, object.Kind)
			}
		}
	}
	return b.String()
}

func TestWebAppOptionalParts(t *testing.T) {
	got := render(t, "web-app/chart", map[string]any{
		"autoscaling": map[string]any{"enabled": true},
		"ingress":     map[string]any{"enabled": true, "tls": []any{map[string]any{"secretName": "web-app-tls"}}},
		"database":    map[string]any{"existingSecret": "database-secret"},
		"aws":         map[string]any{"configMap": "", "secret": ""},
	})
	for _, want := range []string{"kind: HorizontalPodAutoscaler", "name: web-app-hpa", "kind: Ingress", "secretName: web-app-tls", "name: database-secret"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
	for _, unwanted := range []string{"replicas:", "kind: Secret\n", "aws-emulator"} {
		if strings.Contains(got, unwanted) {
			t.Errorf("%q in:\n%s", unwanted, got)
		}
	}
}

func TestWebAppRefusesWrongValues(t *testing.T) {
	chart, err := loader.Load("web-app/chart")
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range map[string]map[string]any{
		"unknown key":  {"replicas": 3},
		"wrong type":   {"replicaCount": "three"},
		"unknown word": {"config": map[string]any{"logLevel": "loud"}},
	} {
		t.Run(name, func(t *testing.T) {
			all, err := chartutil.CoalesceValues(chart, values)
			if err != nil {
				t.Fatal(err)
			}
			if err := chartutil.ValidateAgainstSchema(chart, all); err == nil {
				t.Error("accepted")
			}
		})
	}
}
