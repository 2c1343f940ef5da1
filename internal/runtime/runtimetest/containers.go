package runtimetest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sandbox-stack/sandbox/internal/runtime"
)

func testInfo(t *testing.T, s *suite) {
	info, err := s.rt.Info(testContext(t))
	must(t, err)
	if info.Engine == "" || info.Version == "" || info.CgroupVersion == 0 {
		t.Errorf("incomplete: %+v", info)
	}
}

func testLifecycle(t *testing.T, s *suite) {
	ctx := testContext(t)
	spec := s.spec(t, "wait")
	c := s.create(t, spec)
	if c.Name != spec.Name || c.State != "created" || c.Running() || c.Labels[runtime.LabelComponent] != "test" {
		t.Errorf("after create: %+v", c)
	}
	if !strings.HasPrefix(c.ImageID, "sha256:") {
		t.Errorf("image ID %q", c.ImageID)
	}
	must(t, s.rt.StartContainer(ctx, c.ID))
	must(t, s.rt.StartContainer(ctx, c.ID)) // running already: no error
	c, err := s.rt.Container(ctx, spec.Name)
	must(t, err)
	if !c.Running() || c.PID <= 0 || c.Started.IsZero() || !c.Finished.IsZero() {
		t.Errorf("after start: %+v", c)
	}
	s.waitLog(t, c.ID, "ready")
	must(t, s.rt.StopContainer(ctx, c.ID, 10*time.Second))
	must(t, s.rt.StopContainer(ctx, c.ID, 10*time.Second)) // stopped already: no error
	c, err = s.rt.Container(ctx, c.ID)
	must(t, err)
	if c.State != "exited" || c.ExitCode != 0 || c.Finished.IsZero() {
		t.Errorf("after stop: %+v", c)
	}
	if log := s.logs(t, c.ID, runtime.LogOptions{}); !strings.Contains(log, "bye") {
		t.Errorf("it was killed rather than asked; log: %s", log)
	}
	must(t, s.rt.StartContainer(ctx, c.ID))
	if c = s.waitState(t, c.ID, "running"); c.PID <= 0 {
		t.Errorf("after the second start: %+v", c)
	}
	must(t, s.rt.RemoveContainer(ctx, c.ID))
	must(t, s.rt.RemoveContainer(ctx, c.ID)) // gone already: no error
	_, err = s.rt.Container(ctx, c.ID)
	mustBe(t, err, runtime.ErrNotFound)
}

// What runs is killed when it is removed, and not asked to end: that would take a
// grace period where it takes no notice.
func testRemoveRunning(t *testing.T, s *suite) {
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	c := s.start(t, s.spec(t, "wait"))
	var out buffer
	followed := make(chan error, 1)
	go func() { followed <- s.rt.Logs(ctx, c.ID, runtime.LogOptions{Follow: true}, &out) }()
	eventually(t, "the log is there", func() bool { return strings.Contains(out.String(), "ready") })
	must(t, s.rt.RemoveContainer(ctx, c.ID))
	var err error
	select { // the log of what is gone need not end by itself
	case err = <-followed:
	case <-time.After(5 * time.Second):
		cancel()
		err = <-followed
	}
	if s.features.Build && strings.Contains(out.String(), "bye") {
		t.Errorf("it was asked to end rather than killed; its log: %v", err)
	}
	_, err = s.rt.Container(testContext(t), c.ID)
	mustBe(t, err, runtime.ErrNotFound)

	spec := s.spec(t, "hang")
	c = s.start(t, spec)
	must(t, s.rt.RemoveContainer(testContext(t), c.ID))
	_, err = s.rt.Container(testContext(t), c.ID)
	mustBe(t, err, runtime.ErrNotFound)
}

func testStopKills(t *testing.T, s *suite) {
	c := s.start(t, s.spec(t, "hang"))
	must(t, s.rt.StopContainer(testContext(t), c.ID, time.Second))
	c, err := s.rt.Container(testContext(t), c.ID)
	must(t, err)
	if c.State != "exited" || c.ExitCode != 137 {
		t.Errorf("after stop: %+v", c)
	}
}

