package tui

import (
	"context"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// tab is one of the screens. Its sync is called whenever the state, the clock
// or a filter has changed; drawing changes nothing but what scrolls.
type tab interface {
	sync(m *model)
	// do handles an intent and says whether it was one for this tab.
	do(m *model, i intent) (tea.Cmd, bool)
	listPane(m *model, w, h int) pane
	detailPane(m *model, w, h int) pane
	// subject names what is selected, value is what it can be copied as.
	subject() string
	value(m *model) string
	// click selects what is drawn in line y of the list pane.
	click(m *model, y int)
}

// model is the state of the dashboard. It is changed in Update alone, which
// does no I/O.
type model struct {
	ctx     context.Context
	feed    *Feed
	actions Actions
	now     func() time.Time
	name    string
	theme   theme
	replay  bool

	state   state
	version uint64 // of the feed's state
	ended   bool   // the feed has no more

	w, h     int
	noHeader bool
	full     bool
	mouse    bool

	screen   screen
	chosen   bool     // by the user, with the first key
	from     []screen // the screens that were left for another one
	inDetail bool
	tabs     [screens]tab
	overview *overviewTab
	events   *eventsTab
	logs     *logsTab
	filters  [screens]pattern

	prompt   prompt
	question *question
	helping  *helpPage
	page     *page
	pages    int // how many there were, to number them
	choosing *chooser
	message  message
	busy     []string // what is being done and has not ended
	drill    string   // the drill that runs here, or ""
	undoing  bool     // it was ended, and undoes its fault
	drilling *drilling
	// drillFrom is when it began.
	drillFrom time.Time

	layout layout
	zones  [screens][2]int // the columns of the tabs

	dirty  bool
	cached tea.View
	drawn  int // frames that differed from the one before
}

// message is a line that says what has just happened, for as many ticks as are
// left. Ticks go on where the clock of a recording stands still.
type message struct {
	text string
	tone tone
	left int
}

// messageTicks is how many seconds a message is shown.
const messageTicks = 8

// question waits for yes or no.
type question struct {
	text string
	yes  func() tea.Cmd
}

type (
	// snapshotMsg is a new state of the feed.
	snapshotMsg snapshot
	// tickMsg says that a second has gone by: ages change.
	tickMsg struct{}
)

func newModel(ctx context.Context, o Options) *model {
	m := &model{
		ctx: ctx, feed: o.Feed, actions: o.Actions, now: o.Now, name: o.Name, replay: o.Replay,
		theme: theme{color: o.Color, ascii: o.ASCII},
		w:     80, h: 24, dirty: true, drilling: &drilling{},
		overview: newOverview(), events: newEvents(), logs: newLogs(), prompt: newPrompt(),
	}
	if m.feed == nil {
		m.feed = NewFeed()
	}
	if m.now == nil {
		m.now = time.Now
	}
	m.tabs = [screens]tab{m.overview, newSteps(), m.logs, &alertsTab{}, m.events, newModules()}
	m.take(m.feed.latest())
	return m
}

// Init waits for the first change, the first second and the end.
func (m *model) Init() tea.Cmd { return tea.Batch(m.await(), tick(), m.end()) }

// end waits for the context and then quits as a user would. A program that is
// given the context itself leaves its reader behind when that ends.
func (m *model) end() tea.Cmd {
	done := m.ctx.Done()
	return func() tea.Msg {
		<-done
		return tea.QuitMsg{}
	}
}

func tick() tea.Cmd {
	return tea.Tick(time.Second, func(time.Time) tea.Msg { return tickMsg{} })
}

// await waits for the feed to change, within its pace.
func (m *model) await() tea.Cmd {
	ctx, feed, seen, notBefore := m.ctx, m.feed, m.version, time.Now().Add(frameTime)
	return func() tea.Msg {
		s, ok := feed.next(ctx, seen, notBefore)
		if !ok {
			return nil
		}
		return snapshotMsg(s)
	}
}

// take takes in a state of the feed.
func (m *model) take(s snapshot) {
	m.state.View, m.version, m.ended = s.view, s.version, s.ended
	if !m.chosen {
		m.screen = overview
		if len(m.state.Health) == 0 && len(m.state.Steps) > 0 {
			m.screen = stepsScreen // there is nothing else to see yet
		}
	}
	m.sync()
}

func (m *model) sync() {
	m.state.now = m.now()
	for _, t := range m.tabs {
		t.sync(m)
	}
}

// Update takes in what has happened.
func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	m.dirty = true
	switch msg := msg.(type) {
	case snapshotMsg:
		m.take(snapshot(msg))
		return m, m.await()
	case tickMsg:
		m.sync()
		if m.message.left--; m.message.left <= 0 {
			m.message = message{}
		}
		return m, tick()
	case tea.WindowSizeMsg:
		m.resize(msg.Width, msg.Height)
	case tea.KeyPressMsg:
		return m, m.press(msg)
	case tea.PasteMsg:
		if m.prompt.kind != promptNone {
			m.prompt.paste(msg.Content)
			m.typed()
		}
	case tea.MouseClickMsg:
		m.click(msg.X, msg.Y)
	case tea.MouseWheelMsg:
		m.wheel(msg)
	case textMsg:
		m.fillPage(msg)
	case doneMsg:
		m.done(msg)
	case drillMsg:
		m.drillEnded(msg)
	case shellMsg:
		return m, m.runShell(msg)
	default:
		m.dirty = false
	}
	return m, nil
}

