//go:build e2e

package e2e

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// soon is how quickly a fault must be on the screen.
const soon = 5 * time.Second

// well is what the dashboard says of a stack without a fault.
const well = "all components are well"

// faultsOnScreen breaks a running stack in the ways that users break theirs:
// the dashboard must show each fault soon, with what is to blame, and its
// repair.
func faultsOnScreen(t *testing.T, w *world, name string, env map[string]string) {
	p := w.onTerminal(160, 45, "--name", name)
	p.until(time.Minute, well, func(s string) bool { return strings.Contains(s, well) })
	p.captureTabs("well")
	var took []time.Duration
	up := func() {
		t.Helper()
		w.mustUp(name, "web-app")
		p.until(2*time.Minute, "repair", func(s string) bool { return strings.Contains(s, well) })
	}

	t.Run("a killed pod", func(t *testing.T) {
		p.t = t
		client := kube(t, env)
		pods, err := client.CoreV1().Pods("production").List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/instance=web-app"})
		if err != nil || len(pods.Items) == 0 {
			t.Fatalf("pods of the release: %v, %d", err, len(pods.Items))
		}
		if err := client.CoreV1().Pods("production").Delete(t.Context(), pods.Items[0].Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		took = append(took, p.until(soon, "release/web-app that is not ok, because of its Deployment", func(s string) bool {
			return slices.ContainsFunc(strings.Split(s, "\n"), func(line string) bool {
				return strings.Contains(line, "release/web-app") && strings.Contains(line, "2 of 3") &&
					(strings.Contains(line, "working") || strings.Contains(line, "degraded"))
			})
		}))
		p.until(2*time.Minute, "a new pod", func(s string) bool { return strings.Contains(s, well) })
	})
	t.Run("a queue deleted behind Terraform's back", func(t *testing.T) {
		p.t = t
		queues := sqs.NewFromConfig(awsConfig(env))
		list, err := queues.ListQueues(t.Context(), &sqs.ListQueuesInput{})
		if err != nil || len(list.QueueUrls) != 1 {
			t.Fatalf("queues: %v, %+v", err, list)
		}
		if _, err := queues.DeleteQueue(t.Context(), &sqs.DeleteQueueInput{QueueUrl: &list.QueueUrls[0]}); err != nil {
			t.Fatal(err)
		}
		took = append(took, p.row(soon, "terraform/infra", "degraded", "aws_sqs_queue.orders is missing"))
		p.types("6")
		p.row(soon, "missing", "aws_sqs_queue.orders")
		p.types("1")
		p.until(time.Minute, "a release that blames the module", func(s string) bool {
			return strings.Contains(s, "BLAMES") && strings.Contains(s, "release/web-app: Deployment/web-app")
		})
		p.captureTabs("queue-deleted")
		up()
	})
	t.Run("a stopped emulator", func(t *testing.T) {
		p.t = t
		w.ask("stop", "-t", "0", "sandbox-"+name+"-aws")
		took = append(took, p.row(soon, "aws ", "failed"))
		p.row(soon, "terraform/infra", "stale")
		p.capture("emulator-stopped-1-overview")
		up()
	})
	p.t = t
	p.types("q")
	p.endsWith(0)
	p.isClean()
	t.Logf("from the fault to the screen: %v", took)
}

// captureTabs keeps all tabs, where captures are wanted.
func (p *terminal) captureTabs(state string) {
	p.t.Helper()
	for _, tab := range []struct{ key, name, shows string }{
		{"2", "2-steps", "Steps of up"},
		{"3", "3-logs", "─ Logs"},
		{"4", "4-alerts", "─ Alerts"},
		{"5", "5-events", "─ Events"},
		{"6", "6-terraform", "─ Terraform"},
		{"?", "7-help", "EVERYWHERE"},
		{"\x1b", "1-overview", "─ Components"},
	} {
		p.types(tab.key)
		if tab.name == "1-overview" {
			p.until(soon, "no help", func(s string) bool { return !strings.Contains(s, "EVERYWHERE") })
			p.types("1")
		}
		p.shows(tab.shows)
		p.capture(state + "-" + tab.name)
	}
}

// TestTerminal brings a stack up on a terminal, as people do.
func TestTerminal(t *testing.T) {
	const name = "e2e-tty"
	w := newWorld(t, name)
	t.Run("from up into the dashboard and back, and out of it", func(t *testing.T) {
		w.t = t
		p := w.fromShell(80, 24, "up", "minimal", "--name", name, "--ports", "auto")
		p.until(time.Minute, "the cluster's step", func(s string) bool {
			return strings.Contains(s, "running   cluster") && strings.Contains(s, "enter dashboard")
		})
		p.capture("up-1-inline")
		p.types("\r")
		p.shows("[2 Steps]")
		p.resize(100, 30)
		p.until(soon, "a frame of the new size", func(s string) bool {
			return slices.ContainsFunc(strings.Split(s, "\n"), func(l string) bool { return len([]rune(l)) == 100 })
		})
		p.resize(80, 24)
		p.types("/cluster\r")
		p.shows("filter cluster")
		p.types("3")
		p.shows("[3 Logs]")
		p.types("q")
		p.shows("esc leave it running")
		p.types("\x1b")
		p.shows("the run goes on in the background")
		p.shows("ended with 0")
		p.isClean()
		w.must("status", "--name", name, "--wait", "5m")
		p.types("\r")
		p.endsWith(0)
	})
	t.Run("the dashboard must be left clean", func(t *testing.T) {
		w.t = t
		for how, end := range map[string]func(*terminal){
			"quit":    func(p *terminal) { p.types("q"); p.endsWith(0) },
			"SIGTERM": func(p *terminal) { p.signal(syscall.SIGTERM); p.endsWith(130) },
			"ctrl+c":  func(p *terminal) { p.types("\x03"); p.endsWith(0) },
		} {
			t.Run(how, func(t *testing.T) {
				w.t = t
				p := w.onTerminal(80, 24, "--name", name)
				p.shows(well)
				end(p)
				p.isClean()
			})
		}
	})
	w.t = t
	w.must("status", "--name", name) // it stays up whatever becomes of the dashboard
	w.must("down", "--name", name)
}

func (p *terminal) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}
