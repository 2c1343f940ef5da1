package session

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/detect"
	"github.com/sandbox-stack/sandbox/internal/state"
)

func TestDownGoesByLabels(t *testing.T) {
	engine := useEngine(t)
	ctx := t.Context()
	ours, foreign := map[string]string{runtime.LabelName: "demo"}, map[string]string{runtime.LabelName: "other"}
	engine.AddImage(runtime.Image{ID: "sha256:1", Names: []string{"built"}, Labels: ours})
	engine.AddImage(runtime.Image{ID: "sha256:2", Names: []string{"platform"}})
	for i, c := range []runtime.ContainerSpec{
		{Name: "sandbox-demo-aws", Labels: ours},
		{Name: "renamed", Labels: ours},
		{Name: "sandbox-demo-prometheus", Labels: foreign},
		{Name: "sandbox-demo-x"},
	} {
		c.Image = "platform"
		if _, err := engine.CreateContainer(ctx, c); err != nil {
			t.Fatal(i, err)
		}
	}
	for name, labels := range map[string]map[string]string{"sandbox-demo": ours, "sandbox-other": foreign} {
		if _, err := engine.CreateNetwork(ctx, name, labels); err != nil {
			t.Fatal(err)
		}
	}
	engine.AddVolume(runtime.Volume{Name: "v", Labels: ours})
	dir, err := state.Open("demo")
	if err != nil {
		t.Fatal(err)
	}

	var finished event.RunFinished
	sink := event.SinkFunc(func(e event.Envelope) error {
		if e.RunFinished != nil {
			finished = *e.RunFinished
		}
		return nil
	})
	if err := Down(ctx, "demo", false, sink); err != nil {
		t.Fatal(err)
	}
	if !finished.OK {
		t.Error("the run did not end well")
	}
	left, err := engine.Containers(ctx, nil)
	if err != nil || len(left) != 2 {
		t.Errorf("containers: %+v, %v; want the two that are not ours", left, err)
	}
	if nets, err := engine.Networks(ctx, nil); err != nil || len(nets) != 1 || nets[0].Name != "sandbox-other" {
		t.Errorf("networks: %+v, %v", nets, err)
	}
	if vols, err := engine.Volumes(ctx, nil); err != nil || len(vols) != 0 {
		t.Errorf("volumes: %+v, %v", vols, err)
	}
	if imgs, err := engine.Images(ctx, nil); err != nil || len(imgs) != 2 {
		t.Errorf("images: %+v, %v; want both kept", imgs, err)
	}
	if _, err := os.Stat(dir.Path()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the state folder is left: %v", err)
	}
	if err := Down(ctx, "demo", true, sink); err != nil {
		t.Fatal("again:", err)
	}
	if imgs, err := engine.Images(ctx, nil); err != nil || len(imgs) != 1 || imgs[0].Names[0] != "platform" {
		t.Errorf("images: %+v, %v; want the built one gone", imgs, err)
	}
}

func TestAllFindsWhatHasNoRecord(t *testing.T) {
	engine := useEngine(t)
	if _, err := state.Open("recorded"); err != nil {
		t.Fatal(err)
	}
	if _, err := engine.CreateNetwork(t.Context(), "n", map[string]string{runtime.LabelName: "lost"}); err != nil {
		t.Fatal(err)
	}
	got, err := All(t.Context())
	if err != nil || !slices.Equal(got, []string{"lost", "recorded"}) {
		t.Errorf("got %v, %v", got, err)
	}
}

