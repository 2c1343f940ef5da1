//go:build bench

// Package bench measures `sandbox up web-app` beside a script that does the
// same work by hand, and the commands that have to be quick. It fails when
// something does not work, never because something is slow: it puts what it
// measured beside the targets, in a table and in artifacts/bench.json.
//
// BENCH_RUNS is the number of pairs (script, sandbox), 1 by default.
package bench

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	repo = "../.."
	tags = "remote exclude_graphdriver_btrfs containers_image_openpgp"
	// stepTimeout bounds one command; the first up may have to build the
	// platform's images.
	stepTimeout = 45 * time.Minute
)

// binary is the program under test.
var binary string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if os.Getenv(loadVariable) != "" {
		return showLoad()
	}
	dir, err := os.MkdirTemp("", "sandbox-bench-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir) // a temporary folder
	binary = filepath.Join(dir, "sandbox")
	// Stripped as `make build` does it: the size matters for how fast it starts.
	build := exec.Command("go", "build", "-trimpath", "-tags", tags, "-ldflags", "-s -w", "-o", binary, "../../cmd/sandbox")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// program runs sandbox with a state folder and a home of its own and the
// machine's caches.
type program struct {
	t     *testing.T
	state string
	env   []string
}

func newProgram(t *testing.T) *program {
	t.Helper()
	p := &program{t: t, state: t.TempDir()}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	own := map[string]string{
		"XDG_STATE_HOME": p.state, "XDG_CACHE_HOME": cache, "HOME": t.TempDir(), "NO_COLOR": "1", "KUBECONFIG": "",
	}
	// The platform's images may have to be built with the user's Go caches.
	for _, name := range []string{"GOPATH", "GOCACHE", "GOMODCACHE"} {
		own[name] = strings.TrimSpace(mustOutput(t, "go", "env", name))
	}
	p.env = environment(own)
	return p
}

// environment is this process's with some variables replaced; an empty value
// removes the variable.
func environment(own map[string]string) []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		_, replaced := own[name]
		return replaced
	})
	for name, value := range own {
		if value != "" {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// run is what a command took.
type run struct {
	wall   time.Duration
	peak   int64 // of the process alone, in bytes; 0 where the system can't tell
	stdout string
}

// must runs a command that has to succeed.
func (p *program) must(args ...string) run {
	p.t.Helper()
	return measure(p.t, p.env, binary, args...)
}

// measure runs a command to its end and fails the test unless it succeeds.
func measure(t *testing.T, env []string, name string, args ...string) run {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), stepTimeout) // clean-up comes after the test's context
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = env
	// A group of its own, and an interrupt at the deadline, so that nothing is left running.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = time.Minute
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	stop := watchPeak(cmd.Process.Pid)
	err := cmd.Wait()
	r := run{wall: time.Since(began), peak: stop(), stdout: out.String()}
	if err != nil {
		t.Fatalf("%s %s: %v after %s\nstdout:\n%s\nstderr:\n%s", filepath.Base(name), strings.Join(args, " "), err, r.wall, out.String(), errs.String())
	}
	return r
}

func mustOutput(t *testing.T, name string, args ...string) string {
	t.Helper()
	return measure(t, os.Environ(), name, args...).stdout
}
