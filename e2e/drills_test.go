//go:build e2e && drills

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// TestAllDrills runs every drill of web-app, twice in a row.
func TestAllDrills(t *testing.T) {
	const name = "e2e-drills"
	w := newWorld(t, name)
	w.mustUp(name, "web-app")
	for round := range 2 {
		report := filepath.Join(t.TempDir(), "drills.xml")
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
		began := time.Now()
		res := w.runContext(ctx, nil, "alerts", "drill", "--all", "--name", name, "--progress", "plain", "--junit", report)
		cancel()
		t.Logf("round %d took %s\n%s", round+1, time.Since(began).Round(time.Second), res.stderr)
		if res.code != 0 {
			t.Fatalf("round %d: exit %d", round+1, res.code)
		}
		passed := junitCases(t, report)
		alerts := w.alerts(name)
		for _, a := range alerts {
			if a.LastDrill == nil || a.LastDrill.State != event.DrillPassed || !a.Fired || len(a.Missing) > 0 || !a.Tested {
				t.Errorf("%s: %+v", a.Alert, a)
			}
			if !passed["drill/"+a.Alert] {
				t.Errorf("the report has no drill %s that passed: %v", a.Alert, passed)
			}
		}
		if len(alerts) == 0 {
			t.Error("no alerts")
		}
	}
	w.assertNothingOfDrills(name)
	w.healthy(name)
}

// TestBrokenLinks breaks each link of the chain from the metric to the receiver,
// and holds the drill to naming it.
func TestBrokenLinks(t *testing.T) {
	const name = "e2e-links"
	w := newWorld(t, name)
	w.mustUp(name, "../fixtures/drills")
	for _, tc := range []struct {
		alert string
		link  event.DrillLink
		says  string
	}{
		{"MetricAbsent", event.LinkMetric, "no target exposes no_such_metric_total"},
		{"ExpressionFalse", event.LinkExpression, " 0, needs > 5"},
		{"ForNotOver", event.LinkFor, "it has to hold for 30s"},
		{"NotSent", event.LinkAlertmanager, "does not answer"},
		{"Inhibited", event.LinkRoute, "inhibited by Outage"},
		{"NotRouted", event.LinkRoute, "routed to nobody, which notifies nobody"},
		{"NotReceived", event.LinkReceiver, "the drill's receiver does not answer"},
		{"Unreadable", event.LinkPayload, "<error expanding template"},
		{"Works", "", ""},
	} {
		t.Run(tc.alert, func(t *testing.T) {
			var res result
			if tc.alert == "NotReceived" {
				res = w.drillWith(name, tc.alert, event.StagePending, func(*os.Process) { w.ask("rm", "--force", "sandbox-"+name+"-drill-receiver") })
			} else {
				res = w.run("alerts", "drill", tc.alert, "--name", name, "--force", "--progress", "plain")
			}
			last := w.lastDrill(name, tc.alert)
			t.Logf("%+v", last.Error)
			if tc.link == "" {
				if res.code != 0 || last.State != event.DrillPassed {
					t.Errorf("exit %d, %s", res.code, last.State)
				}
				return
			}
			if res.code != 5 || last.State != event.DrillFailed || last.Link != tc.link || !strings.Contains(last.Error.Why, tc.says) {
				t.Errorf("exit %d, %s, link %q: %+v", res.code, last.State, last.Link, last.Error)
			}
			if !strings.Contains(res.stderr, string(tc.link)) || !strings.Contains(strings.ToLower(res.stderr), "try") {
				t.Error("the user is not told")
			}
			w.assertNothingOfDrills(name)
			w.healthy(name)
		})
	}
}

// drillWith runs a drill, and does something to it as soon as a stage is reached.
func (w *world) drillWith(name, alert string, at event.StageName, do func(*os.Process)) result {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Minute)
	defer cancel()
	cmd := w.command(ctx, "alerts", "drill", alert, "--name", name, "--force", "--progress", "json")
	pipe, err := cmd.StderrPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	var seen strings.Builder
	did := false
	for e, err := range event.Read(&tee{pipe, &seen}) {
		if err != nil {
			break // the stream ends when the process does
		}
		if d := e.DrillChanged; d != nil && !did && !d.When(at).IsZero() {
			did = true
			do(cmd.Process)
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		w.t.Fatal(err)
	}
	if !did {
		w.t.Fatalf("the drill %s never was at %q:\n%s", alert, at, seen.String())
	}
	return result{code: cmd.ProcessState.ExitCode(), stderr: seen.String()}
}

