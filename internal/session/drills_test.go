package session

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/inject"
	"github.com/sandbox-stack/sandbox/internal/observe"
	"github.com/sandbox-stack/sandbox/internal/stack"
	"github.com/sandbox-stack/sandbox/internal/steps"
)

func TestTheStackChecksDrillsByTheTimesOfPrometheus(t *testing.T) {
	assert.EqualValues(t, observe.DefaultInterval, stack.ScrapeInterval)
}

func TestCompressOf(t *testing.T) {
	own := stack.Drill{Compress: 5}
	assert.Equal(t, stack.DefaultCompress, compressOf(stack.Drill{}, DrillOptions{}))
	assert.Equal(t, 10, compressOf(stack.Drill{}, DrillOptions{Compress: 10}))
	assert.Equal(t, 5, compressOf(own, DrillOptions{Compress: 10}), "the drill knows better")
	assert.Equal(t, 1, compressOf(own, DrillOptions{RealTime: true}))
}

func TestDescribeFault(t *testing.T) {
	for want, inject := range map[string]stack.Inject{
		"scale workload: deployment/web, replicas: 0":    {Scale: &stack.ScaleFault{Workload: "deployment/web"}},
		"crash selector: app=web, container: web":        {Crash: &stack.CrashFault{Selector: "app=web", Container: "web"}},
		"exec component: aws, run: [ls, /], undo: [pwd]": {Exec: &stack.ExecFault{Component: "aws", Run: []string{"ls", "/"}, Undo: []string{"pwd"}}},
		"delay component: aws, latency: 1s":              {Delay: &stack.DelayFault{Component: "aws", Latency: stack.Duration(time.Second)}},
	} {
		assert.Equal(t, want, describeFault(inject))
	}
}

// faulty is a session with a state folder, and nothing else.
func faulty(t *testing.T) *Session {
	t.Helper()
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	dir, err := openState("web")
	assert.NoError(t, err)
	return newSession("web", &stack.Stack{}, Options{}, dir)
}

func TestFaultsAreKeptUntilTheyAreForgotten(t *testing.T) {
	s := faulty(t)
	one := inject.Record{ID: "scale-1", What: "one", Targets: []string{"deployment production/web"}}
	two := inject.Record{ID: "kill-2", What: "two", Targets: []string{"pod production/app=db"}}
	assert.NoError(t, s.keepFault(one))
	err := s.keepFault(inject.Record{ID: "crash-3", Targets: []string{"pod production/app=web", "deployment production/web"}})
	assert.Equal(t, fault.Conflict, fault.CodeOf(err), "two faults on one target")
	assert.NoError(t, s.keepFault(two))
	list, err := s.Faults()
	assert.NoError(t, err)
	assert.Equal(t, []inject.Record{one, two}, list)
	assert.True(t, s.faultIsLeft())

	_, err = s.prepareDrills(t.Context(), nil, DrillOptions{Force: true})
	assert.Equal(t, fault.Conflict, fault.CodeOf(err), "no drill on top of a fault that is left")
	assert.ErrorContains(t, err, "--undo")

	assert.NoError(t, s.forgetFault(one))
	assert.NoError(t, s.forgetFault(two))
	list, err = s.Faults()
	assert.NoError(t, err)
	assert.Empty(t, list)
	assert.NoFileExists(t, s.dir.Path()+"/"+faultsFile)
}

func TestADrillWhoseProcessDiedIsInterrupted(t *testing.T) {
	s := faulty(t)
	passedAt := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	assert.NoError(t, s.recordDrill(event.DrillChanged{Alert: "Down", State: event.DrillRunning}))
	assert.NoError(t, s.recordDrill(event.DrillChanged{Alert: "Slow", State: event.DrillPassed, Finished: passedAt}))
	last, err := s.LastDrills()
	assert.NoError(t, err)
	assert.Equal(t, event.DrillInterrupted, last["Down"].State, "nobody holds the lock")
	assert.NoError(t, s.interrupted())
	last, err = s.LastDrills()
	assert.NoError(t, err)
	assert.Equal(t, event.DrillInterrupted, last["Down"].State)
	assert.Equal(t, event.DrillPassed, last["Slow"].State)
	assert.NoError(t, s.recordDrill(event.DrillChanged{Alert: "Slow", State: event.DrillFailed}))
	last, err = s.LastDrills()
	assert.NoError(t, err)
	assert.Equal(t, passedAt, last["Slow"].Passed.UTC(), "that it once passed is remembered")
}

