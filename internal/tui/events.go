package tui

import (
	"fmt"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// eventsTab is what happened, grouped by object and reason, the latest first.
type eventsTab struct {
	all      []event.ObjectEvents
	rows     []event.ObjectEvents
	list     list
	warnings bool
	led      bool // the cursor stays at the top, on what came last
}

func newEvents() *eventsTab { return &eventsTab{led: true} }

func (e *eventsTab) sync(m *model) {
	p := m.filterOf(eventsScreen)
	e.all = m.state.EventsByTime()
	e.rows = e.rows[:0]
	var keys []string
	for _, g := range e.all {
		if e.warnings && g.Type != event.Warning || !p.match(g.Object, g.Reason, g.Message, g.Source, string(g.Type)) {
			continue
		}
		e.rows = append(e.rows, g)
		keys = append(keys, strings.Join([]string{g.Source, g.Namespace, g.Object, g.Reason}, " "))
	}
	e.list.set(keys)
	if e.led {
		e.list.at = 0
	}
}

func (e *eventsTab) do(m *model, i intent) (tea.Cmd, bool) {
	if e.list.do(i) {
		e.led = e.list.at == 0
		return nil, true
	}
	switch i {
	case onlyWarnings:
		e.warnings, e.led = !e.warnings, true
		e.sync(m)
	case open:
		if c := e.component(m); c != "" {
			m.jumpTo(overview)
			m.overview.goTo(m, c)
		} else {
			m.say(toneNone, "the object is none of the components")
		}
	default:
		return nil, false
	}
	return nil, true
}

func (e *eventsTab) current() (event.ObjectEvents, bool) {
	if e.list.at >= len(e.rows) {
		return event.ObjectEvents{}, false
	}
	return e.rows[e.list.at], true
}

// component is the component the selected event is about: of those it belongs
// to, the one with the longest path.
func (e *eventsTab) component(m *model) string {
	g, ok := e.current()
	if !ok {
		return ""
	}
	object := strings.TrimPrefix(g.Object, "step/")
	if strings.HasPrefix(object, "rule/") {
		object = "observe/rules"
	}
	best := ""
	for path := range m.state.Health {
		if related(object, path) && (len(path) > len(best) || len(path) == len(best) && path < best) {
			best = path
		}
	}
	return best
}

func (e *eventsTab) subject() string {
	g, _ := e.current()
	return g.Object
}

func (e *eventsTab) value(*model) string {
	g, ok := e.current()
	if !ok {
		return ""
	}
	return fmt.Sprintf("%s %s %s: %s", g.Type, g.Object, g.Reason, g.Message)
}

func (e *eventsTab) listPane(m *model, w, h int) pane {
	t := m.theme
	p := pane{title: "Events", note: m.filterNote(eventsScreen, len(e.rows), len(e.all))}
	if e.warnings {
		p.title = "Events: warnings only"
	} else if p.note == "" && len(e.rows) > 0 {
		p.note = "latest first"
	}
	object, source := max(16, w*30/100), 11
	if w < 76 {
		source = 0
	}
	head := " " + t.right("AGE", ageWidth) + "  " + t.fill("TYPE", 9) + " "
	if source > 0 {
		head += t.fill("SOURCE", source) + " "
	}
	head += t.fill("OBJECT", object) + " " + t.right("N", 4) + "  WHAT"
	p.lines = append(p.lines, t.line(w, false, in(toneDim, head)))
	if len(e.rows) == 0 {
		p.lines = append(p.lines, t.line(w, false, in(toneDim, " "+e.nothing())))
	}
	full := e.full(m, w)
	rows := h - 1
	if h >= 10 {
		rows -= len(full)
	}
	from, to := e.list.window(rows)
	for i := from; i < to; i++ {
		p.lines = append(p.lines, e.row(m, e.rows[i], object, source, w, i == e.list.at))
	}
	if h >= 10 {
		for len(p.lines) < h-len(full) {
			p.lines = append(p.lines, t.line(w, false))
		}
		p.lines = append(p.lines, full...)
	}
	return p
}

func (e *eventsTab) nothing() string {
	if len(e.all) == 0 {
		return "nothing has happened yet"
	}
	if e.warnings {
		return "no warnings; w shows all events"
	}
	return "no event matches the filter; esc clears it"
}

func (e *eventsTab) row(m *model, g event.ObjectEvents, object, source, w int, selected bool) string {
	t := m.theme
	cursor := " "
	if selected {
		cursor = ">"
	}
	kind := in(toneDim, "  normal")
	if g.Type == event.Warning {
		kind = in(toneWarn, "! warning")
	}
	kind.text = t.fill(kind.text, 9)
	n := ""
	if g.Count > 1 {
		n = fmt.Sprintf("x%d", g.Count)
	}
	spans := []span{plain(cursor), in(toneDim, t.right(age(m.state.now, g.Last), ageWidth)), plain("  "), kind, plain(" ")}
	if source > 0 {
		spans = append(spans, in(toneDim, t.fill(g.Source, source)), plain(" "))
	}
	return t.line(w, selected, append(spans,
		plain(t.squeeze(objectName(g.Object), object)), plain(" "+t.right(n, 4)+"  "), plain(what(g)))...)
}

// objectName is an object as kind and name, also where it is named by its path.
func objectName(object string) string {
	if parts := strings.Split(object, "/"); len(parts) > 3 {
		object = strings.Join(parts[len(parts)-2:], "/")
	}
	return shortName(object)
}

// what tells an event: its reason and its message, unless one says the other.
func what(g event.ObjectEvents) string {
	if g.Message == "" || g.Source == "sandbox" || g.Source == "prometheus" {
		return orWord(g.Message, g.Reason)
	}
	return g.Reason + ": " + g.Message
}

// full is the selected event in full, in up to three lines below a rule.
func (e *eventsTab) full(m *model, w int) []string {
	g, ok := e.current()
	if !ok {
		return nil
	}
	d := &writer{t: m.theme, w: w}
	d.text(toneNone, what(g))
	for len(d.lines) < 3 {
		d.line()
	}
	title := g.Object
	if g.Namespace != "" {
		title += " in " + g.Namespace
	}
	if g.Count > 1 {
		title += fmt.Sprintf(", %d times in %s", g.Count, age(g.Last, g.First))
	}
	return append([]string{ruleMark + title}, d.lines[:3]...)
}

func (e *eventsTab) detailPane(*model, int, int) pane { return pane{} }

func (e *eventsTab) click(_ *model, y int) {
	if row := e.list.top + y - 1; y >= 1 && y <= e.list.size && row < len(e.rows) {
		e.list.at, e.led = row, row == 0
	}
}
