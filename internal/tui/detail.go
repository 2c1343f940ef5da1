package tui

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// writer collects the lines of a pane of w columns.
type writer struct {
	t     theme
	w     int
	lines []string
}

func (d *writer) line(spans ...span) {
	d.lines = append(d.lines, d.t.line(d.w, false, append([]span{plain(" ")}, spans...)...))
}

// text writes wrapped text, indented by a column.
func (d *writer) text(tn tone, text string) {
	for _, l := range d.t.wrap(text, d.w-3) {
		d.line(gap(1), in(tn, l))
	}
}

func (d *writer) heading(s string) {
	if len(d.lines) > 0 {
		d.line()
	}
	d.line(in(toneBold, s))
}

// field writes a name and a value in a line, the values below each other.
func (d *writer) field(name, value string) {
	if value == "" {
		return
	}
	const column = 12
	for i, l := range d.t.wrap(value, d.w-column-4) {
		if i > 0 {
			name = ""
		}
		d.line(gap(1), in(toneDim, d.t.fill(name, column)), plain(" "+l))
	}
}

// maxBlames is how far a chain of blame is followed.
const maxBlames = 4

// describeNode is all that is known of a component and what to do about it.
// The last lines of its log fill what is left of h lines.
func (m *model) describeNode(n node, w, h int) []string {
	d := &writer{t: m.theme, w: w}
	health := n.health
	head := []span{m.theme.sign(stateSign(health.State))}
	if !health.Since.IsZero() {
		head = append(head, in(toneDim, " for "+age(m.state.now, health.Since)))
	}
	if n.group {
		head = append(head, in(toneDim, " (the worst of its parts)"))
	}
	d.line(head...)

	if health.Reason != "" {
		title := "WHY"
		if health.State.Healthy() {
			title = "NOTE"
		}
		d.heading(title)
		d.text(toneNone, health.Reason)
	}
	m.writeBlames(d, health)
	m.writeParts(d, n)
	m.writeNext(d, n)
	m.writeUse(d, n.path)
	m.writeLog(d, n.path, h)
	m.writeEvents(d, n.path)
	return d.lines
}

// writeParts lists what is not well below the node, but not what is not well
// below that: that one will say so itself.
func (m *model) writeParts(d *writer, n node) {
	var parts []event.Health
	for _, c := range m.state.Components() {
		if c.Component == n.path || !inside(c.Component, n.path) || c.State.Healthy() || c.Blames == n.path {
			continue
		}
		if last := len(parts) - 1; last < 0 || !inside(c.Component, parts[last].Component) {
			parts = append(parts, c)
		}
	}
	if len(parts) == 0 {
		return
	}
	d.heading("PARTS NOT WELL")
	for i, c := range parts {
		if i == 5 {
			d.text(toneDim, fmt.Sprintf("and %d more", len(parts)-i))
			break
		}
		d.line(gap(1), d.t.sign(stateSign(c.State)), plain(" "+shortName(strings.TrimPrefix(c.Component, n.path+"/"))))
	}
}

// writeBlames follows the blame to where it ends.
func (m *model) writeBlames(d *writer, h event.Health) {
	for i := 0; i < maxBlames && h.Blames != ""; i++ {
		if i == 0 {
			d.heading("BLAMES")
		}
		cause, known := m.state.Health[h.Blames]
		if !known {
			d.text(toneNone, h.Blames)
			return
		}
		d.line(gap(1), d.t.sign(stateSign(cause.State)), in(toneBold, " "+cause.Component))
		d.text(toneNone, cause.Reason)
		h = cause
	}
}

// writeNext says what can be done: the command that helps, and the keys; and
// where the component answers.
func (m *model) writeNext(d *writer, n node) {
	d.heading("NEXT")
	// What helps is what helps the cause.
	if try := cmp.Or(m.rootCause(n.health).Try, n.health.Try); try != "" && !n.health.State.Healthy() {
		for _, l := range d.t.wrap(try, d.w-3) {
			d.line(gap(1), in(toneKey, l))
		}
	}
	keys, used := []span{gap(1)}, 2
	for _, b := range keyMap {
		switch b.intent {
		case showLogs, describe, shell, restart, openURL:
		default:
			continue
		}
		if !b.on.has(overview) || !m.able(b) || b.intent == openURL && n.health.URL == "" || n.group && b.intent != showLogs {
			continue
		}
		item := []span{in(toneKey, b.Help().Key), plain(" " + b.word() + "  ")}
		if used += d.t.measure(item...); used > d.w {
			d.line(keys...)
			keys, used = []span{gap(1)}, 2+d.t.measure(item...)
		}
		keys = append(keys, item...)
	}
	d.line(keys...)
	if n.health.URL != "" {
		d.heading("URL")
		d.text(toneNone, n.health.URL)
	}
}

func (m *model) writeUse(d *writer, path string) {
	samples := m.state.Samples[path]
	if len(samples) == 0 {
		return
	}
	last := samples[len(samples)-1]
	span := ""
	if d := last.Time.Sub(samples[0].Time); d > 0 {
		span = ", last " + age(last.Time, samples[0].Time)
	}
	d.heading("USE" + span)
	w := max(8, min(event.SampleTail, d.w-18))
	d.line(gap(1), in(toneDim, "cpu    "), in(toneBlue, d.t.cpuSpark(samples, w)), plain(d.t.right(cores(last.CPU), 7)))
	d.line(gap(1), in(toneDim, "memory "), in(toneBlue, d.t.memorySpark(samples, w)), plain(d.t.right(memory(last.Memory), 7)))
}

func (m *model) writeEvents(d *writer, path string) {
	n := 0
	for _, e := range m.events.all {
		if !related(e.Object, path) || e.Source == "sandbox" && e.Object == path {
			continue
		}
		if n == 0 {
			d.heading("EVENTS")
		}
		if n++; n > 3 {
			d.text(toneDim, "more: 5 events")
			return
		}
		tn := toneNone
		if e.Type == event.Warning {
			tn = toneWarn
		}
		d.line(gap(1), in(toneDim, d.t.fill(age(m.state.now, e.Last), 4)), plain(" "), in(tn, e.Reason), plain(" "+e.Message))
	}
}

// leastLog is how many lines of a log are shown even if there is no room.
const leastLog = 3

func (m *model) writeLog(d *writer, path string, h int) {
	room := max(leastLog, h-len(d.lines)-2)
	var last []event.LogEntry
	for i := len(m.state.Logs) - 1; i >= 0 && len(last) < room; i-- {
		if inside(m.state.Logs[i].Component, path) {
			last = append(last, m.state.Logs[i])
		}
	}
	if len(last) == 0 {
		return
	}
	d.heading("LOG")
	for i := len(last) - 1; i >= 0; i-- {
		d.line(gap(1), in(levelTone(last[i].Line), last[i].Line))
	}
}
