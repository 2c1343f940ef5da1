package tui

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// fakeActions records what it is asked for.
type fakeActions struct {
	calls []string
	err   error
	boom  bool
}

func (f *fakeActions) note(format string, args ...any) error {
	if f.boom {
		panic("an action that panics")
	}
	f.calls = append(f.calls, fmt.Sprintf(format, args...))
	return f.err
}

func (f *fakeActions) OpenURL(_ context.Context, url string) error { return f.note("open %s", url) }

func (f *fakeActions) ShellCommand(_ context.Context, c string) ([]string, error) {
	return []string{"sh", "-c", "echo a-shell"}, f.note("shell %s", c)
}

func (f *fakeActions) Describe(ctx context.Context, c string) (string, error) {
	if _, ok := ctx.Deadline(); !ok {
		return "", errors.New("no deadline")
	}
	return "all about " + c, f.note("describe %s", c)
}

func (f *fakeActions) PreviousLog(_ context.Context, c string) (string, error) {
	return "the last words of " + c, f.note("previous log of %s", c)
}
func (f *fakeActions) Restart(_ context.Context, c string) error { return f.note("restart %s", c) }
func (f *fakeActions) Refresh(context.Context) error             { return f.note("refresh") }
func (f *fakeActions) Plan(_ context.Context, m string) (string, error) {
	return "1 to add", f.note("plan %s", m)
}
func (f *fakeActions) Apply(_ context.Context, m string) error { return f.note("apply %s", m) }
func (f *fakeActions) Save(_ context.Context, screen, text string) (string, error) {
	return "/tmp/" + screen, f.note("save %s, %d lines", screen, strings.Count(text, "\n"))
}

func (f *fakeActions) RestartCost(component string) string {
	if component == "aws" {
		return "it forgets all it holds"
	}
	return ""
}

func (f *fakeActions) CLICommand(screen, subject string) string {
	return "sandbox " + screen + " " + subject
}

var dawn = time.Date(2026, 1, 2, 6, 0, 0, 0, time.UTC)

// dash is a dashboard under test: what it shows, what it was asked to do, and
// what its commands have led to.
type dash struct {
	*model
	t       *testing.T
	feed    *Feed
	actions *fakeActions
	clock   time.Time
	seq     uint64
	quit    bool
	copied  string
}

// newDash starts a dashboard of 100 by 30 on a small stack that is not well.
func newDash(t *testing.T) *dash {
	d := &dash{t: t, feed: NewFeed(), actions: &fakeActions{}, clock: dawn}
	for component, h := range map[string]event.Health{
		"cluster":                              {State: event.StateOK},
		"cluster/node/one":                     {State: event.StateOK},
		"aws":                                  {State: event.StateOK, URL: "http://127.0.0.1:4566"},
		"aws/s3":                               {State: event.StateOK},
		"aws/sqs":                              {State: event.StateStale, Reason: "no answer"},
		"release/web":                          {State: event.StateFailed, Reason: "Deployment/web 0 of 1", Blames: "aws/sqs", Try: "sandbox logs release/web"},
		"release/web/Deployment/web":           {State: event.StateFailed, Reason: "CrashLoopBackOff"},
		"release/web/Deployment/web/Pod/web-1": {State: event.StateFailed, Reason: "exit 1"},
		"release/api":                          {State: event.StateOK},
		"release/api/Deployment/api":           {State: event.StateOK},
		"release/api/Deployment/api/Pod/api-1": {State: event.StateOK},
		"observe/prometheus":                   {State: event.StateOK, URL: "http://127.0.0.1:9090"},
	} {
		h.Component = component
		d.emit(event.Envelope{HealthChanged: &event.HealthChanged{Health: h}})
	}
	d.emit(event.Envelope{ModuleChanged: &event.ModuleChanged{Module: "infra", Drift: 1, Resources: []event.Resource{
		{Address: "aws_s3_bucket.a", State: event.ResourceOK}, {Address: "aws_sqs_queue.b", State: event.ResourceMissing, Detail: "gone"},
	}}})
	d.emit(event.Envelope{AlertChanged: &event.AlertChanged{Rule: "Down", State: "firing", Labels: map[string]string{"severity": "critical"}}})
	d.emit(event.Envelope{AlertChanged: &event.AlertChanged{Rule: "Slow", State: "inactive"}})
	d.emit(event.Envelope{ObjectEvent: &event.ObjectEvent{Type: event.Warning, Source: "kubelet", Object: "pod/web-1", Reason: "BackOff"}})
	d.emit(event.Envelope{ObjectEvent: &event.ObjectEvent{Type: event.Normal, Source: "kubelet", Object: "pod/api-1", Reason: "Started"}})
	d.model = newModel(t.Context(), Options{Name: "web", Feed: d.feed, Actions: d.actions, Now: func() time.Time { return d.clock }})
	d.resize(100, 30)
	d.View()
	return d
}

