package tui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/exp/golden"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// drillActions can drill as well.
type drillActions struct {
	fakeActions
	declared map[string]string
	drilling func(ctx context.Context) error
}

func (a *drillActions) Drills() map[string]string { return a.declared }

func (a *drillActions) Drill(ctx context.Context, alerts []string, all bool) error {
	if err := a.note("drill %v %v", alerts, all); err != nil || a.drilling == nil {
		return err
	}
	return a.drilling(ctx)
}

func (a *drillActions) UndoFaults(ctx context.Context) (string, error) {
	if _, ok := ctx.Deadline(); !ok {
		return "", errors.New("no deadline")
	}
	return "undone: scale production/deployment/web-app to 0", a.note("undo")
}

// breaks is what the drills of the stack of these tests break.
var breaks = map[string]string{
	"PodCrashLooping":      "crash the container web-app of pods app=web-app",
	"OrdersFailing":        "answer what pods send to the emulator with 503",
	"WebAppDown":           "scale production/deployment/web-app to 0",
	"OrdersDependencyDown": "delete aws_sqs_queue.orders behind Terraform's back",
}

// stages are those of a drill whose first times were reached, each at its time
// from the beginning. The one after them waits or has failed.
func stages(begun time.Time, next event.StageState, note string, times ...time.Duration) []event.DrillStage {
	out := make([]event.DrillStage, len(event.DrillStages))
	notes := map[event.StageName]string{event.StagePending: "value 0.04", event.StageDelivered: "to webhook-echo"}
	for i, name := range event.DrillStages {
		out[i] = event.DrillStage{Name: name, State: event.StageWaiting}
		switch {
		case i < len(times):
			out[i] = event.DrillStage{Name: name, State: event.StageDone, At: begun.Add(times[i]), Note: notes[name]}
		case i == len(times) && next != "":
			out[i] = event.DrillStage{Name: name, State: next, At: begun.Add(times[i-1]), Note: note}
		}
	}
	return out
}

const second = time.Second

func passedDrill(at time.Time) event.DrillChanged {
	return event.DrillChanged{
		Alert: "PodCrashLooping", State: event.DrillPassed, Fault: breaks["PodCrashLooping"], Compress: 20,
		Expr: `rate(kube_pod_container_status_restarts_total{namespace="production"}[45s]) > 0`, Value: "4.4444e-02", For: 15 * second,
		Within: 90 * second, Resolves: 120 * second, Started: at, Finished: at.Add(73 * second),
		Stages: stages(at, "", "", 3*second, 4*second, 9*second, 24*second, 25*second, 25*second, 26*second, 70*second, 72*second),
	}
}

func failedDrill(at time.Time) event.DrillChanged {
	return event.DrillChanged{
		Alert: "OrdersFailing", State: event.DrillFailed, Fault: breaks["OrdersFailing"], Compress: 1,
		Expr: `sum(rate(http_requests_total{code=~"5.."}[5m])) > 0.1`, Value: "0", For: 60 * second,
		Within: 90 * second, Resolves: 120 * second, Started: at, Finished: at.Add(98 * second),
		Stages: append(stages(at, event.StageFailed, "0", 0, 1*second)[:6],
			event.DrillStage{Name: event.StageUndone, State: event.StageDone, At: at.Add(97 * second)},
			event.DrillStage{Name: event.StageResolved, State: event.StageWaiting}, event.DrillStage{Name: event.StageNotified, State: event.StageWaiting}),
		Link: event.LinkExpression, Error: &event.Problem{
			Code: "unhealthy", What: "the alert OrdersFailing does not fire within 1m30s of the fault",
			Why: "expression false: its value is 0, and 0.1 is asked for", Try: "sandbox logs release/web-app",
		},
	}
}

func runningDrill(at time.Time) event.DrillChanged {
	return event.DrillChanged{
		Alert: "WebAppDown", State: event.DrillRunning, Fault: breaks["WebAppDown"], Compress: 20,
		Expr: `sum by (deployment) (kube_deployment_status_replicas_available) == 0`, Value: "0", For: 15 * second,
		Within: 90 * second, Resolves: 120 * second, Started: at,
		Stages: stages(at, event.StageWorking, "for 3s of 15s", 0, 1*second, 17*second),
	}
}

