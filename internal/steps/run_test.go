package steps_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/charmbracelet/x/exp/golden"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/steps"
)

// recorder keeps what a run emits, in order.
type recorder struct {
	mu     sync.Mutex
	events []event.Payload
}

func (r *recorder) emit(p event.Payload) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, p)
}

// text is one line per event: its type and its JSON.
func (r *recorder) text(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, e := range r.events {
		j, err := json.Marshal(e)
		require.NoError(t, err)
		fmt.Fprintf(&b, "%s %s\n", strings.TrimPrefix(fmt.Sprintf("%T", e), "event."), j)
	}
	return b.String()
}

func (r *recorder) outcomes() map[string]event.Outcome {
	got := map[string]event.Outcome{}
	for _, e := range r.events {
		if f, ok := e.(event.StepFinished); ok {
			got[f.ID] = f.Outcome
		}
	}
	return got
}

func (r *recorder) finished(id string) event.StepFinished {
	for _, e := range r.events {
		if f, ok := e.(event.StepFinished); ok && f.ID == id {
			return f
		}
	}
	return event.StepFinished{}
}

// work is a step that takes d and then returns err.
func work(id string, d time.Duration, err error, after ...string) steps.Step {
	return steps.Step{ID: id, Title: id, After: after, Apply: func(ctx context.Context, _ event.Reporter) (steps.Result, error) {
		select {
		case <-time.After(d):
			return steps.Result{}, err
		case <-ctx.Done():
			return steps.Result{}, ctx.Err()
		}
	}}
}

func TestRunEmitsEventsInCausalOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rec recorder
		graph := []steps.Step{
			{
				ID: "network", Title: "create the network",
				Check: func(context.Context) (steps.Result, error) {
					return steps.Result{Done: true, Note: "there already"}, nil
				},
				Apply: func(context.Context, event.Reporter) (steps.Result, error) { panic("must not run") },
			},
			{
				ID: "cluster", Title: "create the cluster", After: []string{"network"},
				Check: func(context.Context) (steps.Result, error) { return steps.Result{Note: "absent"}, nil },
				Apply: func(_ context.Context, rep event.Reporter) (steps.Result, error) {
					<-time.After(time.Millisecond)
					rep.Progress(event.Progress{Text: "starting", Done: 1, Total: 2})
					<-time.After(2 * time.Second)
					rep.Log("kind", "node is up")
					return steps.Result{Note: "1 node"}, nil
				},
			},
			{
				ID: "grafana", Title: "start Grafana", After: []string{"network"},
				Apply: func(context.Context, event.Reporter) (steps.Result, error) {
					<-time.After(time.Second)
					return steps.Result{}, fmt.Errorf("resolve image: %w", &steps.Off{Reason: "no image for Grafana"})
				},
			},
			{
				ID: "dashboards", Title: "load dashboards", After: []string{"grafana"},
				Apply: func(context.Context, event.Reporter) (steps.Result, error) { return steps.Result{Note: "none"}, nil },
			},
			{
				ID: "release/db", Title: "release db", After: []string{"cluster"},
				Apply: func(context.Context, event.Reporter) (steps.Result, error) {
					<-time.After(time.Second)
					return steps.Result{}, &fault.Error{Code: fault.Failed, Pos: "stack.yaml:3:1", What: "release db failed", Why: "no disk", Try: "sandbox logs", Log: []string{"boom"}}
				},
			},
			work("release/web", time.Second, nil, "release/db"),
			work("health", time.Second, nil, "release/web"),
		}
		err := steps.Run(t.Context(), graph, steps.Options{Emit: rec.emit})

		var failure *steps.Failure
		require.ErrorAs(t, err, &failure)
		assert.Equal(t, "release/db", failure.ID)
		golden.RequireEqual(t, rec.text(t))
	})
}

