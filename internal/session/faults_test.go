package session

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/inject"
	"github.com/sandbox-stack/sandbox/internal/plan"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/fake"
	"github.com/sandbox-stack/sandbox/internal/stack"
)

// tampered is the record of a fault in the module infra.
func tampered() inject.Record {
	return inject.Record{ID: "terraform-1", Kind: "terraform", Targets: []string{"terraform infra"}, Data: []byte(`{"module":"infra"}`)}
}

// left are the IDs of the faults that are recorded.
func left(t *testing.T, s *Session) []string {
	t.Helper()
	list, err := s.Faults()
	require.NoError(t, err)
	var ids []string
	for _, rec := range list {
		ids = append(ids, rec.ID)
	}
	return ids
}

func TestAFaultIsUndoneOnlyWhereItsPartIsGone(t *testing.T) {
	s := faulty(t)
	require.NoError(t, s.keepFault(tampered()))
	broken := fault.New(fault.Invalid, "Unclosed block", "main.tf", "")
	w := inject.World{Apply: func(context.Context, string) error { return broken }}
	require.ErrorIs(t, s.undoFault(t.Context(), tampered(), w), broken)
	assert.Equal(t, []string{"terraform-1"}, left(t, s), "a file that is half edited does not mend anything")

	_, err := s.moduleSpec("infra")
	require.Error(t, err)
	gone := s.world().Apply(t.Context(), "infra")
	require.ErrorIs(t, gone, inject.ErrGone)
	require.EqualError(t, gone, err.Error())
	require.NoError(t, s.undoFault(t.Context(), tampered(), s.world()), "the stack has no such module")
	assert.Empty(t, left(t, s))

	for component, reason := range map[string]string{"release/shop": "no component", "terraform/infra": "nothing can be run"} {
		s.stack.Spec.Terraform = []stack.Terraform{{Name: "infra"}}
		_, err := s.execFault(t.Context(), component, []string{"true"}, nil)
		require.ErrorIs(t, err, inject.ErrGone)
		require.ErrorContains(t, err, reason)
	}
}

func TestAnInterruptForgetsNoFault(t *testing.T) {
	s := faulty(t)
	s.stack.Spec.Observability.Enabled = new(false)
	s.engine = fake.New(nil)
	defer func() { require.NoError(t, s.engine.Close()) }()
	rec := inject.Record{ID: "new-1", Kind: "new"} // which nobody can undo
	require.NoError(t, s.keepFault(rec))
	ctx, cancel := context.WithCancel(t.Context())
	lock, err := s.dir.Lock("test")
	require.NoError(t, err)
	s.lock = lock
	defer func() { require.NoError(t, s.Unlock()) }()
	cancel()
	var told []error
	forget := func(left []inject.Record, why error) {
		assert.Equal(t, "new-1", left[0].ID)
		told = append(told, why)
	}
	_, err = s.UndoFaults(ctx, forget)
	require.ErrorContains(t, err, "is not undone")
	assert.Equal(t, []string{"new-1"}, left(t, s))

	assert.Empty(t, told)
	_, err = s.UndoFaults(t.Context(), forget)
	require.NoError(t, err)
	require.Len(t, told, 1)
	require.ErrorContains(t, told[0], "is not undone")
	assert.Empty(t, left(t, s))
}

func TestACommandOfAFaultHasEndedBeforeItIsUndone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		runs, ended := false, false
		engine := fake.New(map[string]fake.Program{
			"init": func(ctx context.Context, _ fake.Process) int { <-ctx.Done(); return 0 },
			"short": func(ctx context.Context, _ fake.Process) int {
				cancel() // while the engine starts it
				runs = ctx.Err() == nil
				return 3
			},
			"long": func(ctx context.Context, _ fake.Process) int { <-ctx.Done(); ended = true; return 137 },
		})
		defer func() { require.NoError(t, engine.Close()) }()
		engine.AddImage(runtime.Image{Names: []string{"i"}})
		c, err := engine.CreateContainer(t.Context(), runtime.ContainerSpec{
			Name: "web-aws", Image: "i", Cmd: []string{"init"}, Labels: map[string]string{runtime.LabelName: "web", runtime.LabelComponent: "aws"},
		})
		require.NoError(t, err)
		require.NoError(t, engine.StartContainer(t.Context(), c.ID))
		s := newSession("web", &stack.Stack{}, Options{}, nil)
		s.engine = engine

		_, err = s.execFault(ctx, "aws", []string{"short"}, nil)
		require.ErrorIs(t, err, context.Canceled, "an injection that was interrupted has failed")
		assert.True(t, runs)
		code, err := s.execFault(t.Context(), "aws", []string{"short"}, nil)
		require.NoError(t, err)
		assert.Equal(t, 3, code)

		limited, stop := context.WithTimeout(t.Context(), killAfter)
		defer stop()
		_, err = s.execFault(limited, "aws", []string{"long"}, nil)
		require.ErrorIs(t, err, context.Canceled)
		synctest.Wait()
		assert.True(t, ended, "it is killed")
	})
}

func TestEachPartOfTheObservabilityStackIsBroughtBack(t *testing.T) {
	engine := useEngine(t)
	cannotRun(t, nil)
	s, err := Start(t.Context(), wanted(t, "demo"), Options{AutoPorts: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	s.refs[plan.GrafanaImage] = "grafana:1"
	down := errors.New("the engine is down")
	engine.Fail = func(string, string) error { return down }
	for _, component := range []string{"prometheus", "alertmanager", "grafana", "exporter"} {
		require.ErrorIs(t, s.revive(t.Context(), "observe/"+component), down, component)
	}
	require.ErrorIs(t, s.revive(t.Context(), "observe/new"), errNoPart)
}
