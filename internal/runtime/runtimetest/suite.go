// Package runtimetest is what every runtime.Runtime has to do, as tests.
package runtimetest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// Name is the value of the label sandbox.name of all that the suite creates.
const Name = "runtimetest"

const (
	baseImage = "localhost/sandbox/runtimetest/box:1"
	// deadline bounds each wait, and all calls of a test that share a context: only
	// a failure takes that long, also on a busy machine.
	deadline = 3 * time.Minute
)

// Features says what a runtime really does, beyond keeping the books.
type Features struct {
	// Network: containers reach each other by name, and published ports.
	Network bool
	// Build: the instructions of a Dockerfile are followed.
	Build bool
	// Limits: memory limits are enforced.
	Limits bool
}

// Run runs the suite against the runtime that open returns. The suite removes
// what carries its label before and after, and nothing else.
func Run(t *testing.T, features Features, open func(t *testing.T) runtime.Runtime) {
	rt := open(t)
	s := &suite{rt: rt, features: features, labels: map[string]string{runtime.LabelName: Name}}
	Clean(t, rt, s.labels)
	t.Cleanup(func() { Clean(t, rt, s.labels) })
	s.buildBase(t)
	for _, test := range []struct {
		name string
		run  func(*testing.T, *suite)
	}{
		{"Info", testInfo},
		{"Images", testImages},
		{"SaveAndLoad", testSaveAndLoad},
		{"Build", testBuild},
		{"BuildFails", testBuildFails},
		{"Lifecycle", testLifecycle},
		{"RemoveRunning", testRemoveRunning},
		{"StopKillsAfterGrace", testStopKills},
		{"ExitCode", testExitCode},
		{"OutOfMemory", testOutOfMemory},
		{"NotFound", testNotFound},
		{"NameTaken", testNameTaken},
		{"Labels", testLabels},
		{"Environment", testEnvironment},
		{"Mounts", testMounts},
		{"Logs", testLogs},
		{"LogsFollow", testLogsFollow},
		{"LogsFollowShort", testLogsFollowShort},
		{"LogsFollowCanceled", testLogsFollowCanceled},
		{"Exec", testExec},
		{"ExecStdin", testExecStdin},
		{"ExecLeavesStdin", testExecLeavesStdin},
		{"ExecConcurrent", testExecConcurrent},
		{"ExecCanceled", testExecCanceled},
		{"Networks", testNetworks},
		{"NetworkNames", testNetworkNames},
		{"Ports", testPorts},
		{"PortTaken", testPortTaken},
		{"Pause", testPause},
		{"PauseLeft", testPauseLeft},
		{"Disconnect", testDisconnect},
		{"ConnectRestart", testConnectRestart},
		{"Stats", testStats},
		{"Events", testEvents},
		{"Canceled", testCanceled},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, s) })
	}
}

type suite struct {
	rt       runtime.Runtime
	features Features
	labels   map[string]string
}

// Clean removes what carries the labels: what tests, of this run or of an earlier
// one that was killed, have created.
func Clean(t *testing.T, rt runtime.Runtime, labels map[string]string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	containers, err := rt.Containers(ctx, labels)
	must(t, err)
	for _, c := range containers {
		must(t, rt.RemoveContainer(ctx, c.ID))
	}
	networks, err := rt.Networks(ctx, labels)
	must(t, err)
	for _, n := range networks {
		must(t, rt.RemoveNetwork(ctx, n.Name))
	}
	images, err := rt.Images(ctx, labels)
	must(t, err)
	for _, image := range images {
		for _, name := range image.Names {
			must(t, rt.RemoveImage(ctx, name))
		}
	}
	images, err = rt.Images(ctx, labels) // those without a name
	must(t, err)
	for _, image := range images {
		must(t, rt.RemoveImage(ctx, image.ID))
	}
}

// buildBase builds the image that the containers run: the box, and nothing
// else, since no registry may be needed.
func (s *suite) buildBase(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "Dockerfile"), "FROM scratch\nCOPY box /box\nCOPY tmp /tmp\nENTRYPOINT [\"/box\"]\nCMD [\"wait\"]\n")
	must(t, os.Mkdir(filepath.Join(dir, "tmp"), 0o777))
	if s.features.Build {
		build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, "box"),
			"github.com/sandbox-stack/sandbox/internal/runtime/runtimetest/boxcmd")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, out)
		}
	} else {
		writeFile(t, filepath.Join(dir, "box"), "")
	}
	image := s.build(t, runtime.BuildSpec{Context: dir, Tag: baseImage, Labels: s.labels})
	if image.ID == "" {
		t.Fatal("the image has no ID")
	}
}

// build builds an image or fails with the builder's output.
func (s *suite) build(t *testing.T, spec runtime.BuildSpec) runtime.Image {
	t.Helper()
	var lines lineLog
	image, err := s.rt.BuildImage(testContext(t), spec, lines.add)
	if err != nil {
		t.Fatalf("%v\n%s", err, lines.String())
	}
	return image
}

// spec describes a container of the suite.
func (s *suite) spec(t *testing.T, cmd ...string) runtime.ContainerSpec {
	return runtime.ContainerSpec{
		Name:   "sandbox-runtimetest-" + strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name())),
		Image:  baseImage,
		Cmd:    cmd,
		Labels: map[string]string{runtime.LabelName: Name, runtime.LabelComponent: "test"},
	}
}

// create creates a container that is removed with the test.
func (s *suite) create(t *testing.T, spec runtime.ContainerSpec) runtime.Container {
	t.Helper()
	c, err := s.rt.CreateContainer(testContext(t), spec)
	must(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		must(t, s.rt.RemoveContainer(ctx, c.ID))
	})
	return c
}

// start creates and starts a container.
func (s *suite) start(t *testing.T, spec runtime.ContainerSpec) runtime.Container {
	t.Helper()
	c := s.create(t, spec)
	must(t, s.rt.StartContainer(testContext(t), c.ID))
	c, err := s.rt.Container(testContext(t), c.ID)
	must(t, err)
	return c
}

// waitState waits until the container is in the state.
func (s *suite) waitState(t *testing.T, id, state string) runtime.Container {
	t.Helper()
	var c runtime.Container
	eventually(t, "the container is "+state, func() bool {
		var err error
		c, err = s.rt.Container(testContext(t), id)
		must(t, err)
		return c.State == state
	})
	return c
}

// waitLog waits until the container's log holds the text.
func (s *suite) waitLog(t *testing.T, id, text string) {
	t.Helper()
	eventually(t, "the log says "+text, func() bool {
		return strings.Contains(s.logs(t, id, runtime.LogOptions{}), text)
	})
}

func (s *suite) logs(t *testing.T, id string, opt runtime.LogOptions) string {
	t.Helper()
	var out bytes.Buffer
	must(t, s.rt.Logs(testContext(t), id, opt, &out))
	return out.String()
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits for the condition until the deadline.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	timeout := time.NewTimer(deadline)
	defer timeout.Stop()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-timeout.C:
			t.Fatalf("not within %s: %s", deadline, what)
		case <-ticker.C:
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func mustBe(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	must(t, os.WriteFile(path, []byte(text), 0o755))
}
