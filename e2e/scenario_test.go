//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// TestTwoAtOnce: two different stacks must run side by side, brought up at the
// same time.
func TestTwoAtOnce(t *testing.T) {
	const minimal, other = "e2e-min", "e2e-ext"
	w := newWorld(t, minimal, other)
	// The second is a stack outside the repository, with a chart and Terraform
	// in the way others write them.
	dir := copyOf(t, "../fixtures/external")
	var results [2]result
	var errs [2]error
	var wg sync.WaitGroup
	for i, up := range []struct{ name, stack string }{{minimal, "minimal"}, {other, dir}} {
		wg.Go(func() { results[i], errs[i] = w.tryUp(up.name, up.stack) })
	}
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	for _, res := range results {
		if res.code != 0 {
			t.Fatalf("up: exit %d\n%s", res.code, res.stderr)
		}
	}
	for _, name := range []string{minimal, other} {
		w.healthy(name)
	}
	if got, want := w.must("exec", "--name", minimal, "--", "kubectl", "config", "current-context"), "kind-sandbox-"+minimal; strings.TrimSpace(got) != want {
		t.Errorf("context: got %q, want %q", got, want)
	}
	minEnv := decode[map[string]string](t, w.must("env", "--name", minimal, "-o", "json"))
	otherEnv := decode[map[string]string](t, w.must("env", "--name", other, "-o", "json"))
	if _, has := minEnv["AWS_ENDPOINT_URL"]; has {
		t.Errorf("the minimal stack has no AWS, but env says %s", minEnv["AWS_ENDPOINT_URL"])
	}
	if minEnv["PROMETHEUS_URL"] == otherEnv["PROMETHEUS_URL"] {
		t.Errorf("both use %s", minEnv["PROMETHEUS_URL"])
	}
	w.must("down", "--name", other)
	w.healthy(minimal) // untouched by the other's end
	w.must("down", "--name", minimal)
	w.assertKubeconfigUntouched()
}

