package session

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/plan"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/detect"
	"github.com/sandbox-stack/sandbox/internal/runtime/fake"
	"github.com/sandbox-stack/sandbox/internal/stack"
	"github.com/sandbox-stack/sandbox/internal/steps"
)

// useEngine makes the engine of every session a fake one, in a home of its own.
func useEngine(t *testing.T) *fake.Runtime {
	t.Helper()
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	engine := fake.New(nil)
	open, here := openEngine, enginesHere
	openEngine = func(context.Context, string, detect.Choice) (runtime.Runtime, detect.Found, error) {
		return engine, detect.Found{Engine: "fake"}, nil
	}
	enginesHere = func(context.Context) ([]detect.Choice, error) { return []detect.Choice{{}}, nil }
	t.Cleanup(func() { openEngine, enginesHere = open, here })
	return engine
}

func wanted(t *testing.T, name string) Wanted {
	t.Helper()
	w, err := Load("web-app", name)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestTheRecordOutlivesTheStackFile(t *testing.T) {
	useEngine(t)
	dir := filepath.Join(t.TempDir(), "mine")
	if err := os.CopyFS(dir, os.DirFS("../../stacks/minimal")); err != nil {
		t.Fatal(err)
	}
	w, err := Load(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Start(t.Context(), w, Options{AutoPorts: true, Images: "packages"})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.setRef(plan.NodeImage, "localhost/sandbox/node:1"), s.Close()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, stack.FileName), []byte("broken: ["), 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := recorded("minimal")
	if err != nil {
		t.Fatal(err)
	}
	if again.stack.Dir != w.Stack.Dir || len(again.stack.Spec.Releases) != 1 || again.opt.Images != "packages" ||
		again.ref(plan.NodeImage) != "localhost/sandbox/node:1" || again.ports["prometheus"] != s.ports["prometheus"] {
		t.Errorf("read back %+v of %+v", again, s)
	}
	name, err := One("")
	if err != nil || name != "minimal" {
		t.Errorf("the only sandbox: %q, %v", name, err)
	}
}

// Grafana is the one component that a stack can do without.
func TestAnImageFromNowhere(t *testing.T) {
	useEngine(t)
	for _, tc := range []struct {
		image  string
		strict bool
		off    bool
	}{{plan.GrafanaImage, false, true}, {plan.GrafanaImage, true, false}, {"no-such-image", false, false}} {
		s, err := Start(t.Context(), wanted(t, "demo"), Options{AutoPorts: true, Images: "packages", Strict: tc.strict})
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.ensurePlatform(t.Context(), tc.image, event.Discard)
		var off *steps.Off
		if errors.As(err, &off) != tc.off || (!tc.off && fault.CodeOf(err) != fault.Unavailable) {
			t.Errorf("%s, strict %v: %v", tc.image, tc.strict, err)
		}
		if tc.off {
			if h := s.observers()[2].Probe(t.Context())[0]; h.State != event.StateOff || h.Reason != off.Reason {
				t.Errorf("health of grafana: %+v", h)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSeveralNodesNeedTheRegistry(t *testing.T) {
	useEngine(t)
	w := wanted(t, "demo")
	w.Stack.Spec.Cluster.Nodes = 2
	_, err := Start(t.Context(), w, Options{AutoPorts: true, Images: "packages"})
	if fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "a cluster of 2 nodes") {
		t.Errorf("got %v", err)
	}
}

func TestNeeds(t *testing.T) {
	useEngine(t)
	s := newSession("demo", wanted(t, "demo").Stack, Options{}, nil)
	got := s.needs()["release/web-app"]
	slices.Sort(got)
	if want := []string{"aws", "image/web-app", "terraform/infra"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestImageRef(t *testing.T) {
	for ref, want := range map[string]stack.ImageRef{
		"localhost/sandbox/demo/web:44f6b7f76dc7": {Repository: "localhost/sandbox/demo/web", Tag: "44f6b7f76dc7"},
		"localhost:5000/a/b:1.2":                  {Repository: "localhost:5000/a/b", Tag: "1.2"},
		"localhost:5000/a/b":                      {},
		"":                                        {},
	} {
		got, err := imageRef("web", ref)
		if got != want || (err == nil) != (want.Tag != "") {
			t.Errorf("%q: %+v, %v", ref, got, err)
		}
	}
}

func TestMissedStepsCoverTheirComponents(t *testing.T) {
	m := &missed{}
	m.note(event.StepFinished{ID: "release/web", Outcome: event.Failed})
	m.note(event.StepFinished{ID: "release/later", Outcome: event.Skipped})
	m.note(event.StepFinished{ID: "build/app", Outcome: event.Skipped})
	for component, want := range map[string]bool{
		"release/web": false, "release/web/Deployment/web": false, "release/later": true,
		"release/later/Deployment/x": true, "release/late": false, "image/app": true, "cluster": false,
	} {
		if got := m.covers(component); got != want {
			t.Errorf("%s is left out: %t, want %t", component, got, want)
		}
	}
}
