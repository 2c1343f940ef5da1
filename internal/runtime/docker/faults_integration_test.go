//go:build integration

package docker_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/docker"
)

// checkVariable makes the test binary look at the daemon and say what is wrong.
const checkVariable = "SANDBOX_TEST_CHECK"

func TestMain(m *testing.M) {
	host := os.Getenv(checkVariable)
	if host == "" {
		os.Exit(m.Run())
	}
	fmt.Fprint(os.Stdout, docker.Check(context.Background(), docker.Options{Host: host}))
}

// A daemon that is stopped takes connections and does not answer: that is
// said within five seconds, and what is called afterwards works again.
func TestStoppedDaemon(t *testing.T) {
	engine := start(t)
	if err := syscall.Kill(engine.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	goOn := func() { _ = syscall.Kill(engine.PID(), syscall.SIGCONT) }
	t.Cleanup(goOn)
	began := time.Now()
	err := docker.Check(t.Context(), docker.Options{Host: engine.Host()})
	took := time.Since(began)
	var f *fault.Error
	if !errors.As(err, &f) || f.Code != fault.Unavailable || !strings.Contains(f.What, engine.Socket()) || !strings.Contains(f.Why, "5s") || f.Try == "" {
		t.Errorf("got %v", err)
	}
	// Five seconds of patience, and what a busy machine adds.
	if took < 4*time.Second || took > 20*time.Second {
		t.Errorf("it took %s", took)
	}
	goOn()
	if err := docker.Check(t.Context(), docker.Options{Host: engine.Host()}); err != nil {
		t.Errorf("after it goes on: %v", err)
	}
}

// A user who may not use the socket is told so.
func TestNoPermission(t *testing.T) {
	engine := start(t)
	dir, err := os.MkdirTemp("", "sandbox-test-") // where the other user may go
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	self := filepath.Join(dir, "test")
	if err := errors.Join(os.Chmod(dir, 0o755), copyFile(self, os.Args[0])); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Dir = dir
	cmd.Env = []string{checkVariable + "=" + engine.Host(), "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := "no permission to use Docker on " + engine.Socket() + "\n  its socket is for root and the group docker\n  Try: sudo usermod -aG docker"
	if !strings.HasPrefix(string(out), want) {
		t.Errorf("got\n%s\nwant\n%s", out, want)
	}
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return errors.Join(err, in.Close())
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, in.Close(), out.Close())
}

// A daemon that ends ends what listens to it, and is told of.
func TestDaemonEnds(t *testing.T) {
	engine := start(t)
	r := open(t, engine)
	events, err := r.Events(t.Context(), map[string]string{runtime.LabelName: ""})
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(engine.PID(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case _, open := <-events:
		if open {
			t.Error("an event of nothing")
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("the events go on")
	}
	if _, err := r.Containers(t.Context(), nil); fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "the connection to Docker is lost") {
		t.Errorf("got %v", err)
	}
}

// kind's nodes have a terminal, whose output is not multiplexed.
func TestLogOfATerminal(t *testing.T) {
	engine := start(t)
	r := open(t, engine)
	box(t, r)
	cmd := exec.Command(filepath.Join(engine.Commands(), "docker"), "run", "--detach", "--tty", "--name", "sandbox-dockertest-tty",
		"--label", runtime.LabelName+"=dockertest", boxTag, "/box", "print", "4")
	cmd.Env = engine.Env(os.Environ())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Cleanup(func() {
		if err := r.RemoveContainer(context.Background(), "sandbox-dockertest-tty"); err != nil {
			t.Error(err)
		}
	})
	var out strings.Builder
	if err := r.Logs(t.Context(), "sandbox-dockertest-tty", runtime.LogOptions{Follow: true}, &out); err != nil || strings.Count(out.String(), "line ") != 4 {
		t.Errorf("got %q, %v", out.String(), err)
	}
}
