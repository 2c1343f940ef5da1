package tui

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/sandbox-stack/sandbox/internal/event"
)

func TestArrange(t *testing.T) {
	both := wish{detail: true}
	for name, tc := range map[string]struct {
		w, h int
		want wish
		is   layout
	}{
		"usual": {80, 24, both, layout{w: 80, h: 24, header: 0, tabs: 1, status: 22, hints: 23, list: rect{1, 3, 78, 18}}},
		"usual, in detail": {80, 24, wish{detail: true, inDetail: true}, layout{
			w: 80, h: 24, header: 0, tabs: 1, status: 22, hints: 23, detail: rect{1, 3, 78, 18},
		}},
		"two panes": {100, 30, both, layout{
			w: 100, h: 30, header: 0, tabs: 1, status: 28, hints: 29, list: rect{1, 3, 60, 24}, detail: rect{62, 3, 37, 24},
		}},
		"two panes, in detail": {100, 30, wish{detail: true, inDetail: true}, layout{
			w: 100, h: 30, header: 0, tabs: 1, status: 28, hints: 29, list: rect{1, 3, 60, 24}, detail: rect{62, 3, 37, 24},
		}},
		"large": {200, 60, both, layout{
			w: 200, h: 60, header: 0, tabs: 1, status: 58, hints: 59, list: rect{1, 3, 134, 54}, detail: rect{136, 3, 63, 54},
		}},
		"low: no header":       {100, 23, wish{}, layout{w: 100, h: 23, header: -1, tabs: 0, status: 21, hints: 22, list: rect{1, 2, 98, 18}}},
		"hidden header":        {80, 24, wish{noHeader: true}, layout{w: 80, h: 24, header: -1, tabs: 0, status: 22, hints: 23, list: rect{1, 2, 78, 19}}},
		"full screen":          {80, 24, wish{full: true}, layout{w: 80, h: 24, header: -1, tabs: -1, status: 23, hints: -1, list: rect{1, 1, 78, 21}}},
		"the least":            {60, 12, both, layout{w: 60, h: 12, header: -1, tabs: 0, status: 10, hints: 11, list: rect{1, 2, 58, 7}}},
		"too narrow: one line": {59, 40, both, layout{w: 59, h: 40, line: true, header: -1, tabs: -1, status: 0, hints: -1}},
		"too low: one line":    {200, 11, both, layout{w: 200, h: 11, line: true, header: -1, tabs: -1, status: 0, hints: -1}},
	} {
		t.Run(name, func(t *testing.T) { assert.Equal(t, tc.is, arrange(tc.w, tc.h, tc.want)) })
	}
}

// Panes never overlap, and nothing leaves the screen.
func TestArrangeTiles(t *testing.T) {
	for w := minWidth; w < 250; w++ {
		for h := minHeight; h < 80; h++ {
			l := arrange(w, h, wish{detail: true})
			assert.LessOrEqual(t, l.list.x+l.list.w, w-1)
			assert.Positive(t, l.list.h)
			if l.split() {
				assert.Equal(t, l.list.x+l.list.w+1, l.detail.x)
				assert.Equal(t, w-1, l.detail.x+l.detail.w)
			}
			assert.Equal(t, l.status, l.list.y+l.list.h+1)
		}
	}
}

// Where there is less room MEM goes first, then CPU, then NOTE.
func TestColumnsGoInOrder(t *testing.T) {
	stage := 0
	for w := 170; w >= 56; w-- {
		c := columnsFor(w, 40, false)
		used := 1 + c.name + 2 + c.state + 1 + c.age
		for _, n := range []int{c.cpu, c.mem, c.note} {
			if n > 0 {
				used += 1 + n
			}
		}
		assert.Equal(t, w, used)
		is := 0
		switch {
		case c.note == 0:
			is = 3
		case c.cpu == 0:
			is = 2
		case c.mem == 0:
			is = 1
		}
		assert.GreaterOrEqual(t, is, stage, "nothing comes back at %d", w)
		stage = is
		if c.mem > 0 {
			assert.Positive(t, c.cpu)
		}
	}
	assert.GreaterOrEqual(t, stage, 2)
	assert.Zero(t, columnsFor(40, 40, false).note)
}