func (d *dash) emit(e event.Envelope) {
	d.seq++
	d.clock = d.clock.Add(10 * time.Millisecond)
	e.Run, e.Seq, e.Time = "r", d.seq, d.clock
	require.NoError(d.t, d.feed.Handle(e))
}

// log emits lines of a component.
func (d *dash) log(component string, lines ...string) {
	for _, l := range lines {
		d.emit(event.Envelope{LogLine: &event.LogLine{Component: component, Line: l}})
	}
}

// refresh lets the dashboard see what was emitted.
func (d *dash) look() { d.update(snapshotMsg(d.feed.latest())) }

// update hands a message to the dashboard. Commands that wait for the clock or
// the feed are not run: the tests do that.
func (d *dash) update(msg tea.Msg) {
	_, cmd := d.Update(msg)
	switch msg.(type) {
	case snapshotMsg, tickMsg:
		return
	}
	d.run(cmd)
}

// run runs a command and what follows from it.
func (d *dash) run(cmd tea.Cmd) {
	if cmd == nil {
		return
	}
	switch msg := cmd().(type) {
	case nil:
	case tea.QuitMsg:
		d.quit = true
	default:
		if text := fmt.Sprint(msg); strings.HasSuffix(fmt.Sprintf("%T", msg), "ClipboardMsg") {
			d.copied = text
			return
		}
		d.update(msg)
	}
}

// want does intents, one after the other, each with a frame after it.
func (d *dash) want(intents ...intent) {
	for _, i := range intents {
		d.run(d.do(i))
		d.dirty = true
		d.View()
	}
}

// types types text, and keys by name in <>.
func (d *dash) types(text string) {
	for text != "" {
		k := tea.Key{Code: rune(text[0]), Text: text[:1]}
		n := 1
		if text[0] == '<' {
			n = strings.IndexByte(text, '>') + 1
			k = tea.Key{Code: map[string]rune{"enter": tea.KeyEnter, "esc": tea.KeyEscape, "tab": tea.KeyTab, "down": tea.KeyDown}[text[1:n-1]]}
		}
		text = text[n:]
		d.update(tea.KeyPressMsg(k))
		d.View()
	}
}

// screenText is what is on the screen, without colours.
func (d *dash) screenText() string {
	d.dirty = true
	return ansi.Strip(d.View().Content)
}

func TestTheCursorStartsOnWhatIsWorst(t *testing.T) {
	d := newDash(t)
	assert.Equal(t, "release/web", d.overview.subject())
	text := d.screenText()
	for _, want := range []string{"WHY", "Deployment/web 0 of 1", "BLAMES", "aws/sqs", "no answer", "NEXT", "sandbox logs release/web"} {
		assert.Contains(t, text, want)
	}
	d.want(moveTop)
	d.emit(event.Envelope{HealthChanged: &event.HealthChanged{Health: event.Health{Component: "aws", State: event.StateFailed}}})
	d.look()
	assert.Equal(t, "cluster", d.overview.subject(), "once moved, the cursor is the user's")
}

