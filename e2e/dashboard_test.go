//go:build e2e

package e2e

import (
	"context"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/sqs"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sandbox-stack/sandbox/e2e/terminal"
)

// soon is how long a busy machine may take to put on the screen what is there at
// once elsewhere; e2e/bench measures how quickly that is.
const soon = time.Minute

// well is what the dashboard says of a stack without a fault.
const well = "all components are well"

// faultsOnScreen breaks a running stack in the ways that users break theirs:
// the dashboard must show each fault soon, with what is to blame, and its
// repair.
func faultsOnScreen(t *testing.T, w *world, name string, env map[string]string) {
	p := w.onTerminal(160, 45, "--name", name)
	p.Until(time.Minute, well, func(s string) bool { return strings.Contains(s, well) })
	p.Until(2*time.Minute, "samples of what the emulator uses", func(s string) bool {
		return slices.ContainsFunc(strings.Split(s, "\n"), func(line string) bool {
			return strings.Contains(line, "▾ aws") && strings.Contains(line, "M 4.")
		})
	})
	captureTabs(p, "well")
	var took []time.Duration
	up := func() {
		t.Helper()
		w.mustUp(name, "web-app")
		p.Until(2*time.Minute, "repair", func(s string) bool { return strings.Contains(s, well) })
	}

	t.Run("a killed pod", func(t *testing.T) {
		p.T = t
		client := kube(t, env)
		pods, err := client.CoreV1().Pods("production").List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/instance=web-app"})
		if err != nil || len(pods.Items) == 0 {
			t.Fatalf("pods of the release: %v, %d", err, len(pods.Items))
		}
		if err := client.CoreV1().Pods("production").Delete(t.Context(), pods.Items[0].Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		took = append(took, p.Until(soon, "release/web-app that is not ok, because of its Deployment", func(s string) bool {
			return slices.ContainsFunc(strings.Split(s, "\n"), func(line string) bool {
				return strings.Contains(line, "release/web-app") && strings.Contains(line, "2 of 3") &&
					(strings.Contains(line, "working") || strings.Contains(line, "degraded"))
			})
		}))
		p.Until(2*time.Minute, "a new pod", func(s string) bool { return strings.Contains(s, well) })
	})
	t.Run("a queue deleted behind Terraform's back", func(t *testing.T) {
		p.T = t
		queues := sqs.NewFromConfig(awsConfig(env))
		list, err := queues.ListQueues(t.Context(), &sqs.ListQueuesInput{})
		if err != nil || len(list.QueueUrls) != 1 {
			t.Fatalf("queues: %v, %+v", err, list)
		}
		if _, err := queues.DeleteQueue(t.Context(), &sqs.DeleteQueueInput{QueueUrl: &list.QueueUrls[0]}); err != nil {
			t.Fatal(err)
		}
		took = append(took, p.Row(soon, "terraform/infra", "degraded", "aws_sqs_queue.orders is missing"))
		p.Type("6")
		p.Row(soon, "missing", "aws_sqs_queue.orders")
		p.Type("1")
		p.Until(2*time.Minute, "a release that blames the module", func(s string) bool {
			return strings.Contains(s, "BLAMES") && strings.Contains(s, "release/web-app because of terraform/infra")
		})
		captureTabs(p, "queue-deleted")
		up()
	})
	t.Run("a stopped emulator", func(t *testing.T) {
		p.T = t
		w.ask("stop", "-t", "0", "sandbox-"+name+"-aws")
		took = append(took, p.Row(soon, "aws ", "failed"))
		p.Row(soon, "terraform/infra", "stale")
		p.Capture("emulator-stopped-1-overview")
		up()
	})
	p.T = t
	p.Type("q")
	p.EndsWith(0)
	p.IsClean()
	t.Logf("from the fault to the screen: %v", took)
}

// onTerminal starts the program on a terminal of so many columns and lines.
func (w *world) onTerminal(width, height int, args ...string) *terminal.Terminal {
	w.t.Helper()
	return terminal.Start(w.t, width, height, w.command(context.WithoutCancel(w.t.Context()), inColor(args)...))
}

// fromShell starts the program on a terminal from a shell, which says with what
// code it has ended and stays there until a line is typed.
func (w *world) fromShell(width, height int, args ...string) *terminal.Terminal {
	w.t.Helper()
	cmd := w.command(context.WithoutCancel(w.t.Context()))
	cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", `"$@"; echo "ended with $?"; read line`, "sh", w.bin}, inColor(args)...)
	return terminal.Start(w.t, width, height, cmd)
}

// inColor adds colours where pictures are wanted.
func inColor(args []string) []string {
	if os.Getenv(terminal.Captures) == "" {
		return args
	}
	return append(args, "--color", "always")
}

// captureTabs keeps all tabs, where captures are wanted.
func captureTabs(p *terminal.Terminal, state string) {
	p.T.Helper()
	for _, tab := range []struct{ key, name, shows string }{
		{"2", "2-steps", "Steps of up"},
		{"3", "3-logs", "─ Logs"},
		{"4", "4-alerts", "─ Alerts"},
		{"5", "5-events", "─ Events"},
		{"6", "6-terraform", "─ Terraform"},
		{"?", "7-help", "EVERYWHERE"},
		{"\x1b", "1-overview", "─ Components"},
	} {
		p.Type(tab.key)
		if tab.name == "1-overview" {
			p.Until(soon, "no help", func(s string) bool { return !strings.Contains(s, "EVERYWHERE") })
			p.Type("1")
		}
		p.Shows(tab.shows)
		p.Capture(state + "-" + tab.name)
	}
}

// TestTerminal brings a stack up on a terminal, as people do.
func TestTerminal(t *testing.T) {
	const name = "e2e-tty"
	w := newWorld(t, name)
	t.Run("from up into the dashboard and back, and out of it", func(t *testing.T) {
		w.t = t
		p := w.fromShell(80, 24, "up", "minimal", "--name", name, "--ports", "auto")
		// The node's image may have to be loaded first.
		p.Until(10*time.Minute, "the cluster's step", func(s string) bool {
			return strings.Contains(s, "running   cluster") && strings.Contains(s, "enter dashboard")
		})
		p.Capture("up-1-inline")
		p.Type("\r")
		p.Shows("[2 Steps]")
		p.Resize(100, 30)
		p.Until(soon, "a frame of the new size", func(s string) bool {
			return slices.ContainsFunc(strings.Split(s, "\n"), func(l string) bool { return len([]rune(l)) == 100 })
		})
		p.Resize(80, 24)
		p.Type("/cluster\r")
		p.Shows("filter cluster")
		p.Type("3")
		p.Shows("[3 Logs]")
		p.Type("q")
		p.Shows("esc leave it running")
		p.Type("\x1b")
		p.Shows("the run goes on in the background")
		p.Shows("ended with 0")
		p.IsClean()
		w.must("status", "--name", name, "--wait", "10m")
		p.Type("\r")
		p.EndsWith(0)
	})
	t.Run("the dashboard must be left clean", func(t *testing.T) {
		w.t = t
		for how, end := range map[string]func(*terminal.Terminal){
			"quit":    func(p *terminal.Terminal) { p.Type("q"); p.EndsWith(0) },
			"SIGTERM": func(p *terminal.Terminal) { p.Signal(syscall.SIGTERM); p.EndsWith(130) },
			"ctrl+c":  func(p *terminal.Terminal) { p.Type("\x03"); p.EndsWith(0) },
		} {
			t.Run(how, func(t *testing.T) {
				w.t = t
				p := w.onTerminal(80, 24, "--name", name)
				p.Shows(well)
				end(p)
				p.IsClean()
			})
		}
	})
	w.t = t
	w.healthy(name) // it stays up whatever becomes of the dashboard
	w.must("down", "--name", name)
}