// drilledFeed is a stack with a drill that passed, one that failed and one that
// runs, with the copies of the rules that these work on.
func drilledFeed(t *testing.T) *Feed {
	t.Helper()
	feed := NewFeed()
	seq := uint64(0)
	emit := func(at time.Time, p event.Payload) {
		log := event.NewLog("r", func() time.Time { return at }, event.SinkFunc(func(e event.Envelope) error {
			seq++
			e.Seq = seq
			return feed.Handle(e)
		}))
		log.Emit(p)
		require.NoError(t, log.Close())
	}
	for rule, severity := range map[string]string{
		"HighMemoryUsage": "warning", "OrdersDependencyDown": "critical", "OrdersFailing": "critical", "PodCrashLooping": "critical", "WebAppDown": "critical",
	} {
		emit(dawn, event.AlertChanged{Rule: rule, State: "inactive", Labels: map[string]string{"severity": severity}, Expr: "up == 0"})
		if _, has := breaks[rule]; has {
			emit(dawn, event.AlertChanged{Rule: rule, State: "inactive", Labels: map[string]string{"severity": severity, copyLabel: "d1"}})
		}
	}
	emit(dawn, event.HealthChanged{Health: event.Health{Component: "observe/prometheus", State: event.StateOK, URL: "http://127.0.0.1:9090"}})
	emit(dawn, event.AlertmanagerChanged{Active: 1, Receivers: []string{"webhook-echo"}})
	passes, fails, runs := passedDrill(dawn), failedDrill(dawn.Add(2*time.Minute)), runningDrill(dawn.Add(4*time.Minute))
	for _, d := range []event.DrillChanged{passes, fails} {
		begun := d
		begun.State, begun.Finished, begun.Link, begun.Error = event.DrillRunning, time.Time{}, "", nil
		emit(d.Started, begun)
		emit(d.Finished, d)
	}
	emit(runs.Started, runs)
	emit(runs.Started.Add(20*second), event.AlertChanged{
		Rule: "WebAppDown", State: "pending", Value: "0e+00", Since: runs.Started.Add(17 * second),
		Labels: map[string]string{"severity": "critical", "deployment": "web-app", copyLabel: "d3"},
	})
	return feed
}

func TestDrillFrames(t *testing.T) {
	feed := drilledFeed(t)
	for _, style := range []string{"color", "ascii"} {
		for _, size := range append([][2]int{{60, 24}}, sizes...) {
			for name, path := range map[string][]intent{
				"list":    {goAlerts},
				"never":   {goAlerts, moveDown, open},
				"failed":  {goAlerts, moveDown, moveDown, open},
				"passed":  {goAlerts, moveDown, moveDown, moveDown, open},
				"running": {goAlerts, moveBottom, open},
			} {
				t.Run(fmt.Sprintf("%dx%d-%s/%s", size[0], size[1], style, name), func(t *testing.T) {
					golden.RequireEqual(t, frameOf(t, feed, &drillActions{declared: breaks}, style, size, path))
				})
			}
		}
	}
}

// What a drill says fits into any terminal.
func TestDrillFramesFitAnySize(t *testing.T) {
	feed := drilledFeed(t)
	for w := 1; w < 170; w += 7 {
		for h := 1; h < 50; h += 7 {
			for row := range 5 {
				m := newModel(t.Context(), Options{Name: "web-app", Feed: feed, Now: feed.Now, Actions: &drillActions{declared: breaks}})
				m.resize(w, h)
				m.do(goAlerts)
				for range row {
					m.do(moveDown)
				}
				m.do(open)
				requireFits(t, m.View().Content, w, h)
			}
		}
	}
}

func TestAlertColumnsShrink(t *testing.T) {
	for _, tc := range []struct {
		w    int
		want alertColumns
	}{
		{120, alertColumns{rule: 20, value: true, drill: true, labels: true, severity: 8}},
		{76, alertColumns{rule: 20, value: true, drill: true, severity: 8}},
		{62, alertColumns{rule: 20, drill: true, severity: 8}},
		{60, alertColumns{rule: 20, drill: true, severity: 4}},
		{56, alertColumns{rule: 20, severity: 4}},
	} {
		got := fitAlerts(20, tc.w, true)
		assert.Equal(t, tc.want, got, "%d columns", tc.w)
		assert.LessOrEqual(t, got.width(), tc.w)
	}
	for w := 58; w < 200; w++ {
		for rule := range 60 {
			assert.LessOrEqual(t, fitAlerts(rule, w, true).width(), w)
		}
	}
}

// drillDash is a dashboard that can drill, on the alerts.
func drillDash(t *testing.T) (*dash, *drillActions) {
	d := newDash(t)
	a := &drillActions{declared: map[string]string{"Slow": "scale production/deployment/web-app to 0"}}
	d.model.actions = a
	d.want(goAlerts)
	return d, a
}