func testExitCode(t *testing.T, s *suite) {
	c := s.start(t, s.spec(t, "exit", "3"))
	if c = s.waitState(t, c.ID, "exited"); c.ExitCode != 3 {
		t.Errorf("exit code %d, want 3", c.ExitCode)
	}
}

func testOutOfMemory(t *testing.T, s *suite) {
	if !s.features.Limits {
		t.Skip("this runtime enforces no limits")
	}
	spec := s.spec(t, "eat", "256")
	spec.Memory = 64 << 20
	c := s.start(t, spec)
	info, err := s.rt.Info(testContext(t))
	must(t, err)
	c = s.waitState(t, c.ID, "exited")
	if c.ExitCode != 137 || (!c.OOM && info.CgroupVersion > 1) {
		t.Errorf("OOM %t, exit code %d", c.OOM, c.ExitCode)
	}
}

func testNotFound(t *testing.T, s *suite) {
	ctx := testContext(t)
	const missing = "sandbox-runtimetest-missing"
	_, err := s.rt.Container(ctx, missing)
	mustBe(t, err, runtime.ErrNotFound)
	_, err = s.rt.Image(ctx, "localhost/"+missing)
	mustBe(t, err, runtime.ErrNotFound)
	mustBe(t, s.rt.StartContainer(ctx, missing), runtime.ErrNotFound)
	mustBe(t, s.rt.StopContainer(ctx, missing, 0), runtime.ErrNotFound)
	mustBe(t, s.rt.PauseContainer(ctx, missing), runtime.ErrNotFound)
	mustBe(t, s.rt.UnpauseContainer(ctx, missing), runtime.ErrNotFound)
	mustBe(t, s.rt.DisconnectNetwork(ctx, missing, missing), runtime.ErrNotFound)
	mustBe(t, s.rt.ConnectNetwork(ctx, missing, missing, runtime.Endpoint{}), runtime.ErrNotFound)
	mustBe(t, s.rt.Logs(ctx, missing, runtime.LogOptions{}, &buffer{}), runtime.ErrNotFound)
	_, err = s.rt.Exec(ctx, missing, runtime.ExecSpec{Cmd: []string{"true"}})
	mustBe(t, err, runtime.ErrNotFound)
	mustBe(t, s.rt.SaveImage(ctx, "localhost/"+missing, &buffer{}), runtime.ErrNotFound)
	spec := s.spec(t, "wait")
	spec.Image = "localhost/" + missing
	_, err = s.rt.CreateContainer(ctx, spec)
	mustBe(t, err, runtime.ErrNotFound)
	must(t, s.rt.RemoveContainer(ctx, missing))
	must(t, s.rt.RemoveImage(ctx, "localhost/"+missing))
	must(t, s.rt.RemoveNetwork(ctx, missing))
	must(t, s.rt.RemoveVolume(ctx, missing))
}

func testNameTaken(t *testing.T, s *suite) {
	spec := s.spec(t, "wait")
	first := s.create(t, spec)
	if _, err := s.rt.CreateContainer(testContext(t), spec); err == nil {
		t.Fatal("two containers of one name")
	}
	again, err := s.rt.Container(testContext(t), spec.Name)
	must(t, err)
	if again.ID != first.ID {
		t.Error("the first container was replaced")
	}
}

func testLabels(t *testing.T, s *suite) {
	ctx := testContext(t)
	one, two := s.spec(t, "wait"), s.spec(t, "wait")
	one.Name, one.Labels = one.Name+"-1", map[string]string{runtime.LabelName: Name, runtime.LabelComponent: "a"}
	two.Name, two.Labels = two.Name+"-2", map[string]string{runtime.LabelName: Name, runtime.LabelComponent: "b"}
	s.create(t, two)
	s.create(t, one)
	for _, test := range []struct {
		labels map[string]string
		want   []string
	}{
		{map[string]string{runtime.LabelName: Name}, []string{one.Name, two.Name}},
		{map[string]string{runtime.LabelName: Name, runtime.LabelComponent: "b"}, []string{two.Name}},
		{map[string]string{runtime.LabelName: Name, runtime.LabelComponent: ""}, []string{one.Name, two.Name}},
		{map[string]string{runtime.LabelName: Name, runtime.LabelRun: ""}, nil},
		{map[string]string{runtime.LabelName: "other-" + Name}, nil},
	} {
		containers, err := s.rt.Containers(ctx, test.labels)
		must(t, err)
		var names []string
		for _, c := range containers {
			names = append(names, c.Name)
		}
		if strings.Join(names, " ") != strings.Join(test.want, " ") {
			t.Errorf("%v: %v, want %v", test.labels, names, test.want)
		}
	}
}

