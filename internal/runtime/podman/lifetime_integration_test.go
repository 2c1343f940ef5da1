//go:build integration

package podman_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/podman"
)

// holdVariable makes the test binary open Podman and wait to be killed.
const holdVariable = "SANDBOX_TEST_HOLD"

func TestMain(m *testing.M) {
	dir := os.Getenv(holdVariable)
	if dir == "" {
		os.Exit(m.Run())
	}
	if _, err := podman.Open(background(), podman.Options{StateDir: dir}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Fprintln(os.Stdout, "open")
	select {}
}

// A killed process leaves no service behind, and the next one cleans up its
// socket.
func TestServiceEndsWithItsOwner(t *testing.T) {
	dir := t.TempDir()
	owner := exec.Command(os.Args[0])
	owner.Env = append(os.Environ(), holdVariable+"="+dir)
	output, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil || line != "open\n" {
		t.Fatalf("the owner says %q, %v", line, err)
	}
	service := serviceOf(t, dir)
	if service == 0 {
		t.Skip("this machine has a service running that needs no adaptation")
	}
	group, err := syscall.Getpgid(service)
	if err != nil {
		t.Fatal(err)
	}
	if own := syscall.Getpgrp(); group == own {
		t.Error("Ctrl-C would reach the service")
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := owner.Wait(); err == nil {
		t.Error("the owner was not killed")
	}
	within(t, "the service ends", func() bool { return ended(t, service) })

	r, err := podman.Open(t.Context(), podman.Options{StateDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if sockets, err := filepath.Glob(filepath.Join(dir, "*.sock")); err != nil || len(sockets) != 0 {
		t.Errorf("left behind: %v, %v", sockets, err)
	}
}

// A state directory too long for a socket's address is no obstacle.
func TestLongStateDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	r, err := podman.Open(t.Context(), podman.Options{StateDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	info, err := r.Info(t.Context())
	if err != nil || info.Engine != "podman" {
		t.Errorf("%+v, %v", info, err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(info.Socket, "sandbox") {
		if _, err := os.Stat(filepath.Dir(info.Socket)); err == nil && !strings.HasPrefix(info.Socket, "/run/podman") {
			t.Errorf("%s is left behind", filepath.Dir(info.Socket))
		}
	}
}

// Monitor and process killed at once, as by the end of a virtual machine: the
// container counts as exited, says that it is lost, and can be removed.
func TestProcessAndMonitorGone(t *testing.T) {
	r := open(t)
	image := boxImage(t, r)
	spec := runtime.ContainerSpec{
		Name: "sandbox-podmantest-stale", Image: image, Cmd: []string{"wait"},
		Labels: map[string]string{runtime.LabelName: "podmantest"},
	}
	if err := r.RemoveContainer(t.Context(), spec.Name); err != nil {
		t.Fatal(err)
	}
	c, err := r.CreateContainer(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.RemoveContainer(background(), c.ID); err != nil {
			t.Error(err)
		}
	})
	if err := r.StartContainer(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	if c, err = r.Container(t.Context(), c.ID); err != nil || !c.Running() {
		t.Fatalf("%+v, %v", c, err)
	}
	monitor := parent(t, c.PID)
	for _, pid := range []int{monitor, c.PID} { // the monitor first, so that it can't tell
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	within(t, "the container counts as exited", func() bool {
		got, err := r.Container(t.Context(), c.ID)
		return err == nil && got.State == "exited"
	})
	if err := r.StartContainer(t.Context(), c.ID); !errors.Is(err, runtime.ErrLost) {
		t.Errorf("start: %v, want ErrLost", err)
	}
	if err := r.RemoveContainer(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Container(t.Context(), c.ID); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("after removal: %v", err)
	}
}

// serviceOf finds the service that listens in dir, or returns 0.
func serviceOf(t *testing.T, dir string) int {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range lines {
		if text, err := os.ReadFile(path); err == nil && strings.Contains(string(text), "unix://"+dir) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	return 0
}

// ended reports whether a process has ended. One that its new parent has not
// waited for yet has ended too.
func ended(t *testing.T, pid int) bool {
	t.Helper()
	state, err := processStatus(pid, "State:")
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return true
	}
	if err != nil {
		t.Fatal(err)
	}
	return state == "Z" || state == "X"
}

// parent returns the parent of a process.
func parent(t *testing.T, pid int) int {
	t.Helper()
	text, err := processStatus(pid, "PPid:")
	if err != nil {
		t.Fatal(err)
	}
	id, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// processStatus returns the first word of what the kernel says of a process.
func processStatus(pid int, field string) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(string(text), "\n"+field)
	words := strings.Fields(rest)
	if len(words) == 0 {
		return "", fmt.Errorf("process %d has no %s", pid, field)
	}
	return words[0], nil
}

func within(t *testing.T, what string, condition func() bool) {
	t.Helper()
	const long = 2 * time.Minute
	timeout := time.NewTimer(long)
	defer timeout.Stop()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-timeout.C:
			t.Fatalf("not within %s: %s", long, what)
		case <-ticker.C:
		}
	}
}

// background is for what has to happen after the test's own context has ended.
func background() context.Context { return context.Background() }

// boxImage builds the conformance suite's image under a name of this test.
func boxImage(t *testing.T, r runtime.Runtime) string {
	t.Helper()
	dir := t.TempDir()
	build := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, "box"),
		"github.com/sandbox-stack/sandbox/internal/runtime/runtimetest/boxcmd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nCOPY box /box\nENTRYPOINT [\"/box\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const tag = "localhost/sandbox/podmantest/box:1"
	labels := map[string]string{runtime.LabelName: "podmantest"}
	image, err := r.BuildImage(t.Context(), runtime.BuildSpec{Context: dir, Tag: tag, Labels: labels}, func(line string) { t.Log(line) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.RemoveImage(background(), tag); err != nil {
			t.Error(err)
		}
	})
	return image.ID
}