// Where the engine is missing, down leaves everything as it was: no folder of a
// sandbox that was never there, and the record of one that is.
func TestDownWithoutAnEngine(t *testing.T) {
	useEngine(t)
	missing := fault.New(fault.Unavailable, "no engine", "", "install it")
	s, err := Start(t.Context(), wanted(t, "there"), Options{AutoPorts: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	openEngine = func(context.Context, string, detect.Choice) (runtime.Runtime, detect.Found, error) {
		return nil, detect.Found{}, missing
	}
	for _, name := range []string{"there", "never"} {
		if err := Down(t.Context(), name, false, nothing(t)); !errors.Is(err, missing) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if names, err := state.List(); err != nil || !slices.Equal(names, []string{"there"}) {
		t.Errorf("state of %v, %v", names, err)
	}
	if _, err := recorded("there"); err != nil {
		t.Errorf("the record is gone: %v", err)
	}
}

// nothing is a sink of a run that must not begin.
func nothing(t *testing.T) event.Sink {
	return event.SinkFunc(func(e event.Envelope) error {
		t.Errorf("an event of a run that has not begun: %+v", e)
		return nil
	})
}

func TestDownKeepsOffARunningUp(t *testing.T) {
	engine := useEngine(t)
	s, err := Start(t.Context(), wanted(t, "demo"), Options{AutoPorts: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var f *fault.Error
	if err := Down(t.Context(), "demo", false, nothing(t)); !errors.As(err, &f) || f.Code != fault.Locked || !strings.Contains(f.What, "sandbox up") || f.Try == "" {
		t.Errorf("got %v", err)
	}
	if slices.ContainsFunc(engine.Calls(), func(call string) bool { return strings.HasPrefix(call, "Remove") }) {
		t.Errorf("removed something: %v", engine.Calls())
	}
}

// What cannot be removed is an error; the state stays, so that down can be
// called again.
func TestDownThatFailsKeepsTheState(t *testing.T) {
	engine := useEngine(t)
	if _, err := state.Open("demo"); err != nil {
		t.Fatal(err)
	}
	if _, err := engine.CreateNetwork(t.Context(), "sandbox-demo", map[string]string{runtime.LabelName: "demo"}); err != nil {
		t.Fatal(err)
	}
	engine.Fail = func(method, _ string) error {
		if method == "RemoveNetwork" {
			return errors.New("it is in use")
		}
		return nil
	}
	var finished *event.RunFinished
	err := Down(t.Context(), "demo", false, event.SinkFunc(func(e event.Envelope) error {
		if e.RunFinished != nil {
			finished = e.RunFinished
		}
		return nil
	}))
	if err == nil || !strings.Contains(err.Error(), "remove network sandbox-demo: it is in use") {
		t.Errorf("got %v", err)
	}
	if finished == nil || finished.OK || finished.Error == nil {
		t.Errorf("the run ended with %+v", finished)
	}
	if names, err := state.List(); err != nil || len(names) != 1 {
		t.Errorf("state of %v, %v", names, err)
	}
	engine.Fail = nil
	if err := Down(t.Context(), "demo", false, event.SinkFunc(func(event.Envelope) error { return nil })); err != nil {
		t.Fatal("again:", err)
	}
	if names, err := state.List(); err != nil || len(names) != 0 {
		t.Errorf("state of %v, %v", names, err)
	}
}

// A probe that was given up goes on for a moment after its session: it must
// find an engine that is closed, not none.
func TestAClosedSessionCanStillBeAsked(t *testing.T) {
	useEngine(t)
	s, err := Start(t.Context(), wanted(t, "demo"), Options{AutoPorts: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if all := s.Status(t.Context()); all.State.Healthy() {
		t.Errorf("a sandbox of which nothing was made counts as healthy: %+v", all)
	}
}

func TestImagesAreBuiltByTheirNames(t *testing.T) {
	useEngine(t)
	_, err := BuildImages(t.Context(), []string{"node", "noode"}, nothing(t))
	var f *fault.Error
	if !errors.As(err, &f) || f.Code != fault.Invalid || !strings.Contains(f.Why, "node, ") || f.Try == "" {
		t.Errorf("got %v", err)
	}
	_, err = os.Stat(os.Getenv("XDG_CACHE_HOME") + "/sandbox")
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something is in the cache: %v", err)
	}
}