// TestKilledDrills kills a drill of every kind of fault while it is injected: the
// next up has to undo it.
func TestKilledDrills(t *testing.T) {
	const name = "e2e-drillkill"
	w := newWorld(t, name)
	stack := copyOf(t, "../stacks/web-app")
	edit(t, filepath.Join(stack, "stack.yaml"), func(text string) string {
		at := strings.Index(text, "  drills:")
		if at < 0 {
			t.Fatal("web-app has no drills")
		}
		return text[:at] + "  drills:\n" + everyKind
	})
	edit(t, filepath.Join(stack, "alerts.yaml"), func(text string) string {
		text += "\n  - name: kinds\n    rules:\n"
		for _, kind := range kinds {
			// Nothing makes these fire: the drill waits, and is killed.
			text += fmt.Sprintf("      - {alert: Kind%s, expr: vector(0) > 1}\n", kind)
		}
		return text
	})
	w.mustUp(name, stack)
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			w.drillWith(name, "Kind"+kind, event.StageInjected, func(p *os.Process) {
				if err := p.Signal(syscall.SIGKILL); err != nil {
					t.Error(err)
				}
			})
			if left := w.faults(name); len(left) != 1 || !strings.EqualFold(left[0].Kind, strings.TrimSuffix(kind, "Pods")) && !strings.EqualFold(left[0].Kind, strings.TrimSuffix(kind, "Service")) {
				t.Fatalf("recorded faults of a killed drill: %+v", left)
			}
			if res := w.run("alerts", "drill", "Kind"+kind, "--name", name); res.code != 1 || !strings.Contains(res.stderr, "--undo") {
				t.Errorf("a second drill on top: exit %d\n%s", res.code, res.stderr)
			}
			w.mustUp(name, stack)
			w.assertNothingOfDrills(name)
			w.healthy(name)
			if last := w.lastDrill(name, "Kind"+kind); last.State != event.DrillInterrupted {
				t.Errorf("the killed drill is %s", last.State)
			}
		})
	}
}

// kinds are the faults, one of each kind, and the second form of those with two.
var kinds = []string{
	"Crash", "Kill", "Scale", "Memory", "CPU", "Pause", "Stop", "Cut", "CutPods", "Delay", "DelayService", "HTTP", "HTTPService", "Terraform", "Exec",
}

const everyKind = `
    - {alert: KindCrash, within: 10m, inject: {crash: {selector: app=web-app, container: web-app, count: 1}}}
    - {alert: KindKill, within: 10m, inject: {kill: {selector: app=web-app}}}
    - {alert: KindScale, within: 10m, inject: {scale: {workload: deployment/web-app}}}
    - {alert: KindMemory, within: 10m, inject: {memory: {selector: app=web-app, container: web-app}}}
    - {alert: KindCPU, within: 10m, inject: {cpu: {selector: app=web-app, container: web-app}}}
    - {alert: KindPause, within: 10m, inject: {pause: {component: cluster}}}
    - {alert: KindStop, within: 10m, inject: {stop: {component: aws}}}
    - {alert: KindCut, within: 10m, inject: {cut: {component: aws}}}
    - {alert: KindCutPods, within: 10m, inject: {cut: {selector: app=web-app}}}
    - {alert: KindDelay, within: 10m, inject: {delay: {component: aws, latency: 1s}}}
    - {alert: KindDelayService, within: 10m, inject: {delay: {service: web-app-service, latency: 1s}}}
    - {alert: KindHTTP, within: 10m, inject: {http: {component: aws, method: PUT}}}
    - {alert: KindHTTPService, within: 10m, inject: {http: {service: web-app-service}}}
    - {alert: KindTerraform, within: 10m, inject: {terraform: {resource: aws_sqs_queue.orders}}}
    - {alert: KindExec, within: 10m, inject: {exec: {component: release/web-app, run: [node, src/queue.js, send, "10"], undo: [node, src/queue.js, purge]}}}
`