// copyOf returns a copy of a folder outside the repository.
func copyOf(t *testing.T, dir string) string {
	t.Helper()
	target := filepath.Join(t.TempDir(), filepath.Base(dir))
	if err := os.CopyFS(target, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return target
}

// TestKilled: killed at whatever moment, the next up must converge, and what
// an interrupted one leaves must be resumable.
func TestKilled(t *testing.T) {
	const name = "e2e-kill"
	w := newWorld(t, name)
	// SIGKILL while the cluster is being created, then while the release is
	// being installed.
	for _, at := range []string{"cluster", "release/hello"} {
		w.killAt(name, "minimal", at, syscall.SIGKILL)
	}
	t.Run("an interrupt must end with 130 and say how to resume", func(t *testing.T) {
		code, stderr := w.killAt(name, "minimal", "release/hello", syscall.SIGINT)
		if code != 130 && code != 0 { // it may have been done already
			t.Errorf("exit %d, want 130\n%s", code, stderr)
		}
	})
	w.mustUp(name, "minimal")
	w.healthy(name)
	w.must("down", "--name", name, "--images")
	w.assertNothingLeft(name, map[string]string{"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "PROMETHEUS_URL": "http://127.0.0.1:1", "ALERTMANAGER_URL": "http://127.0.0.1:1"})
}

// killAt starts up and sends the signal as soon as the step has begun.
func (w *world) killAt(name, stack, step string, sig syscall.Signal) (code int, stderr string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Minute)
	defer cancel()
	cmd := w.command(ctx, "up", stack, "--name", name, "--ports", "auto", "--progress", "json")
	pipe, err := cmd.StderrPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	var seen strings.Builder
	for e, err := range event.Read(&tee{pipe, &seen}) {
		if err != nil {
			break // the stream ends when the process does
		}
		if e.StepStarted != nil && e.StepStarted.ID == step {
			if err := cmd.Process.Signal(sig); err != nil {
				w.t.Fatal(err)
			}
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		w.t.Fatal(err)
	}
	w.t.Logf("up %s: %v at %s: %s", stack, sig, step, cmd.ProcessState)
	return cmd.ProcessState.ExitCode(), seen.String()
}

type tee struct {
	r interface{ Read([]byte) (int, error) }
	w *strings.Builder
}

func (t *tee) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	t.w.Write(p[:n])
	return n, err
}

// TestFailingRelease: a release that cannot become ready must end up with exit
// 1 and name the object that blocks it and why.
func TestFailingRelease(t *testing.T) {
	const name = "e2e-fail"
	w := newWorld(t, name)
	dir := copyOf(t, "../stacks/minimal")
	edit(t, filepath.Join(dir, "app", "server.js"), func(string) string {
		return "console.error('no database here'); process.exit(3);\n"
	})
	edit(t, filepath.Join(dir, "stack.yaml"), func(s string) string {
		return strings.Replace(s, "      chart: chart\n", "      chart: chart\n      timeout: 4m\n", 1)
	})
	report := filepath.Join(t.TempDir(), "report.xml")
	res := w.up(name, dir, "--junit", report, "--progress", "github")
	if res.code != 1 {
		t.Fatalf("exit %d, want 1\n%s", res.code, res.stderr)
	}
	xml, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(xml), `name="release/hello" classname="`+name+`.health"`) {
		t.Errorf("the JUnit report has no case of the release's health:\n%s", xml)
	}
	for what, text := range map[string]string{"annotations": res.stdout, "JUnit report": string(xml)} {
		if !strings.Contains(text, "Deployment/hello") {
			t.Errorf("the %s do not name the blocking object:\n%s", what, text)
		}
	}
	for _, want := range []string{"release/hello", "Deployment/hello", "no database here", "Try:"} {
		if !strings.Contains(res.stdout, want) {
			t.Errorf("the output does not have %q:\n%s", want, res.stdout)
		}
	}
	if res := w.run("status", "--name", name); res.code != 5 {
		t.Errorf("status: exit %d, want 5\n%s", res.code, res.stdout)
	}
	t.Run("mended, up must resume and end well", func(t *testing.T) {
		server, err := os.ReadFile("../stacks/minimal/app/server.js")
		if err != nil {
			t.Fatal(err)
		}
		edit(t, filepath.Join(dir, "app", "server.js"), func(string) string { return string(server) })
		w.mustUp(name, dir)
	})
	t.Run("a release that the stack has no more must go", func(t *testing.T) {
		edit(t, filepath.Join(dir, "stack.yaml"), func(s string) string {
			return strings.Replace(s, "    - name: hello\n      chart:", "    - name: renamed\n      chart:", 1)
		})
		w.mustUp(name, dir)
		got := w.must("exec", "--name", name, "--", "kubectl", "get", "deployments", "-n", "default", "-o", "name")
		if strings.TrimSpace(got) != "deployment.apps/renamed" {
			t.Errorf("deployments: %s", got)
		}
	})
}

func edit(t *testing.T, path string, change func(string) string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	changed := change(string(data))
	if changed == string(data) {
		t.Fatalf("%s was not changed", path)
	}
	if err := os.WriteFile(path, []byte(changed), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestBadInputCreatesNothing: a wrong stack file must exit 2, name its place,
// and leave no trace.
func TestBadInputCreatesNothing(t *testing.T) {
	bad, err := filepath.Glob("../fixtures/stacks/bad/*")
	if err != nil || len(bad) < 10 {
		t.Fatalf("bad stacks: %v, %d", err, len(bad))
	}
	for _, dir := range bad {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			w := newWorld(t)
			res := w.run("up", dir)
			if res.code != 2 {
				t.Errorf("exit %d, want 2\n%s", res.code, res.stderr)
			}
			if !strings.Contains(res.stderr, "Try:") {
				t.Errorf("no hint in:\n%s", res.stderr)
			}
			if left, err := os.ReadDir(w.state); err != nil || len(left) != 0 {
				t.Errorf("left in the state folder: %v %v", left, err)
			}
		})
	}
}

// TestPortTaken: a taken port must name the process that has it, and nothing
// must be created.
func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:19090")
	if err != nil {
		t.Skipf("port 19090 is in use by something else: %v", err)
	}
	defer l.Close()
	w := newWorld(t, "e2e-port")
	res := w.run("up", "minimal", "--name", "e2e-port")
	if res.code != 1 {
		t.Errorf("exit %d, want 1", res.code)
	}
	for _, want := range []string{"port 19090", fmt.Sprintf("process %d", os.Getpid()), "--ports auto"} {
		if !strings.Contains(res.stderr, want) {
			t.Errorf("standard error does not have %q:\n%s", want, res.stderr)
		}
	}
	if left, err := os.ReadDir(filepath.Join(w.state, "sandbox")); err != nil || len(left) != 0 {
		t.Errorf("left in the state folder: %v %v", left, err)
	}
}
