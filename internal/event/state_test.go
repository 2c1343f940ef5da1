package event_test

import (
	"encoding/json"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/charmbracelet/x/exp/golden"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// replay reduces a recorded stream.
func replay(t *testing.T, path string, views ...*event.View) *event.View {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	view := &event.View{}
	if len(views) > 0 {
		view = views[0]
	}
	for e, err := range event.Read(f) {
		require.NoError(t, err)
		view.Apply(e)
	}
	return view
}

func TestViewOfARecordedRun(t *testing.T) {
	view := replay(t, "testdata/up.jsonl")
	out, err := json.MarshalIndent(view, "", "  ")
	require.NoError(t, err)
	golden.RequireEqual(t, append(out, '\n'))
}

func TestViewIgnoresWhatItHasSeen(t *testing.T) {
	once := replay(t, "testdata/up.jsonl")
	last := event.Envelope{Run: once.Run, Seq: 3, StepStarted: &event.StepStarted{ID: "late copy"}}
	twice := replay(t, "testdata/up.jsonl")
	twice.Apply(last)
	assert.Equal(t, once, twice)
}

func TestViewOfASecondRunKeepsHealth(t *testing.T) {
	view := replay(t, "testdata/up.jsonl")
	health := len(view.Health)
	require.NotZero(t, health)
	view.Apply(event.Envelope{Run: "next", Seq: 1, PlanReady: &event.PlanReady{Stack: "s", Steps: []event.PlanStep{{ID: "x", Title: "X"}}}})
	require.Len(t, view.Steps, 1)
	assert.Nil(t, view.Result)
	assert.Len(t, view.Health, health)
	assert.Zero(t, view.Missed)
}

func TestViewBoundsLogsAndCountsGaps(t *testing.T) {
	var view event.View
	view.Apply(event.Envelope{Run: "r", Seq: 1, StepStarted: &event.StepStarted{ID: "a"}})
	for i := range 500 {
		view.Apply(event.Envelope{Run: "r", Seq: uint64(5 + i), StepLog: &event.StepLog{ID: "a", Line: fmt.Sprint(i)}})
	}
	require.Len(t, view.Steps[0].Log, 200)
	assert.Equal(t, "499", view.Steps[0].Log[199].Line)
	assert.Equal(t, uint64(3), view.Missed)
}

func TestSnapshotStandsStill(t *testing.T) {
	view := replay(t, "testdata/up.jsonl")
	snap := view.Snapshot()
	before, err := json.Marshal(snap)
	require.NoError(t, err)

	at := view.Now.Add(time.Second)
	for seq, e := range []event.Envelope{
		{StepLog: &event.StepLog{ID: view.Steps[0].ID, Line: "more"}},
		{StepProgress: &event.StepProgress{ID: view.Steps[0].ID, Progress: event.Progress{Text: "again"}}},
		{HealthChanged: &event.HealthChanged{Health: event.Health{Component: "cluster", State: event.StateStale}}},
		{AlertChanged: &event.AlertChanged{Rule: "New"}},
		{StepStarted: &event.StepStarted{ID: "new"}},
	} {
		e.Run, e.Seq, e.Time = view.Run, 1000+uint64(seq), at
		view.Apply(e)
	}
	after, err := json.Marshal(snap)
	require.NoError(t, err)
	assert.JSONEq(t, string(before), string(after))
	assert.Equal(t, event.StateStale, view.Health["cluster"].State)
}

func TestStepViewRunning(t *testing.T) {
	var view event.View
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	view.Apply(event.Envelope{Run: "r", Seq: 1, Time: at, PlanReady: &event.PlanReady{Steps: []event.PlanStep{{ID: "a"}}}})
	assert.False(t, view.Steps[0].Running(), "planned")
	view.Apply(event.Envelope{Run: "r", Seq: 2, Time: at, StepStarted: &event.StepStarted{ID: "a"}})
	assert.True(t, view.Steps[0].Running(), "started")
	view.Apply(event.Envelope{Run: "r", Seq: 3, Time: at, StepFinished: &event.StepFinished{ID: "a", Outcome: event.Done}})
	assert.False(t, view.Steps[0].Running(), "finished")
}

func TestComponentsAreSorted(t *testing.T) {
	view := replay(t, "testdata/up.jsonl")
	var got []string
	for _, h := range view.Components() {
		got = append(got, h.Component)
	}
	assert.Equal(t, []string{"aws", "cluster", "observe/grafana", "release/web-app"}, got)
}

// A pod that was replaced must not stay on the screen for ever.
func TestViewForgetsWhatIsGone(t *testing.T) {
	var v event.View
	log := event.NewLog("r", nil, event.SinkFunc(func(e event.Envelope) error { v.Apply(e); return nil }))
	const pod = "release/web/Deployment/web/Pod/a"
	log.Emit(event.HealthChanged{Health: event.Health{Component: pod, State: event.StateOK}})
	log.Emit(event.ResourceSample{Component: pod, CPU: 1})
	log.Emit(event.HealthChanged{Health: event.Health{Component: pod, State: event.StateOff, Reason: event.ReasonGone}})
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if len(v.Health) != 0 || len(v.Samples) != 0 || v.Now.IsZero() {
		t.Errorf("still there: %v, %v", v.Health, v.Samples)
	}
}