func TestStepsThatUndoComeBeforeWhatTheyWouldDisturb(t *testing.T) {
	list := []steps.Step{{ID: "network"}, {ID: "cluster", After: []string{"network"}}, {ID: "prune", After: []string{"cluster"}}}
	got := before(list, steps.Step{ID: "undo/cluster"}, []string{"cluster", "aws/binding"}, "prune")
	var ids []string
	for _, s := range got {
		ids = append(ids, s.ID)
	}
	assert.Equal(t, []string{"network", "cluster", "undo/cluster", "prune"}, ids)
	assert.Equal(t, []string{"cluster"}, got[2].After, "there is no aws/binding")
	assert.Equal(t, []string{"cluster", "undo/cluster"}, got[3].After)
}

func TestChosenDrills(t *testing.T) {
	s := faulty(t)
	_, err := s.chosen(nil)
	assert.ErrorContains(t, err, "no drills")
	s.stack.Spec.Drills = []stack.Drill{{Alert: "Down"}, {Alert: "Slow"}}
	list, err := s.chosen(nil)
	assert.NoError(t, err)
	assert.Len(t, list, 2)
	_, err = s.chosen([]string{"Down", "Down"})
	assert.ErrorContains(t, err, "twice")
	_, err = s.chosen([]string{"Donw"})
	assert.Equal(t, fault.Invalid, fault.CodeOf(err))
}

func TestTimesOf(t *testing.T) {
	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	d := event.DrillChanged{Stages: []event.DrillStage{
		{Name: event.StageInjected, State: event.StageDone, At: noon},
		{Name: event.StagePending, State: event.StageDone, At: noon.Add(5 * time.Second)},
		{Name: event.StageFiring, State: event.StageWorking, At: noon.Add(9 * time.Second)},
	}}
	assert.Equal(t, "pending +5s", timesOf(d))
}

func TestWhatIsKnownOfAnAlert(t *testing.T) {
	for name, tc := range map[string]struct {
		alert       Alert
		proof       []string
		note, drill string
	}{
		"nothing":    {Alert{}, nil, "neither test nor drill", "none declared"},
		"impossible": {Alert{Missing: []string{"no_such"}}, nil, "can never fire: no target exposes no_such", "none declared"},
		"tested":     {Alert{Tested: true}, []string{"test"}, "never fired", "none declared"},
		"drilled": {
			Alert{Fired: true, Drill: "x", LastDrill: &event.DrillChanged{State: event.DrillPassed, Finished: time.Now().Add(-3 * time.Minute), Passed: time.Now()}},
			[]string{"drill", "has fired"},
			"", "passed 3m ago",
		},
		"failed": {
			Alert{Drill: "x", LastDrill: &event.DrillChanged{State: event.DrillFailed, Finished: time.Now().Add(-50 * time.Hour), Link: event.LinkMetric, Passed: time.Now()}},
			[]string{"drill"},
			"broken link: metric absent", "failed 2d ago",
		},
		"running": {Alert{Drill: "x", LastDrill: &event.DrillChanged{State: event.DrillRunning}}, nil, "never fired", "running"},
	} {
		assert.Equal(t, tc.proof, tc.alert.Proof(), name)
		assert.Equal(t, tc.note, tc.alert.Note(), name)
		assert.Equal(t, tc.drill, tc.alert.DrillWord(), name)
	}
}

func TestStateOfLeavesTheDrillsCopyOut(t *testing.T) {
	states := []event.AlertChanged{
		{Rule: "Down", State: "pending"},
		{Rule: "Down", State: "firing", Labels: map[string]string{"sandbox_drill": "scale-1"}},
	}
	assert.Equal(t, "pending", stateOf(states, "Down"))
	assert.Equal(t, "unknown", stateOf(states, "Up"))
}