func (m *model) resize(w, h int) { m.w, m.h, m.dirty = w, h, true }

// View draws the frame, unless nothing has changed since the last one.
func (m *model) View() tea.View {
	if !m.dirty {
		return m.cached
	}
	m.dirty = false
	v := tea.NewView(m.draw())
	v.AltScreen = true
	v.WindowTitle = m.theme.text("sandbox " + m.name)
	if m.mouse {
		v.MouseMode = tea.MouseModeCellMotion
	}
	if v.Content != m.cached.Content {
		m.drawn++
	}
	m.cached = v
	return v
}

// draw draws the frame: exactly h lines of exactly w columns.
func (m *model) draw() string {
	_, detail := m.panes()
	l := arrange(m.w, m.h, wish{noHeader: m.noHeader, full: m.full, detail: detail, inDetail: m.inDetail})
	m.layout = l
	if l.line {
		lines := []string{m.statusLine(m.w)}
		for len(lines) < m.h {
			lines = append(lines, strings.Repeat(" ", m.w))
		}
		return strings.Join(lines, "\n")
	}
	var lines []string
	if l.header >= 0 {
		lines = append(lines, m.header(l.w))
	}
	if l.tabs >= 0 {
		lines = append(lines, m.drawTabs(l.w))
	}
	lines = append(lines, m.body(l)...)
	lines = append(lines, m.statusLine(l.w))
	if l.hints >= 0 {
		lines = append(lines, m.hints(l.w))
	}
	return strings.Join(lines, "\n")
}

// panes says whether the screen has a detail pane; what covers it has none.
func (m *model) panes() (covered, detail bool) {
	covered = m.helping != nil || m.page != nil || m.choosing != nil
	switch m.screen {
	case overview, alertsScreen, terraformScreen:
		detail = !covered
	}
	return covered, detail
}

func (m *model) body(l layout) []string {
	var list, detail pane
	switch {
	case m.helping != nil:
		list = m.helping.pane(m, l.list.w, l.list.h)
	case m.page != nil:
		list = m.page.pane(m, l.list.w, l.list.h)
	case m.choosing != nil:
		list = m.choosing.pane(m, l.list.w, l.list.h)
	default:
		if l.list.w > 0 {
			list = m.tabs[m.screen].listPane(m, l.list.w, l.list.h)
		}
		if l.detail.w > 0 {
			detail = m.tabs[m.screen].detailPane(m, l.detail.w, l.detail.h)
		}
	}
	return m.theme.framed(l, list, detail)
}

