//go:build e2e

// Package e2e runs the program as a user would, on a real engine and a real
// cluster. Each test states what must be true; the helpers in this file only
// run commands and wait.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// world is one user's machine as the tests see it: a state folder of its own,
// the real image cache, and the program under test.
type world struct {
	t     *testing.T
	bin   string
	state string
	home  string
	// engine is podman or docker.
	engine string
	// path is a folder before the PATH.
	path string
}

var binary string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "sandbox-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "sandbox")
	build := exec.Command("go", "build", "-tags", "remote exclude_graphdriver_btrfs containers_image_openpgp", "-o", binary, "../cmd/sandbox")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	code := m.Run()
	if err := stopDocker(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// newWorld returns a world whose sandboxes of the given names are removed
// before and after the test; what an earlier, killed run left goes first.
func newWorld(t *testing.T, names ...string) *world {
	t.Helper()
	return newWorldOn(t, engineUnderTest, names...)
}

// newWorldOn is newWorld on the engine.
func newWorldOn(t *testing.T, engine string, names ...string) *world {
	t.Helper()
	w := &world{t: t, bin: binary, state: t.TempDir(), home: t.TempDir(), engine: engine}
	kube := filepath.Join(w.home, ".kube")
	if err := os.MkdirAll(kube, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(kube, "config"), []byte(userKubeconfig), 0o600); err != nil {
		t.Fatal(err)
	}
	remove := func() {
		for _, name := range names {
			w.remove(name)
		}
	}
	remove()
	t.Cleanup(func() {
		if t.Failed() {
			w.keepEvidence(names)
			if os.Getenv("E2E_KEEP_FAILED") != "" {
				return
			}
		}
		remove()
	})
	return w
}

// remove removes a sandbox with its images, whether or not it is there.
func (w *world) remove(name string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if res := w.runContext(ctx, nil, "down", "--name", name, "--images"); res.code != 0 {
		w.t.Errorf("down %s: exit %d\n%s", name, res.code, res.stderr)
	}
}

// userKubeconfig stands for a file of the user's that must never change.
const userKubeconfig = `apiVersion: v1
kind: Config
clusters: []
contexts: []
users: []
preferences: {}
`

func (w *world) assertKubeconfigUntouched() {
	w.t.Helper()
	got, err := os.ReadFile(filepath.Join(w.home, ".kube", "config"))
	if err != nil || string(got) != userKubeconfig {
		w.t.Errorf("the user's kubeconfig was touched: %v\n%s", err, got)
	}
}

type result struct {
	code           int
	stdout, stderr string
}

// env is the environment the program runs in: its own state and home, the
// machine's cache, so that platform images are built once.
func (w *world) env() []string {
	env := []string{"XDG_STATE_HOME=" + w.state, "HOME=" + w.home, "NO_COLOR=1"}
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		switch name {
		case "HOME", "XDG_STATE_HOME", "NO_COLOR", "KUBECONFIG", "DOCKER_HOST", "SANDBOX_RUNTIME":
		default:
			env = append(env, kv)
		}
	}
	for name, value := range map[string]string{
		"XDG_CACHE_HOME": cacheHome(), "GOPATH": goEnv("GOPATH"), "GOCACHE": goEnv("GOCACHE"), "GOMODCACHE": goEnv("GOMODCACHE"),
	} {
		env = append(env, name+"="+value)
	}
	return append(env, w.engineEnv()...)
}

func cacheHome() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		panic(err)
	}
	return dir
}

func goEnv(name string) string {
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		panic(err)
	}
	return strings.TrimSpace(string(out))
}

func (w *world) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, w.bin, args...)
	cmd.Env = w.env()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

func (w *world) runContext(ctx context.Context, stdin []byte, args ...string) result {
	w.t.Helper()
	res, err := w.try(ctx, stdin, args...)
	if err != nil {
		w.t.Fatal(err)
	}
	return res
}

// try is runContext for goroutines other than the test's: a command that can't
// be run is an error.
func (w *world) try(ctx context.Context, stdin []byte, args ...string) (result, error) {
	w.t.Helper()
	cmd := w.command(ctx, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &errs
	started := time.Now()
	err := cmd.Run()
	w.t.Logf("sandbox %s: exit %d in %s", strings.Join(args, " "), cmd.ProcessState.ExitCode(), time.Since(started).Round(10*time.Millisecond))
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return result{}, fmt.Errorf("sandbox %v: %w", args, err)
	}
	return result{cmd.ProcessState.ExitCode(), out.String(), errs.String()}, nil
}

// run runs a command to its end, within ten minutes.
func (w *world) run(args ...string) result {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Minute)
	defer cancel()
	return w.runContext(ctx, nil, args...)
}

// must runs a command that has to succeed and returns its standard output.
func (w *world) must(args ...string) string {
	w.t.Helper()
	res := w.run(args...)
	if res.code != 0 {
		w.t.Fatalf("sandbox %s: exit %d\nstdout:\n%s\nstderr:\n%s", strings.Join(args, " "), res.code, res.stdout, res.stderr)
	}
	return res.stdout
}

// up brings a stack up under a name, on free ports.
func (w *world) up(name, stack string, more ...string) result {
	w.t.Helper()
	res, err := w.tryUp(name, stack, more...)
	if err != nil {
		w.t.Fatal(err)
	}
	return res
}

// tryUp is up for goroutines other than the test's.
func (w *world) tryUp(name, stack string, more ...string) (result, error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 45*time.Minute) // platform images may have to be built first
	defer cancel()
	return w.try(ctx, nil, append([]string{"up", stack, "--name", name, "--ports", "auto", "--progress", "plain"}, more...)...)
}

func (w *world) mustUp(name, stack string, more ...string) {
	w.t.Helper()
	if res := w.up(name, stack, more...); res.code != 0 {
		w.t.Fatalf("up %s: exit %d\n%s", name, res.code, res.stderr)
	}
}

// eventually waits until check returns nil, and fails the test with its last
// error at the deadline.
func eventually(t *testing.T, within time.Duration, what string, check func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within %s: %v", what, within, err)
		case <-tick.C:
		}
	}
}

// decode parses the JSON that a command printed.
func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("not JSON: %v\n%s", err, text)
	}
	return v
}

// keepEvidence copies events, logs and state into artifacts/.
func (w *world) keepEvidence(names []string) {
	dir := filepath.Join("..", "artifacts", strings.ReplaceAll(w.t.Name(), "/", "_"))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		w.t.Logf("artifacts: %v", err)
		return
	}
	save := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			w.t.Logf("artifacts: %v", err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for _, name := range names {
		if events, err := os.ReadFile(filepath.Join(w.state, "sandbox", name, "events.jsonl")); err == nil {
			save(name+"-events.jsonl", events)
		}
		for file, args := range map[string][]string{
			"status.txt": {"status", "--name", name},
			"logs.txt":   {"logs", "--name", name, "--tail", "200"},
			"pods.txt":   {"exec", "--name", name, "--", "kubectl", "describe", "pods", "-A"},
			"events.txt": {"exec", "--name", name, "--", "kubectl", "get", "events", "-A", "--sort-by=.lastTimestamp"},
		} {
			res, err := w.try(ctx, nil, args...)
			if err != nil {
				w.t.Logf("artifacts: %v", err)
			}
			save(name+"-"+file, []byte(res.stdout+res.stderr))
		}
	}
	w.t.Logf("evidence is in %s", dir)
}