func TestFolding(t *testing.T) {
	d := newDash(t)
	assert.NotContains(t, d.overview.list.keys, "release/api/Deployment/api/Pod/api-1", "what is well is folded")
	assert.Contains(t, d.overview.list.keys, "release/web/Deployment/web/Pod/web-1", "what is not well is unfolded")

	d.want(foldIn)
	assert.NotContains(t, d.overview.list.keys, "release/web/Deployment/web")
	d.want(foldOut, moveDown)
	assert.Equal(t, "release/web/Deployment/web", d.overview.subject())
	d.want(foldIn, foldIn)
	assert.Equal(t, "release/web", d.overview.subject(), "left of a folded one goes to what is above")
}

func TestAFoldedPartIsNotHidden(t *testing.T) {
	d := newDash(t)
	d.overview.goTo(d.model, "aws")
	d.want(foldIn)
	n, ok := d.overview.current()
	require.True(t, ok)
	assert.Contains(t, d.overview.row(d.model, n, columnsFor(100, 20, false), 100, false, true), "stale", "the row shows the state of what it hides")
}

func TestFilter(t *testing.T) {
	d := newDash(t)
	d.types("/SQS")
	assert.Empty(t, d.overview.list.keys, "capitals are meant")
	d.types("<esc>/sqs")
	assert.Equal(t, []string{"aws", "aws/sqs"}, d.overview.list.keys, "with what is above, while it is typed")
	d.types("<enter>")
	assert.Equal(t, promptNone, d.prompt.kind)
	assert.True(t, d.nested())
	d.want(back)
	assert.Greater(t, len(d.overview.list.keys), 5)
	d.types("/!ok<enter>")
	assert.NotContains(t, d.overview.list.keys, "cluster")
	assert.Contains(t, d.overview.list.keys, "aws/sqs")
	d.types("<esc>/([<enter>")
	assert.Empty(t, d.overview.list.keys, "what is no expression is taken as it is")
}

func TestQuit(t *testing.T) {
	d := newDash(t)
	d.want(open)
	d.want(quit)
	assert.False(t, d.quit, "q goes back first")
	d.want(back)
	assert.False(t, d.quit, "esc never quits")
	d.want(quit)
	assert.True(t, d.quit)

	for name, way := range map[string]string{"": "", "filter": "/x", "help": "?", "command": ":x", "question": "r"} {
		d := newDash(t)
		d.types(way)
		d.update(tea.KeyPressMsg{Code: 'c', Mod: tea.ModCtrl})
		assert.True(t, d.quit, "ctrl+c always quits: %s", name)
	}
}

func TestActions(t *testing.T) {
	for name, tc := range map[string]struct {
		do    func(d *dash)
		calls []string
		says  string
	}{
		"describe":         {func(d *dash) { d.want(describe) }, []string{"describe release/web"}, "all about release/web"},
		"open":             {func(d *dash) { d.overview.goTo(d.model, "aws"); d.want(openURL) }, []string{"open http://127.0.0.1:4566"}, "opened"},
		"open without":     {func(d *dash) { d.want(openURL) }, nil, "release/web has no URL"},
		"restart, yes":     {func(d *dash) { d.types("ry") }, []string{"restart release/web"}, "release/web restarts"},
		"restart, no":      {func(d *dash) { d.types("rn") }, nil, "left as it is"},
		"restart, other":   {func(d *dash) { d.types("rx") }, nil, "Restart release/web?"},
		"restart of group": {func(d *dash) { d.overview.goTo(d.model, "release"); d.types("r") }, nil, "choose one of its parts"},
		"refresh":          {func(d *dash) { d.want(refresh) }, []string{"refresh"}, "asked to look again"},
		"save":             {func(d *dash) { d.want(save) }, []string{"save overview, 30 lines"}, "saved to /tmp/overview"},
		"prometheus":       {func(d *dash) { d.want(goAlerts, openURL) }, []string{"open http://127.0.0.1:9090/alerts"}, "opened"},
		"plan":             {func(d *dash) { d.want(goTerraform, plan) }, []string{"plan infra"}, "1 to add"},
		"apply":            {func(d *dash) { d.want(goTerraform); d.types("ay") }, []string{"apply infra"}, "infra is applied"},
		"plan elsewhere":   {func(d *dash) { d.want(plan) }, nil, "no module is selected"},
		"event's object":   {func(d *dash) { d.want(goEvents, moveDown, describe) }, []string{"describe release/web/Deployment/web/Pod/web-1"}, "all about"},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDash(t)
			tc.do(d)
			assert.Equal(t, tc.calls, d.actions.calls)
			assert.Contains(t, d.screenText(), tc.says)
		})
	}
}

