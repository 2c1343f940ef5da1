package runtimetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sandbox-stack/sandbox/internal/runtime"
)

func testLogs(t *testing.T, s *suite) {
	c := s.start(t, s.spec(t, "print", "10"))
	s.waitState(t, c.ID, "exited")
	s.waitLog(t, c.ID, "line 10")

	lines := strings.Split(strings.TrimSpace(s.logs(t, c.ID, runtime.LogOptions{})), "\n")
	slices.Sort(lines) // the two streams race
	if len(lines) != 10 || lines[0] != "line 1" || lines[9] != "line 9" {
		t.Errorf("all: %q", lines)
	}
	if tail := s.logs(t, c.ID, runtime.LogOptions{Tail: 3}); strings.Count(tail, "\n") != 3 {
		t.Errorf("tail 3: %q", tail)
	}
	if none := s.logs(t, c.ID, runtime.LogOptions{Tail: -1}); none != "" {
		t.Errorf("none: %q", none)
	}
	if later := s.logs(t, c.ID, runtime.LogOptions{Since: time.Now().Add(time.Hour)}); later != "" {
		t.Errorf("since a later time: %q", later)
	}
	stamped := strings.Fields(s.logs(t, c.ID, runtime.LogOptions{Tail: 1, Timestamps: true}))
	if len(stamped) != 3 {
		t.Fatalf("timestamps: %q", stamped)
	}
	if _, err := time.Parse(time.RFC3339Nano, stamped[0]); err != nil {
		t.Errorf("timestamp: %v", err)
	}
	// Following a container that has ended ends.
	if all := s.logs(t, c.ID, runtime.LogOptions{Follow: true}); strings.Count(all, "\n") != 10 {
		t.Errorf("follow after the end: %q", all)
	}
}

// What a container says at its very end is not lost to who follows it.
func testLogsFollowShort(t *testing.T, s *suite) {
	for i := range 5 {
		spec := s.spec(t, "print", "10")
		spec.Name += fmt.Sprint("-", i)
		c := s.start(t, spec)
		if all := s.logs(t, c.ID, runtime.LogOptions{Follow: true}); strings.Count(all, "\n") != 10 {
			t.Errorf("%d: %q", i, all)
		}
	}
}

func testLogsFollow(t *testing.T, s *suite) {
	c := s.start(t, s.spec(t, "tick"))
	var out buffer
	done := make(chan error, 1)
	ctx := testContext(t)
	go func() { done <- s.rt.Logs(ctx, c.ID, runtime.LogOptions{Follow: true}, &out) }()
	eventually(t, "lines follow", func() bool { return strings.Contains(out.String(), "tick 5\n") })
	must(t, s.rt.StopContainer(ctx, c.ID, 5*time.Second))
	select {
	case err := <-done:
		must(t, err)
	case <-ctx.Done():
		t.Fatal("the log did not end with the container")
	}
}

func testLogsFollowCanceled(t *testing.T, s *suite) {
	c := s.start(t, s.spec(t, "wait"))
	var out buffer
	ctx, cancel := context.WithCancel(testContext(t))
	done := make(chan error, 1)
	go func() { done <- s.rt.Logs(ctx, c.ID, runtime.LogOptions{Follow: true}, &out) }()
	eventually(t, "the log is there", func() bool { return strings.Contains(out.String(), "ready") })
	cancel()
	mustBe(t, <-done, context.Canceled)
}