func testEnvironment(t *testing.T, s *suite) {
	spec := s.spec(t, "env", "GREETING")
	spec.Env = map[string]string{"GREETING": "hello = world"}
	c := s.start(t, spec)
	s.waitState(t, c.ID, "exited")
	if log := s.logs(t, c.ID, runtime.LogOptions{}); log != "hello = world\n" {
		t.Errorf("got %q", log)
	}
}

func testMounts(t *testing.T, s *suite) {
	if !s.features.Build {
		t.Skip("this runtime has no files")
	}
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, "in"), []byte("from the host"), 0o644))
	spec := s.spec(t, "read", "/data/in")
	spec.Mounts = []runtime.Mount{{Source: dir, Target: "/data", ReadOnly: true}}
	c := s.start(t, spec)
	s.waitState(t, c.ID, "exited")
	if log := s.logs(t, c.ID, runtime.LogOptions{}); strings.TrimSpace(log) != "from the host" {
		t.Errorf("read %q", log)
	}
	spec.Name, spec.Cmd = spec.Name+"-write", []string{"write", "/data/out", "x"}
	c = s.start(t, spec)
	if c = s.waitState(t, c.ID, "exited"); c.ExitCode == 0 {
		t.Error("a read-only mount was written to")
	}
}

func testStats(t *testing.T, s *suite) {
	c := s.start(t, s.spec(t, "tick"))
	for range 2 {
		stats, err := s.rt.Stats(testContext(t), []string{c.ID})
		must(t, err)
		if len(stats) != 1 || stats[0].ID != c.ID || stats[0].Name != c.Name || stats[0].Memory <= 0 || stats[0].CPU < 0 || stats[0].CPU > 64 {
			t.Errorf("got %+v", stats)
		}
	}
	stats, err := s.rt.Stats(testContext(t), nil)
	must(t, err)
	if len(stats) != 0 {
		t.Errorf("without a container: %+v", stats)
	}
}

func testEvents(t *testing.T, s *suite) {
	ctx, cancel := context.WithCancel(testContext(t))
	defer cancel()
	events, err := s.rt.Events(ctx, s.labels)
	must(t, err)
	spec := s.spec(t, "exit", "5")
	c := s.start(t, spec)
	s.waitState(t, c.ID, "exited")
	must(t, s.rt.RemoveContainer(ctx, c.ID))

	seen := map[string]runtime.Event{}
	for seen["remove"].ID == "" {
		select {
		case e, ok := <-events:
			if !ok {
				t.Fatal("the events ended")
			}
			if e.ID == c.ID {
				seen[e.Action] = e
			}
		case <-ctx.Done():
			t.Fatalf("no remove event; got %v", seen)
		}
	}
	for _, action := range []string{"start", "die", "remove"} {
		if e := seen[action]; e.Name != spec.Name || e.Time.IsZero() || e.Labels[runtime.LabelName] != Name {
			t.Errorf("%s: %+v", action, e)
		}
	}
	if code := seen["die"].ExitCode; code != 5 {
		t.Errorf("die: exit code %d, want 5", code)
	}
	cancel()
	eventually(t, "the channel is closed", func() bool {
		select {
		case _, ok := <-events:
			return !ok
		default:
			return false
		}
	})
}

func testCanceled(t *testing.T, s *suite) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.rt.Containers(ctx, s.labels)
	mustBe(t, err, context.Canceled)
	_, err = s.rt.CreateContainer(ctx, s.spec(t, "wait"))
	mustBe(t, err, context.Canceled)
	containers, err := s.rt.Containers(testContext(t), map[string]string{runtime.LabelName: Name, runtime.LabelComponent: "test"})
	must(t, err)
	for _, c := range containers {
		if c.Name == s.spec(t).Name {
			t.Error("a canceled call created a container")
		}
	}
}
