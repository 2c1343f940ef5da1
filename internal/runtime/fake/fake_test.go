package fake_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/fake"
	"github.com/sandbox-stack/sandbox/internal/runtime/runtimetest"
	"github.com/sandbox-stack/sandbox/internal/runtime/runtimetest/box"
)

func TestConformance(t *testing.T) {
	runtimetest.Run(t, runtimetest.Features{}, func(t *testing.T) runtime.Runtime {
		r := fake.New(map[string]fake.Program{"/box": func(ctx context.Context, p fake.Process) int {
			return box.Main(ctx, box.Process(p))
		}})
		t.Cleanup(func() {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
		return r
	})
}

func TestFailAndCalls(t *testing.T) {
	broken := errors.New("broken")
	r := fake.New(nil)
	r.Fail = func(method, subject string) error {
		if method == "StartContainer" {
			return broken
		}
		return nil
	}
	r.AddImage(runtime.Image{Names: []string{"image"}})
	c, err := r.CreateContainer(t.Context(), runtime.ContainerSpec{Name: "one", Image: "image"})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.StartContainer(t.Context(), c.ID); !errors.Is(err, broken) {
		t.Errorf("error %v, want the one of Fail", err)
	}
	if calls := r.Calls(); !slices.Equal(calls, []string{"CreateContainer one", "StartContainer " + c.ID}) {
		t.Errorf("calls %q", calls)
	}
}

func TestPull(t *testing.T) {
	r := fake.New(nil)
	r.Registry = map[string]runtime.Image{"registry/x@sha256:1": {}}
	if _, err := r.PullImage(t.Context(), "registry/y", func(string) {}); err == nil {
		t.Error("an image that the registry lacks was pulled")
	}
	pulled, err := r.PullImage(t.Context(), "registry/x@sha256:1", func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	found, err := r.Image(t.Context(), "registry/x@sha256:1")
	if err != nil || found.ID != pulled.ID {
		t.Errorf("%+v, %v; want %+v", found, err, pulled)
	}
}