func TestAnErrorOfAnActionIsShown(t *testing.T) {
	d := newDash(t)
	d.actions.err = errors.New("no such pod")
	d.want(describe)
	assert.Contains(t, d.screenText(), "no such pod")
	d.want(back, refresh)
	assert.Contains(t, d.screenText(), "no such pod")
	d.want(shell)
	assert.Contains(t, d.screenText(), "no shell in release/web: no such pod")
}

func TestALateTextDoesNotLandOnAnotherPage(t *testing.T) {
	d := newDash(t)
	first := d.do(describe) // not run yet
	d.want(back, describe)
	d.page.text = "the second page"
	d.run(first)
	assert.Equal(t, "the second page", d.page.text)
	d.want(back)
	d.run(first)
	assert.Nil(t, d.page, "and does not open what was closed")
}

func TestReadOnly(t *testing.T) {
	d := newDash(t)
	m := newModel(t.Context(), Options{Name: "web", Feed: d.feed, Now: d.now, Replay: true})
	m.resize(100, 30)
	for _, b := range keyMap {
		if b.acts {
			assert.NotContains(t, fmt.Sprint(m.hinted()), b.word())
			assert.Nil(t, m.do(b.intent), b.name)
			assert.Nil(t, m.question, b.name)
		}
	}
	m.View()
	assert.Contains(t, ansi.Strip(m.View().Content), "replay")
}

func TestCopy(t *testing.T) {
	d := newDash(t)
	d.want(copyCommand)
	assert.Equal(t, "sandbox overview release/web", d.copied)
	d.want(copyValue)
	assert.Equal(t, "release/web: Deployment/web 0 of 1", d.copied)
	d.want(goTerraform, moveDown, moveDown, copyValue)
	assert.Equal(t, "aws_sqs_queue.b", d.copied)
	d.want(goAlerts, copyValue)
	assert.Equal(t, `Down{severity="critical"}`, d.copied)
}

func TestGoingToLogsAndBack(t *testing.T) {
	d := newDash(t)
	d.log("release/web/Deployment/web", "crash")
	d.log("aws", "fine")
	d.look()
	d.want(showLogs)
	assert.Equal(t, logsScreen, d.screen)
	text := d.screenText()
	assert.Contains(t, text, "crash")
	assert.NotContains(t, text, "fine")
	d.want(back)
	assert.Equal(t, overview, d.screen)
	d.want(goLogs)
	assert.Contains(t, d.screenText(), "fine", "the tab shows all again")
}

func TestEventsLeadToTheirObjects(t *testing.T) {
	d := newDash(t)
	d.want(goEvents)
	assert.Len(t, d.events.rows, len(d.events.all))
	d.want(onlyWarnings, open)
	assert.Equal(t, overview, d.screen)
	assert.Equal(t, "release/web/Deployment/web/Pod/web-1", d.overview.subject())
	d.want(back)
	assert.Equal(t, eventsScreen, d.screen)
}