// A rule is one row, whatever its copies do: they neither count as alerts that
// fire nor stand in the list.
func TestADrillsCopyIsPartOfItsRule(t *testing.T) {
	d, _ := drillDash(t)
	before := d.badge(alertsScreen)
	d.emit(event.Envelope{AlertChanged: &event.AlertChanged{Rule: "Slow", State: "firing", Value: "0.04", Labels: map[string]string{copyLabel: "d1"}}})
	d.emit(event.Envelope{DrillChanged: &event.DrillChanged{Alert: "Slow", State: event.DrillRunning, Started: d.clock}})
	d.look()
	var got []string
	for _, r := range d.tabs[alertsScreen].(*alertsTab).rows {
		got = append(got, r.Rule+" "+r.State)
	}
	assert.Equal(t, []string{"Down firing", "Slow inactive"}, got)
	assert.Equal(t, before, d.badge(alertsScreen))
	d.want(moveDown)
	text := d.screenText()
	assert.Contains(t, text, "THE DRILL'S COPY")
	assert.Contains(t, text, "✗ firing for")
	assert.Contains(t, text, "~ running")
	assert.Contains(t, text, "- none", "a rule without a drill says so")
}

func TestDrillKeys(t *testing.T) {
	for name, tc := range map[string]struct {
		keys  string
		calls []string
		says  string
	}{
		"asks":        {"jD", nil, "Drill Slow? It breaks: scale production/deployment/web-app to 0  y yes  n no"},
		"no":          {"jDn", nil, "left as it is"},
		"yes":         {"jDy", []string{"drill [Slow] false"}, "the drill Slow has passed"},
		"undeclared":  {"D", nil, "no drill is declared for Down; add one to drills: in the stack file"},
		"all, asks":   {"A", nil, "Drill all 1 alerts, one after the other?"},
		"all, yes":    {"Ay", []string{"drill [] true"}, "the drill of all alerts has passed"},
		"undo":        {"u", []string{"undo"}, "undone: scale production/deployment/web-app to 0"},
		"by name":     {"j:drill<enter>y", []string{"drill [Slow] false"}, "the drill Slow has passed"},
		"not in logs": {"3D", nil, "Logs"},
	} {
		t.Run(name, func(t *testing.T) {
			d, a := drillDash(t)
			d.types(tc.keys)
			assert.Equal(t, tc.calls, a.calls)
			assert.Contains(t, d.screenText(), tc.says)
		})
	}
}

func TestDrillsNeedADriller(t *testing.T) {
	d := newDash(t)
	d.want(goAlerts)
	for _, keys := range []string{"D", "A", "u"} {
		d.types(keys)
		assert.Contains(t, d.screenText(), "that cannot be done here")
		assert.Nil(t, d.question)
	}
	assert.NotContains(t, fmt.Sprint(d.hinted()), "drill")
	assert.NotContains(t, d.screenText(), "LAST DRILL", "there is nothing to say of drills")
}

// A long question leaves its answers on the screen.
func TestALongQuestionShowsItsAnswers(t *testing.T) {
	d, a := drillDash(t)
	a.declared["Slow"] = strings.Repeat("break a lot ", 30)
	d.types("jD")
	assert.Contains(t, d.screenText(), "…  y yes  n no")
}

func TestAFailedDrillIsShown(t *testing.T) {
	d, a := drillDash(t)
	a.err = errors.New("the alert Slow does not fire within 1m30s of the fault")
	d.types("jDy")
	assert.Contains(t, d.screenText(), a.err.Error())
	assert.Empty(t, d.drill)
}

// While a drill runs the dashboard goes on; a second one is refused, and u ends
// the first.
func TestADrillThatRuns(t *testing.T) {
	d, a := drillDash(t)
	begun := make(chan struct{})
	a.drilling = func(ctx context.Context) error {
		close(begun)
		<-ctx.Done()
		return fmt.Errorf("drill Slow: %w", context.Cause(ctx))
	}
	d.emit(event.Envelope{DrillChanged: &event.DrillChanged{Alert: "Down", State: event.DrillRunning, Started: dawn.Add(-time.Hour)}}) // it was killed
	d.look()
	d.types("jD")
	_, cmd := d.Update(tea.KeyPressMsg{Code: 'y', Text: "y"})
	ended := make(chan tea.Msg, 1)
	go func() { ended <- cmd() }()
	<-begun
	assert.Contains(t, d.screenText(), "the drill Slow begins …")
	d.emit(event.Envelope{DrillChanged: &event.DrillChanged{Alert: "Slow", State: event.DrillRunning, Started: d.clock, Stages: []event.DrillStage{
		{Name: event.StageInjected, State: event.StageDone, At: d.clock}, {Name: event.StageFiring, State: event.StageWorking, Note: "for 3s of 15s"},
	}}})
	d.look()
	assert.Contains(t, d.screenText(), "drill Slow: firing in Prometheus: for 3s of 15s")
	assert.Contains(t, d.screenText(), "u undo")
	d.types("D")
	assert.Contains(t, d.screenText(), "the drill Slow still runs; u ends it and undoes its fault")
	d.types("A")
	assert.Nil(t, d.question)
	d.types("u")
	assert.Contains(t, d.screenText(), "undoing the fault of the drill Slow …")
	d.update(<-ended)
	assert.Contains(t, d.screenText(), "the drill Slow was ended")
	assert.Equal(t, []string{"drill [Slow] false"}, a.calls)
	d.types("D")
	assert.NotNil(t, d.question, "another one can begin")
}