func TestRunOrdersByDependencyUnderLoad(t *testing.T) {
	var rec recorder
	var graph []steps.Step
	for i := range 60 {
		var after []string
		for _, back := range []int{1, 2, 7} {
			if i%3 != 0 && i-back >= 0 {
				after = append(after, fmt.Sprint("s", i-back))
			}
		}
		graph = append(graph, steps.Step{ID: fmt.Sprint("s", i), After: after, Apply: func(_ context.Context, rep event.Reporter) (steps.Result, error) {
			rep.Progress(event.Progress{Text: "at it"})
			return steps.Result{}, nil
		}})
	}
	require.NoError(t, steps.Run(t.Context(), graph, steps.Options{Emit: rec.emit, Parallel: 8}))

	ended := map[string]bool{}
	for _, e := range rec.events {
		switch e := e.(type) {
		case event.StepStarted:
			for _, s := range graph {
				if s.ID != e.ID {
					continue
				}
				for _, dep := range s.After {
					assert.True(t, ended[dep], "%s started before %s was recorded", e.ID, dep)
				}
			}
		case event.StepProgress:
			assert.False(t, ended[e.ID], "%s spoke after its end", e.ID)
		case event.StepFinished:
			ended[e.ID] = true
		}
	}
	assert.Len(t, ended, len(graph))
}

func TestRunInParallel(t *testing.T) {
	for _, tc := range []struct {
		parallel int
		want     time.Duration
	}{{0, 1 * time.Second}, {1, 4 * time.Second}, {2, 2 * time.Second}} {
		t.Run(fmt.Sprint(tc.parallel), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				graph := []steps.Step{work("a", time.Second, nil), work("b", time.Second, nil), work("c", time.Second, nil), work("d", time.Second, nil)}
				begin := time.Now()
				require.NoError(t, steps.Run(t.Context(), graph, steps.Options{Parallel: tc.parallel}))
				assert.Equal(t, tc.want, time.Since(begin))
			})
		})
	}
}

func TestRunKeepsIndependentStepsAndJoinsFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rec recorder
		first, second := errors.New("first"), errors.New("second")
		err := steps.Run(t.Context(), []steps.Step{
			work("late", 2*time.Second, second),
			work("early", time.Second, first),
			work("behind", time.Second, nil, "early"),
			work("far behind", time.Second, nil, "behind"),
			work("aside", 3*time.Second, nil),
		}, steps.Options{Emit: rec.emit})

		require.ErrorIs(t, err, first)
		require.ErrorIs(t, err, second)
		assert.Equal(t, "early: first\nlate: second", err.Error())
		assert.Equal(t, map[string]event.Outcome{
			"late": event.Failed, "early": event.Failed,
			"behind": event.Skipped, "far behind": event.Skipped, "aside": event.Done,
		}, rec.outcomes())
		assert.Equal(t, "early failed", rec.finished("far behind").Note)
	})
}

func TestRunCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rec recorder
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		begin := time.Now()
		err := steps.Run(ctx, []steps.Step{
			work("quick", time.Millisecond, nil),
			work("slow", time.Hour, nil),
			work("next", time.Second, nil, "slow"),
		}, steps.Options{Emit: rec.emit})

		assert.Equal(t, fault.Interrupted, fault.CodeOf(err))
		require.ErrorIs(t, err, context.Canceled)
		assert.Equal(t, time.Second, time.Since(begin))
		assert.Equal(t, map[string]event.Outcome{
			"quick": event.Done, "slow": event.Canceled, "next": event.Skipped,
		}, rec.outcomes())
		assert.Nil(t, rec.finished("slow").Error, "a step that stopped as told has no error to show")
	})
}

func TestRunDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		err := steps.Run(ctx, []steps.Step{work("slow", time.Hour, nil)}, steps.Options{})
		assert.Equal(t, fault.Timeout, fault.CodeOf(err))
	})
}

func TestRunCanceledAfterTheLastStepIsNoInterruption(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	err := steps.Run(ctx, []steps.Step{{ID: "only", Apply: func(context.Context, event.Reporter) (steps.Result, error) {
		cancel()
		return steps.Result{Note: "done all the same"}, nil
	}}}, steps.Options{})
	require.NoError(t, err)
}