func testExec(t *testing.T, s *suite) {
	c := s.start(t, s.spec(t, "wait"))
	var stdout, stderr buffer
	code, err := s.rt.Exec(testContext(t), c.ID, runtime.ExecSpec{Cmd: []string{"/box", "print", "4"}, Stdout: &stdout, Stderr: &stderr})
	must(t, err)
	if code != 0 || stdout.String() != "line 1\nline 3\n" || stderr.String() != "line 2\nline 4\n" {
		t.Errorf("code %d, stdout %q, stderr %q", code, stdout.String(), stderr.String())
	}
	code, err = s.rt.Exec(testContext(t), c.ID, runtime.ExecSpec{Cmd: []string{"/box", "exit", "7"}})
	must(t, err)
	if code != 7 {
		t.Errorf("exit code %d, want 7", code)
	}
	var out buffer
	_, err = s.rt.Exec(testContext(t), c.ID, runtime.ExecSpec{Cmd: []string{"/box", "env", "A"}, Env: map[string]string{"A": "b c"}, Stdout: &out})
	must(t, err)
	if out.String() != "b c\n" {
		t.Errorf("env: %q", out.String())
	}
	code, err = s.rt.Exec(testContext(t), c.ID, runtime.ExecSpec{Cmd: []string{"/missing"}})
	if err == nil && code == 0 {
		t.Error("a missing program succeeded")
	}
	must(t, s.rt.StopContainer(testContext(t), c.ID, 5*time.Second))
	if _, err = s.rt.Exec(testContext(t), c.ID, runtime.ExecSpec{Cmd: []string{"/box", "exit", "0"}}); err == nil {
		t.Error("a command ran in a stopped container")
	}
}

// More than any buffer on the way holds comes back unchanged.
func testExecStdin(t *testing.T, s *suite) {
	c := s.start(t, s.spec(t, "wait"))
	sent := make([]byte, 8<<20)
	if _, err := rand.Read(sent); err != nil {
		t.Fatal(err)
	}
	var back bytes.Buffer
	code, err := s.rt.Exec(testContext(t), c.ID, runtime.ExecSpec{Cmd: []string{"/box", "cat"}, Stdin: bytes.NewReader(sent), Stdout: &back})
	must(t, err)
	if code != 0 || !bytes.Equal(back.Bytes(), sent) {
		t.Errorf("code %d; %d bytes came back of %d", code, back.Len(), len(sent))
	}
}

// A command that ends without reading its input ends the call, though the
// reader would block for ever.
func testExecLeavesStdin(t *testing.T, s *suite) {
	c := s.start(t, s.spec(t, "wait"))
	reader, writer := io.Pipe()
	defer func() { _ = writer.Close() }()
	code, err := s.rt.Exec(testContext(t), c.ID, runtime.ExecSpec{Cmd: []string{"/box", "exit", "2"}, Stdin: reader})
	must(t, err)
	if code != 2 {
		t.Errorf("exit code %d, want 2", code)
	}
}

func testExecConcurrent(t *testing.T, s *suite) {
	c := s.start(t, s.spec(t, "wait"))
	ctx := testContext(t)
	var group sync.WaitGroup
	errs := make(chan error, 8)
	for i := range cap(errs) {
		group.Go(func() {
			want := fmt.Sprintf("message %d", i)
			var out buffer
			code, err := s.rt.Exec(ctx, c.ID, runtime.ExecSpec{Cmd: []string{"/box", "cat"}, Stdin: strings.NewReader(want), Stdout: &out})
			if err == nil && (code != 0 || out.String() != want) {
				err = fmt.Errorf("code %d, %q, want %q", code, out.String(), want)
			}
			errs <- err
		})
	}
	group.Wait()
	close(errs)
	for err := range errs {
		must(t, err)
	}
}

func testExecCanceled(t *testing.T, s *suite) {
	c := s.start(t, s.spec(t, "wait"))
	ctx, cancel := context.WithCancel(testContext(t))
	var out buffer
	done := make(chan error, 1)
	go func() {
		_, err := s.rt.Exec(ctx, c.ID, runtime.ExecSpec{Cmd: []string{"/box", "tick"}, Stdout: &out})
		done <- err
	}()
	eventually(t, "the command runs", func() bool { return strings.Contains(out.String(), "tick 2") })
	cancel()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error %v", err)
		}
	case <-testContext(t).Done():
		t.Fatal("the command did not end with its context")
	}
}
