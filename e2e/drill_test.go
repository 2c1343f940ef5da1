//go:build e2e

package e2e

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/inject"
)

// drilled runs one drill of web-app; make e2e-drills runs all of them.
func drilled(t *testing.T, w *world, name string, env map[string]string) {
	const alertName = "WebAppDown"
	report := filepath.Join(t.TempDir(), "drills.xml")
	results := decode[[]event.DrillChanged](t, w.must("alerts", "drill", alertName, "--name", name, "-o", "json", "--junit", report))
	if len(results) != 1 || results[0].State != event.DrillPassed || results[0].Compress != 20 {
		t.Errorf("results: %+v", results)
	}
	if passed := junitCases(t, report); !passed["drill/"+alertName] {
		t.Errorf("the report has %v", passed)
	}
	for _, a := range w.alerts(name) {
		if a.Alert == alertName && (a.LastDrill == nil || a.LastDrill.State != event.DrillPassed || !a.Fired || !a.Tested) {
			t.Errorf("what is listed of %s: %+v", alertName, a)
		}
		if len(a.Missing) > 0 {
			t.Errorf("%s can never fire: no %v", a.Alert, a.Missing)
		}
	}
	w.assertNothingOfDrills(name)
	if deployment, err := kube(t, env).AppsV1().Deployments("production").Get(t.Context(), "web-app", metav1.GetOptions{}); err != nil || *deployment.Spec.Replicas != 3 {
		t.Errorf("replicas after the drill: %v, %v", deployment.Spec.Replicas, err)
	}
	if res := w.run("alerts", "drill", "WebAppDwon", "--name", name); res.code != 2 || !strings.Contains(res.stderr, "the nearest is "+alertName) {
		t.Errorf("an unknown alert: exit %d\n%s", res.code, res.stderr)
	}
	w.healthy(name)
}

// alert is what the tests read of `alerts list -o json`.
type alert struct {
	Alert     string              `json:"alert"`
	Tested    bool                `json:"tested"`
	Fired     bool                `json:"fired"`
	Missing   []string            `json:"missing"`
	LastDrill *event.DrillChanged `json:"lastDrill"`
}

func (w *world) alerts(name string) []alert {
	w.t.Helper()
	return decode[[]alert](w.t, w.must("alerts", "list", "--name", name, "-o", "json"))
}

// junitCases returns the test cases of a report that passed.
func junitCases(t *testing.T, path string) map[string]bool {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var report struct {
		Suites []struct {
			Cases []struct {
				Name    string    `xml:"name,attr"`
				Failure *struct{} `xml:"failure"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(data, &report); err != nil {
		t.Fatal(err)
	}
	passed := map[string]bool{}
	for _, s := range report.Suites {
		for _, c := range s.Cases {
			passed[c.Name] = c.Failure == nil
		}
	}
	return passed
}

func (w *world) lastDrill(name, alert string) event.DrillChanged {
	w.t.Helper()
	data, err := os.ReadFile(filepath.Join(w.state, "sandbox", name, "drills.json"))
	if err != nil {
		w.t.Fatal(err)
	}
	var all map[string]event.DrillChanged
	if err := json.Unmarshal(data, &all); err != nil {
		w.t.Fatal(err)
	}
	return all[alert]
}

// faults are those that are recorded as not undone.
func (w *world) faults(name string) []inject.Record {
	w.t.Helper()
	data, err := os.ReadFile(filepath.Join(w.state, "sandbox", name, "faults.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		w.t.Fatal(err)
	}
	var list []inject.Record
	if err := json.Unmarshal(data, &list); err != nil {
		w.t.Fatal(err)
	}
	return list
}

// assertNothingOfDrills looks for what a drill may leave: faults that are recorded,
// containers, rules, processes and firewall chains in the nodes.
func (w *world) assertNothingOfDrills(name string) {
	w.t.Helper()
	if left := w.faults(name); len(left) > 0 {
		w.t.Errorf("faults are left: %+v", left)
	}
	for _, line := range w.containers(name) {
		if strings.Contains(line, "-drill-") || strings.Contains(strings.ToLower(line), "paused") {
			w.t.Errorf("a container is left: %s", line)
		}
	}
	env := decode[map[string]string](w.t, w.must("env", "--name", name, "-o", "json"))
	rules, err := prometheus(w.t, env).Rules(w.t.Context(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, g := range rules.Groups {
		if strings.HasPrefix(g.Name, "drill/") {
			w.t.Errorf("the rules of a drill are left: %s", g.Name)
		}
	}
	node := "sandbox-" + name + "-control-plane"
	if left := w.ask("exec", node, "sh", "-c", "grep -als sandbox-drill /proc/[0-9]*/environ /proc/[0-9]*/cmdline | grep -v self || true; iptables-save | grep -i sandbox || true"); strings.Contains(left, "SANDBOX") {
		w.t.Errorf("left in the node:\n%s", left)
	}
	client := kube(w.t, env)
	services, err := client.CoreV1().Services("").List(w.t.Context(), metav1.ListOptions{LabelSelector: "sandbox.drill"})
	if err != nil || len(services.Items) > 0 {
		w.t.Errorf("Services of drills: %v, %v", services.Items, err)
	}
}