func TestTree(t *testing.T) {
	health := map[string]event.Health{}
	for path, st := range map[string]event.State{
		"zoo": event.StateOK, "observe/rules": event.StateOK, "observe/prometheus": event.StateStale, "terraform/infra": event.StateOK,
		"release/b/Deployment/b": event.StateFailed, "release/b": event.StateDegraded, "release/a": event.StateOK,
		"cluster/node/n": event.StateOK, "cluster": event.StateOK,
	} {
		health[path] = event.Health{Component: path, State: st}
	}
	type row struct {
		label string
		depth int
		state event.State
		worst event.State
	}
	var got []row
	for _, n := range growTree(health) {
		got = append(got, row{n.label, n.depth, n.health.State, n.worst.State})
	}
	assert.Equal(t, []row{
		{"cluster", 0, event.StateOK, event.StateOK},
		{"node/n", 1, event.StateOK, event.StateOK},
		{"terraform/infra", 0, event.StateOK, event.StateOK},
		{"release", 0, event.StateFailed, event.StateFailed},
		{"a", 1, event.StateOK, event.StateOK},
		{"b", 1, event.StateDegraded, event.StateFailed},
		{"Deployment/b", 2, event.StateFailed, event.StateFailed},
		{"observe", 0, event.StateStale, event.StateStale},
		{"prometheus", 1, event.StateStale, event.StateStale},
		{"rules", 1, event.StateOK, event.StateOK},
		{"zoo", 0, event.StateOK, event.StateOK},
	}, got)
}

func TestRelated(t *testing.T) {
	for _, tc := range []struct {
		object, component string
		want              bool
	}{
		{"pod/web-6f8b", "release/web/Deployment/web", true},
		{"pod/web-6f8b", "release/web/Deployment/web/Pod/web-6f8b", true},
		{"deployment/web", "release/web/Deployment/web", true},
		{"pod/webhook-1", "release/web/Deployment/web", false},
		{"aws", "aws", true},
		{"node/one", "cluster/node/one", true},
		{"pod/api-1", "release/web", false},
	} {
		assert.Equal(t, tc.want, related(tc.object, tc.component), "%s of %s", tc.object, tc.component)
	}
}

func TestCriticalPath(t *testing.T) {
	at := func(s int) time.Time { return dawn.Add(time.Duration(s) * time.Second) }
	step := func(id string, from, to int, after ...string) event.StepView {
		s := event.StepView{PlanStep: event.PlanStep{ID: id, After: after}, Started: at(from)}
		if to > 0 {
			s.Finished, s.Outcome = at(to), event.Done
		}
		return s
	}
	assert.Equal(t, []string{"a", "c", "d"}, criticalPath([]event.StepView{
		step("a", 0, 30), step("b", 0, 10), step("c", 30, 40, "a", "b"), step("d", 40, 50, "b", "c"), step("e", 10, 45, "b"),
	}, at(60)))
	assert.Equal(t, []string{"a", "c"}, criticalPath([]event.StepView{
		step("a", 0, 30), step("b", 0, 40), step("c", 30, 0, "a"),
	}, at(60)), "what still runs ends now")
	assert.Empty(t, criticalPath([]event.StepView{{PlanStep: event.PlanStep{ID: "a"}}}, at(0)), "nothing has begun")
	assert.Equal(t, []string{"b", "a"}, criticalPath([]event.StepView{
		step("a", 0, 30, "b"), step("b", 0, 20, "a"),
	}, at(30)), "a circle in a recording ends")
}

func TestListStaysOnItsRow(t *testing.T) {
	l := list{}
	l.set([]string{"a", "b", "c", "d", "e"})
	l.goTo("c")
	from, to := l.window(2)
	assert.Equal(t, []int{1, 3}, []int{from, to})
	l.set([]string{"x", "y", "c", "z"})
	assert.Equal(t, "c", l.key())
	l.set([]string{"x"})
	assert.Equal(t, "x", l.key())
	l.set(nil)
	assert.Empty(t, l.key())
	assert.True(t, l.do(moveDown))
	assert.False(t, l.do(describe))
}

func TestAnActiveAlertHidesItsInactiveRule(t *testing.T) {
	d := newDash(t)
	d.emit(event.Envelope{AlertChanged: &event.AlertChanged{Rule: "Down", State: "inactive"}})
	d.emit(event.Envelope{AlertChanged: &event.AlertChanged{Rule: "Lag", State: "pending"}})
	d.look()
	d.want(goAlerts)
	var got []string
	for _, r := range d.tabs[alertsScreen].(*alertsTab).rows {
		got = append(got, r.Rule+" "+r.State)
	}
	assert.Equal(t, []string{"Down firing", "Lag pending", "Slow inactive"}, got)
	assert.Contains(t, d.screenText(), "Alertmanager: not heard of")
}

func TestTerraformFolds(t *testing.T) {
	d := newDash(t)
	d.want(goTerraform)
	text := d.screenText()
	assert.Contains(t, text, "aws_sqs_queue.b")
	assert.NotContains(t, text, "aws_s3_bucket.a", "what is as configured is folded where something is not")
	d.want(moveBottom, open)
	assert.Contains(t, d.screenText(), "aws_s3_bucket.a")
	d.want(foldIn)
	assert.NotContains(t, d.screenText(), "aws_s3_bucket.a")
	d.types("/bucket<enter>")
	assert.Contains(t, d.screenText(), "aws_s3_bucket.a", "a filter looks into what is folded")
	assert.Contains(t, d.screenText(), "1 of 2")
}