func TestCommands(t *testing.T) {
	d := newDash(t)
	d.log("aws", "fine")
	d.look()
	d.types(":ev<enter>")
	assert.Equal(t, eventsScreen, d.screen)
	d.types(":logs aws<enter>")
	assert.Equal(t, logsScreen, d.screen)
	assert.Equal(t, "aws", d.logs.source)
	d.types(":overview release/api<enter>")
	assert.Equal(t, "release/api", d.overview.subject())
	d.types(":filter sqs<enter>")
	assert.Len(t, d.overview.list.keys, 2)
	d.types(":nonsense<enter>")
	assert.Contains(t, d.screenText(), `no command "nonsense"`)
	d.types(":wrap<enter>")
	assert.Contains(t, d.screenText(), "does not work on this screen")
	d.types(":desc<tab>")
	assert.Equal(t, "describe ", d.prompt.input.Value())
	d.types("<esc>:describe x<enter>")
	assert.Contains(t, d.screenText(), "takes no argument")
	d.types(":exit<enter>")
	assert.True(t, d.quit)
}

func TestHelpIsFilteredAndRun(t *testing.T) {
	d := newDash(t)
	d.types("?")
	text := d.screenText()
	for _, want := range []string{"EVERYWHERE", "MOVE", "STATES", "quit; the sandbox stays up"} {
		assert.Contains(t, text, want)
	}
	d.types("terraform and")
	assert.Len(t, d.helping.shown, 1)
	d.types("<enter>")
	assert.Nil(t, d.helping)
	assert.Equal(t, terraformScreen, d.screen)
	d.types("?<esc>")
	assert.Nil(t, d.helping)
}

func TestMouse(t *testing.T) {
	d := newDash(t)
	assert.Equal(t, tea.MouseModeNone, d.View().MouseMode, "off, so that text can be selected")
	d.want(toggleMouse)
	assert.Equal(t, tea.MouseModeCellMotion, d.View().MouseMode)
	zone := d.zones[alertsScreen]
	d.update(tea.MouseClickMsg{X: zone[0] + 1, Y: d.layout.tabs})
	assert.Equal(t, alertsScreen, d.screen)
	d.want(goOverview)
	d.update(tea.MouseClickMsg{X: 5, Y: d.layout.list.y + 1 + 2})
	assert.Equal(t, 2, d.overview.list.at)
	d.update(tea.MouseWheelMsg{Button: tea.MouseWheelUp})
	assert.Equal(t, 0, d.overview.list.at)
	d.update(tea.MouseClickMsg{X: d.layout.detail.x + 1, Y: 10})
	assert.True(t, d.inDetail)
}

func TestMessagesGoAway(t *testing.T) {
	d := newDash(t)
	d.say(toneNone, "something was done")
	assert.Contains(t, d.screenText(), "something was done")
	for range messageTicks {
		d.update(tickMsg{})
	}
	assert.NotContains(t, d.screenText(), "something was done")
}

// A screen that is quiet is not drawn again: time going by changes only ages,
// and after the first minute these change once a minute.
func TestNoRedrawWhileNothingChanges(t *testing.T) {
	d := newDash(t)
	d.clock = d.clock.Add(10 * time.Minute)
	d.update(tickMsg{})
	d.View()
	before := d.drawn
	for range 50 {
		d.clock = d.clock.Add(100 * time.Millisecond)
		d.update(tickMsg{})
		d.View()
	}
	assert.Equal(t, before, d.drawn)

	view := d.View()
	d.update(struct{}{}) // nothing for the dashboard
	assert.False(t, d.dirty)
	assert.Equal(t, view.Content, d.View().Content)
}

