package plan_test

import (
	"context"
	"testing"

	"github.com/charmbracelet/x/exp/golden"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/plan"
	"github.com/sandbox-stack/sandbox/internal/stack"
	"github.com/sandbox-stack/sandbox/internal/steps"
)

// The plan of each stack that comes with sandbox, and of somebody else's.
func TestPlans(t *testing.T) {
	for name, dir := range map[string]string{
		"web-app": "../../stacks/web-app", "minimal": "../../stacks/minimal", "external": "../../fixtures/external",
	} {
		t.Run(name, func(t *testing.T) {
			st, err := stack.Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			golden.RequireEqual(t, plan.Format(plan.Build(st)))
		})
	}
}

// Nothing that only needs the engine may wait for the cluster.
func TestWhatNeedsNoClusterStartsAtOnce(t *testing.T) {
	st, err := stack.Load("../../stacks/web-app")
	if err != nil {
		t.Fatal(err)
	}
	items := plan.Build(st)
	after := map[string][]string{}
	for _, it := range items {
		after[it.ID] = it.After
	}
	var reaches func(id, target string) bool
	reaches = func(id, target string) bool {
		for _, a := range after[id] {
			if a == target || reaches(a, target) {
				return true
			}
		}
		return false
	}
	for _, id := range []string{"aws", "terraform/infra", "build/web-app", "observe/prometheus", "observe/alertmanager"} {
		if _, ok := after[id]; !ok {
			t.Errorf("no step %s", id)
		}
		if reaches(id, "cluster") {
			t.Errorf("%s waits for the cluster", id)
		}
	}
	for _, want := range []string{"terraform/infra", "load/web-app", "aws/binding"} {
		if !reaches("release/web-app", want) {
			t.Errorf("release/web-app does not wait for %s", want)
		}
	}
}

func TestStepsAreValidAndKeepTheirPart(t *testing.T) {
	st, err := stack.Load("../../stacks/web-app")
	if err != nil {
		t.Fatal(err)
	}
	items := plan.Build(st)
	list := plan.Steps(items, func(it plan.Item) plan.Part {
		return func(context.Context, event.Reporter) (steps.Result, error) { return steps.Result{Note: it.ID}, nil }
	})
	if err := steps.Validate(list); err != nil {
		t.Fatal(err)
	}
	for i, s := range list {
		res, err := s.Apply(t.Context(), event.Discard)
		if err != nil || res.Note != items[i].ID {
			t.Errorf("step %s runs the part of %s (%v)", s.ID, res.Note, err)
		}
	}
	if got, want := len(plan.PlatformImages(items)), 6; got != want {
		t.Errorf("platform images: got %d, want %d", got, want)
	}
}