func TestRunTurnsAPanicIntoAFailure(t *testing.T) {
	var rec recorder
	err := steps.Run(t.Context(), []steps.Step{
		{ID: "bad", Apply: func(context.Context, event.Reporter) (steps.Result, error) { panic("nil map") }},
		{ID: "good", Apply: func(context.Context, event.Reporter) (steps.Result, error) { return steps.Result{}, nil }},
	}, steps.Options{Emit: rec.emit})

	require.ErrorContains(t, err, "step bad broke off: nil map")
	assert.Equal(t, event.Done, rec.outcomes()["good"])
	assert.Contains(t, strings.Join(rec.finished("bad").Error.Log, "\n"), "run_test.go")
	var logged bool
	for _, e := range rec.events {
		if l, ok := e.(event.StepLog); ok && l.ID == "bad" && strings.Contains(l.Line, "run_test.go") {
			logged = true
		}
	}
	assert.True(t, logged, "the stack goes to the step's log")
}

func TestRunFailsAStepWhoseCheckFails(t *testing.T) {
	err := steps.Run(t.Context(), []steps.Step{{
		ID:    "a",
		Check: func(context.Context) (steps.Result, error) { return steps.Result{}, errors.New("engine is gone") },
		Apply: func(context.Context, event.Reporter) (steps.Result, error) { panic("must not run") },
	}}, steps.Options{})
	require.EqualError(t, err, "a: engine is gone")
}

func TestReporterIsSilentAfterItsStep(t *testing.T) {
	var rec recorder
	var kept event.Reporter
	err := steps.Run(t.Context(), []steps.Step{{ID: "a", Apply: func(_ context.Context, rep event.Reporter) (steps.Result, error) {
		kept = rep
		return steps.Result{}, nil
	}}}, steps.Options{Emit: rec.emit})
	require.NoError(t, err)
	before := len(rec.events)
	kept.Log("late", "hello?")
	kept.Progress(event.Progress{Text: "still here"})
	assert.Len(t, rec.events, before)
}

func TestRunRefusesABadPlan(t *testing.T) {
	ok := func(context.Context, event.Reporter) (steps.Result, error) { return steps.Result{}, nil }
	for name, tc := range map[string]struct {
		graph []steps.Step
		want  string
	}{
		"no id":    {[]steps.Step{{Title: "nameless", Apply: ok}}, `step "nameless" has no id`},
		"twice":    {[]steps.Step{{ID: "a", Apply: ok}, {ID: "a", Apply: ok}}, `step "a" is there twice`},
		"no work":  {[]steps.Step{{ID: "a"}}, `step "a" has nothing to apply`},
		"unknown":  {[]steps.Step{{ID: "a", After: []string{"b"}, Apply: ok}}, `step "a" comes after "b", which does not exist`},
		"itself":   {[]steps.Step{{ID: "a", After: []string{"a"}, Apply: ok}}, "a → a"},
		"cycle":    {[]steps.Step{{ID: "x", Apply: ok}, {ID: "a", After: []string{"x", "b"}, Apply: ok}, {ID: "b", After: []string{"c"}, Apply: ok}, {ID: "c", After: []string{"a"}, Apply: ok}}, "a → b → c → a"},
		"two bugs": {[]steps.Step{{ID: "a", After: []string{"b"}}}, "step \"a\" has nothing to apply\nstep \"a\" comes after"},
	} {
		t.Run(name, func(t *testing.T) {
			var rec recorder
			err := steps.Run(t.Context(), tc.graph, steps.Options{Emit: rec.emit})
			require.ErrorContains(t, err, tc.want)
			assert.Empty(t, rec.events, "a bad plan must not start")
		})
	}
}

func TestProblem(t *testing.T) {
	assert.Nil(t, steps.Problem(nil))
	assert.Equal(t, &event.Problem{Code: "failed", What: "plain"}, steps.Problem(errors.New("plain")))
	wrapped := fmt.Errorf("apply: %w", fault.Wrap(fault.Unavailable, errors.New("refused"), "podman info", "no engine"))
	assert.Equal(t, &event.Problem{Code: "unavailable", What: "no engine", Why: "refused", Try: "podman info"}, steps.Problem(wrapped))
}

func TestPlan(t *testing.T) {
	assert.Equal(t, []event.PlanStep{{ID: "a", Title: "do a"}, {ID: "b", Title: "do b", After: []string{"a"}}},
		steps.Plan([]steps.Step{{ID: "a", Title: "do a"}, {ID: "b", Title: "do b", After: []string{"a"}}}))
}