func TestLiveness(t *testing.T) {
	d := newDash(t)
	says := func() string { return d.liveness().text }
	assert.Equal(t, "live", says())
	d.clock = d.clock.Add(30 * time.Second)
	d.update(tickMsg{})
	assert.Equal(t, "quiet", says())
	d.clock = d.clock.Add(5 * time.Minute)
	d.update(tickMsg{})
	assert.Equal(t, "no news for 5m", says())
	require.NoError(t, d.feed.Close())
	d.look()
	assert.Equal(t, "not live any more", says())
}

// Every key leads to its intent on the screens it is for, and no binding hides
// behind another one.
func TestKeyMap(t *testing.T) {
	for s := range screens {
		seen := map[string]string{}
		for _, b := range keyMap {
			if !b.on.has(s) {
				continue
			}
			assert.NotEmpty(t, b.Help().Desc, b.name)
			for _, k := range b.Keys() {
				assert.Empty(t, seen[k], "%s of %s on %s", k, b.name, s.name())
				seen[k] = b.name + b.Help().Desc
			}
		}
	}
	assert.Equal(t, pageDown, lookup(keyMap, overview, tea.KeyPressMsg{Code: tea.KeySpace, Text: " "}))
	assert.Equal(t, toggleMouse, lookup(keyMap, overview, tea.KeyPressMsg{Code: tea.KeyF2}))
	assert.Equal(t, moveBottom, lookup(keyMap, overview, tea.KeyPressMsg{Code: 'g', ShiftedCode: 'G', Text: "G", Mod: tea.ModShift}))
	assert.Equal(t, nothing, lookup(keyMap, overview, tea.KeyPressMsg{Code: 'w', Text: "w"}))
}

// Beside an up that has only begun there are steps to see, and no components
// yet; where the user has been, nobody moves them.
func TestTheFirstScreenShowsWhatThereIs(t *testing.T) {
	begun := func() (*model, *Feed, *event.Log) {
		feed := NewFeed()
		log := event.NewLog("run", nil, feed)
		log.Emit(event.PlanReady{Stack: "web", Command: "up", Steps: []event.PlanStep{{ID: "cluster"}}})
		return newModel(t.Context(), Options{Feed: feed}), feed, log
	}
	m, feed, log := begun()
	until(t, feed, func(v event.View) bool { return len(v.Steps) > 0 })
	m.take(feed.latest())
	if m.screen != stepsScreen {
		t.Errorf("while it begins it shows screen %v, want the steps", m.screen)
	}
	log.Emit(event.HealthChanged{Health: event.Health{Component: "cluster", State: event.StateOK}})
	until(t, feed, func(v event.View) bool { return len(v.Health) > 0 })
	m.take(feed.latest())
	if m.screen != overview {
		t.Errorf("once there are components it shows screen %v, want the overview", m.screen)
	}

	m, feed, log = begun()
	until(t, feed, func(v event.View) bool { return len(v.Steps) > 0 })
	m.take(feed.latest())
	m.do(goLogs)
	log.Emit(event.HealthChanged{Health: event.Health{Component: "cluster", State: event.StateOK}})
	until(t, feed, func(v event.View) bool { return len(v.Health) > 0 })
	m.take(feed.latest())
	if m.screen != logsScreen {
		t.Errorf("the user was moved from the logs to screen %v", m.screen)
	}
}

// until waits until the feed's state fits.
func until(t *testing.T, f *Feed, fits func(event.View) bool) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
	defer stop()
	s := f.latest()
	for !fits(s.view) {
		next, ok := f.next(ctx, s.version, time.Time{})
		if !ok {
			t.Fatal("the feed's state never fits")
		}
		s = next
	}
}

func TestAPlanCanBeAppliedFromItsPage(t *testing.T) {
	d := newDash(t)
	d.want(goTerraform)
	d.types("p")
	assert.Contains(t, d.screenText(), "plan of")
	d.types("a")
	assert.Contains(t, d.screenText(), "Apply ")
	d.types("y")
	assert.Contains(t, d.actions.calls, "apply infra")
}