// say shows a message for a while.
func (m *model) say(tn tone, text string) {
	m.message = message{text: text, tone: tn, left: messageTicks}
}

// fail shows an error, for longer.
func (m *model) fail(err error) {
	m.message = message{text: err.Error(), tone: toneBad, left: 3 * messageTicks}
}

func (m *model) done(msg doneMsg) {
	if i := slices.Index(m.busy, msg.doing); i >= 0 {
		m.busy = slices.Delete(m.busy, i, i+1)
	}
	var exited *exec.ExitError
	switch {
	case msg.err == nil, errors.As(msg.err, &exited): // a shell ends with the code of its last command
		m.say(toneGood, msg.text)
	default:
		m.fail(msg.err)
	}
}

// statusLine is the line that says what matters most: what is asked or typed,
// what has just happened, or else how the stack is.
func (m *model) statusLine(w int) string {
	t := m.theme
	switch {
	case m.question != nil:
		answers := []span{plain("  "), in(toneKey, "y"), plain(" yes  "), in(toneKey, "n"), plain(" no")}
		text := t.clip(" "+m.question.text, w-t.measure(answers...))
		return t.line(w, false, append([]span{in(toneWarn, text)}, answers...)...)
	case m.prompt.kind != promptNone:
		return m.prompt.line(t, w)
	case m.message.text != "":
		return t.line(w, false, in(m.message.tone, " "+m.message.text))
	case len(m.busy) > 0:
		return t.line(w, false, in(toneBusy, " "+m.busy[len(m.busy)-1]))
	case m.drill != "":
		return t.line(w, false, m.drillLine())
	}
	left := m.summary()
	if m.layout.line {
		return t.bothEnds(w, append([]span{in(toneBold, m.name), plain("  ")}, left...), []span{in(toneKey, "q"), plain(" quit")})
	}
	var right []span
	if f := m.filters[m.screen]; f.text != "" {
		right = append(right, in(toneDim, "filter "), in(toneBold, f.text), plain(" "))
	}
	if m.mouse {
		right = append(right, in(toneDim, "mouse on "))
	}
	covered, _ := m.panes()
	if m.screen == overview && !covered && !m.layout.split() && !m.inDetail && len(right) == 0 && m.unwell() {
		right = append(right, in(toneKey, "  enter"), plain(" shows why "))
	}
	return t.bothEnds(w, append([]span{plain(" ")}, left...), right)
}

// unwell says whether the selected component is not well.
func (m *model) unwell() bool {
	n, ok := m.overview.current()
	return ok && !n.health.State.Healthy()
}

// rootCause follows the blame of a component to where it ends.
func (m *model) rootCause(h event.Health) event.Health {
	for range maxBlames {
		cause, known := m.state.Health[h.Blames]
		if !known {
			break
		}
		h = cause
	}
	return h
}

// summary is the state of the stack: the worst of it, and why.
func (m *model) summary() []span {
	t := m.theme
	var worst event.Health
	for _, n := range m.overview.tree {
		if n.group || n.health.State.Healthy() {
			continue
		}
		if worst.Component == "" || bad(n.health.State) > bad(worst.State) {
			worst = n.health
		}
	}
	switch r := m.state.Result; {
	case worst.Component != "":
		spans := []span{t.sign(stateSign(worst.State)), in(toneBold, " "+worst.Component)}
		if cause := m.rootCause(worst); cause.Component != worst.Component {
			spans = append(spans, plain(" because of "), in(toneBold, cause.Component))
			worst = cause
		}
		if worst.Reason != "" {
			spans = append(spans, plain(": "+worst.Reason))
		}
		return spans
	case r != nil && !r.OK && r.Error != nil:
		return []span{t.sign(signFailed), plain(" " + r.Error.What)}
	case len(m.state.Health) == 0 && len(m.state.Steps) > 0:
		return []span{t.sign(signWorking), plain(" " + m.runWord())}
	case len(m.state.Health) == 0:
		return []span{in(toneDim, "waiting for the first event")}
	}
	return []span{t.sign(signOK), plain(" all components are well")}
}