// remembered is a writer that remembers.
type remembered struct {
	mu  sync.Mutex
	all strings.Builder
}

func (r *remembered) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all.Write(b)
}

func TestLeavingEndsADrill(t *testing.T) {
	t.Run("that undoes its fault", func(t *testing.T) {
		d, begun, ended := &drilling{}, make(chan struct{}), make(chan error, 1)
		undone := false
		go func() {
			ended <- d.run(t.Context(), func(ctx context.Context) error {
				close(begun)
				<-ctx.Done()
				undone = true
				return errors.Join(context.Cause(ctx), nil)
			})
		}()
		<-begun
		var out remembered
		require.NoError(t, d.leave(&out, "…", time.Minute))
		assert.True(t, undone)
		assert.Equal(t, "undoing the fault of the drill …\n", out.all.String())
		require.ErrorIs(t, <-ended, errLeft)
	})
	t.Run("that cannot undo it", func(t *testing.T) {
		d, begun, ended := &drilling{}, make(chan struct{}), make(chan error, 1)
		go func() {
			ended <- d.run(t.Context(), func(ctx context.Context) error {
				close(begun)
				<-ctx.Done()
				return errors.Join(context.Cause(ctx), errors.New("the cluster does not answer"))
			})
		}()
		<-begun
		require.EqualError(t, d.leave(io.Discard, "…", time.Minute), "the cluster does not answer")
		require.ErrorIs(t, <-ended, errLeft)
	})
	t.Run("that takes too long", func(t *testing.T) {
		d, begun, ended, release := &drilling{}, make(chan struct{}), make(chan error, 1), make(chan struct{})
		go func() {
			ended <- d.run(t.Context(), func(context.Context) error { close(begun); <-release; return nil })
		}()
		<-begun
		require.ErrorContains(t, d.leave(io.Discard, "…", time.Millisecond), "sandbox alerts drill --undo")
		close(release)
		require.NoError(t, <-ended)
	})
	t.Run("that has not begun", func(t *testing.T) {
		d := &drilling{}
		require.NoError(t, d.leave(io.Discard, "…", time.Minute))
		require.ErrorIs(t, d.run(t.Context(), func(context.Context) error { return nil }), errLeft, "and never begins")
	})
}

// The recording of `sandbox alerts drill` has no more than the drills: they are
// shown all the same, and nothing can be done.
func TestARecordingOfDrillsIsShown(t *testing.T) {
	feed := replay(t, "../render/testdata/drills.jsonl")
	m := newModel(t.Context(), Options{Name: "web-app", Feed: feed, Now: feed.Now, Replay: true})
	m.resize(160, 45)
	m.View()
	m.do(goAlerts)
	m.dirty = true
	text := ansi.Strip(m.View().Content)
	for _, want := range []string{"OrdersFailing", "PodCrashLooping", "? unknown", "✗ failed", "BROKEN LINK", "expression false", "its value is 0", "1 passed  1 failed"} {
		assert.Contains(t, text, want)
	}
	m.do(moveDown)
	m.dirty = true
	text = ansi.Strip(m.View().Content)
	for _, want := range []string{"✓ passed", "✓ firing in Prometheus       +31s", "used 32s of 1m30s", "durations / 20"} {
		assert.Contains(t, text, want)
	}
	m.do(drillOne)
	assert.Nil(t, m.question)
	m.do(goSteps)
	m.dirty = true
	assert.Contains(t, ansi.Strip(m.View().Content), "drill/OrdersFailing")
}

// What is worth a hint: a fault that may still be there.
func TestUndoIsHintedWhereAFaultIsLeft(t *testing.T) {
	d, _ := drillDash(t)
	hints := func() bool {
		return slices.ContainsFunc(d.hinted(), func(h [2]string) bool { return h[0] == "u" })
	}
	assert.False(t, hints())
	left := failedDrill(dawn)
	left.Stages = left.Stages[:3]
	d.emit(event.Envelope{DrillChanged: &left})
	d.look()
	assert.True(t, hints())
	again := failedDrill(dawn)
	d.emit(event.Envelope{DrillChanged: &again})
	d.look()
	assert.False(t, hints())
}
