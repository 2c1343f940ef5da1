package tui

import (
	"fmt"
	"strings"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// pane is the content of a framed part of the screen. Its lines have exactly
// the width of the pane; a line that starts with ruleMark becomes a rule across
// the frame, with the rest as its title.
type pane struct {
	title, note string
	focus       bool
	lines       []string
}

const ruleMark = "\x00"

// top draws the upper edge of a frame: ┌─ title ───── note ─
func (t theme) edge(p pane, w int) string {
	title, note := "", ""
	if p.title != "" {
		title = t.clip(p.title, w-4)
	}
	if p.note != "" && width(title)+width(t.text(p.note))+8 <= w {
		note = t.text(p.note)
	}
	spans := []span{in(toneDim, t.rule(1))}
	used := 1
	if title != "" {
		name := toneBold
		spans = append(spans, plain(" "), in(name, title), plain(" "))
		used += width(title) + 2
		if p.focus {
			spans[2] = in(toneKey, title)
		}
	}
	if note != "" {
		spans = append(spans, in(toneDim, t.rule(w-used-width(note)-3)), plain(" "), in(toneDim, note), plain(" "), in(toneDim, t.rule(1)))
	} else {
		spans = append(spans, in(toneDim, t.rule(w-used)))
	}
	return t.line(w, false, spans...)
}

// framed draws the panes of a layout side by side.
func (t theme) framed(l layout, list, detail pane) []string {
	dim := func(s string) string { return t.paint(toneDim, false, s) }
	corner := func(left, middle, right string, list, detail string) string {
		line := dim(left) + list
		if l.split() {
			line += dim(middle) + detail
		}
		return line + dim(right)
	}
	if !l.split() && l.detail.w > 0 {
		list, l.list, l.detail = detail, l.detail, rect{}
	}
	side := t.pick("│", "|")
	plus := func(u string) string { return t.pick(u, "+") }
	out := []string{corner(plus("┌"), plus("┬"), plus("┐"), t.edge(list, l.list.w), t.edge(detail, l.detail.w))}
	for i := range l.list.h {
		at := func(p pane, w int) (string, bool) {
			if i >= len(p.lines) {
				return strings.Repeat(" ", w), false
			}
			if title, ok := strings.CutPrefix(p.lines[i], ruleMark); ok {
				return t.edge(pane{title: title}, w), true
			}
			return p.lines[i], false
		}
		first, ruled := at(list, l.list.w)
		second, ruledToo := at(detail, l.detail.w)
		left, middle, right := side, side, side
		if ruled {
			left = plus("├")
		}
		switch {
		case ruled && ruledToo:
			middle = plus("┼")
		case ruled:
			middle = plus("┤")
		case ruledToo:
			middle = plus("├")
		}
		if ruled && !l.split() || ruledToo && l.split() {
			right = plus("┤")
		}
		out = append(out, corner(left, middle, right, first, second))
	}
	return append(out, corner(plus("└"), plus("┴"), plus("┘"), dim(t.rule(l.list.w)), dim(t.rule(l.detail.w))))
}

// bothEnds draws a line with something at either end. Where there is no room
// for both, the right end gives way.
func (t theme) bothEnds(w int, left, right []span) string {
	room := w - t.measure(left...) - t.measure(right...)
	if room < 1 {
		return t.line(w, false, left...)
	}
	return t.line(w, false, append(append(left, gap(room)), right...)...)
}

// header says what is shown: the sandbox, its engine, how long it is up, and
// how many components are in which state.
func (m *model) header(w int) string {
	sep := in(toneDim, " · ")
	left := []span{plain(" "), in(toneBold, m.name)}
	if m.state.Engine != "" {
		left = append(left, sep, plain(m.state.Engine))
	}
	if run := m.runWord(); run != "" {
		left = append(left, sep, plain(run))
	}
	counts := map[event.State]int{}
	for _, h := range m.state.Health {
		counts[h.State]++
	}
	right := func(words bool) []span {
		var out []span
		for _, s := range allSigns {
			n := counts[s.state]
			if n == 0 {
				continue
			}
			text := fmt.Sprintf("%s %d", m.theme.pick(s.sign.glyph, s.sign.ascii), n)
			if words {
				text += " " + s.sign.word
			}
			out = append(out, in(s.sign.tone, text), gap(2))
		}
		return append(out, m.liveness(), plain(" "))
	}
	// Where there is little room the words go first, as the list has them too,
	// then the end of what is at the left.
	all := right(true)
	if m.theme.measure(left...)+m.theme.measure(all...)+2 > w {
		all = right(false)
	}
	n := m.theme.measure(all...)
	return m.theme.line(w-n-1, false, left...) + " " + m.theme.line(n, false, all...)
}

// runWord is the state of the run in a few words.
func (m *model) runWord() string {
	v := &m.state.View
	switch {
	case len(v.Steps) == 0:
		return ""
	case v.Result == nil:
		done := 0
		for _, s := range v.Steps {
			if s.Outcome != "" {
				done++
			}
		}
		return fmt.Sprintf("%s: %d of %d steps, %s", orWord(v.Command, "run"), done, len(v.Steps), age(m.state.now, v.Started))
	case !v.Result.OK:
		return orWord(v.Command, "run") + " failed"
	default:
		return "last " + orWord(v.Command, "run") + " " + age(m.state.now, v.Started) + " ago"
	}
}

func orWord(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// quietTime is how long a running stack may say nothing before the header does
// not call it live any more.
const quietTime = 20 * 1e9

// liveness says whether what is shown is how things are now. It has no seconds
// in it, so that a quiet stack does not have to be redrawn.
func (m *model) liveness() span {
	switch quiet := m.state.now.Sub(m.state.Now); {
	case m.replay && m.ended:
		return in(toneDim, "replay, at its end")
	case m.replay:
		return in(toneBusy, "replay")
	case m.ended:
		return in(toneWarn, "not live any more")
	case m.state.Now.IsZero():
		return in(toneDim, "waiting for events")
	case quiet >= quietTime*3:
		return in(toneWarn, "no news for "+age(m.state.now, m.state.Now))
	case quiet >= quietTime:
		return in(toneDim, "quiet")
	default:
		return in(toneGood, "live")
	}
}

// screenNames are the titles of the tabs, in full and short.
var screenNames = [screens][2]string{
	{"Overview", "Overview"}, {"Steps", "Steps"}, {"Logs", "Logs"}, {"Alerts", "Alerts"}, {"Events", "Events"}, {"Terraform", "TF"},
}

// name is the word that stands for a screen in commands and in Actions.
func (s screen) name() string { return strings.ToLower(screenNames[s][0]) }

// badge is the number of things on a screen that want attention.
func (m *model) badge(s screen) int {
	n := 0
	switch s {
	case alertsScreen:
		for _, a := range m.state.Alerts {
			if a.State == "firing" && !isCopy(a) {
				n++
			}
		}
	case terraformScreen:
		for _, mod := range m.state.Modules {
			n += mod.Drift
		}
	}
	return n
}

// tabs draws the line of tabs and remembers where each one is.
func (m *model) drawTabs(w int) string {
	draw := func(short, space int) ([]span, [screens][2]int) {
		out := []span{plain(" ")}
		var zones [screens][2]int
		x := 1
		for s := range screens {
			name := fmt.Sprintf("%d %s", s+1, screenNames[s][short])
			tn := toneNone
			if n := m.badge(s); n > 0 {
				name, tn = fmt.Sprintf("%s(%d)", name, n), toneBad
			}
			if s == m.screen {
				name = "[" + name + "]"
				tn = toneBold
			}
			zones[s] = [2]int{x, x + len(name)}
			x += len(name) + space
			out = append(out, in(tn, name), gap(space))
		}
		return out, zones
	}
	for _, v := range [][2]int{{0, 2}, {0, 1}, {1, 1}} {
		spans, zones := draw(v[0], v[1])
		if m.theme.measure(spans...) <= w {
			m.zones = zones
			return m.theme.bothEnds(w, spans, []span{in(toneKey, "?"), plain(" help ")})
		}
	}
	m.zones = [screens][2]int{}
	return m.theme.line(w, false, plain(" "), in(toneBold, fmt.Sprintf("[%d %s]", m.screen+1, screenNames[m.screen][0])), plain(" 1-6 tabs"))
}

// hints draws the keys that matter here. Help and the way out always fit.
func (m *model) hints(w int) string {
	out := []span{plain(" ")}
	last := []span{in(toneKey, "?"), plain(" help  "), in(toneKey, "q"), plain(" " + m.quitWord() + " ")}
	room := w - m.theme.measure(last...) - 1
	for _, h := range m.hinted() {
		item := []span{in(toneKey, h[0]), plain(" " + h[1] + "  ")}
		n := m.theme.measure(item...)
		if room -= n; room < 0 {
			break
		}
		out = append(out, item...)
	}
	return m.theme.line(w, false, append(out, last...)...)
}

// hinted lists the keys, with what they do, that matter in what is open.
func (m *model) hinted() [][2]string {
	switch {
	case m.prompt.kind == promptFilter:
		return [][2]string{{"enter", "keep"}, {"esc", "clear"}, {"!", "first: what does not match"}}
	case m.prompt.kind == promptCommand:
		return [][2]string{{"enter", "run"}, {"tab", "complete"}, {"esc", "close"}}
	case m.question != nil:
		return [][2]string{{"y", "yes"}, {"n", "no"}}
	case m.helping != nil:
		return [][2]string{{"type", "to filter"}, {"up/down", "choose"}, {"enter", "run"}, {"esc", "close"}}
	case m.page != nil:
		return [][2]string{{"j/k", "scroll"}, {"space/b", "page"}, {"g/G", "ends"}, {"c", "copy"}, {"esc", "close"}}
	case m.choosing != nil:
		return [][2]string{{"j/k", "move"}, {"enter", "choose"}, {"esc", "close"}}
	}
	var out [][2]string
	for _, b := range keyMap {
		if b.hint && b.hintOn.has(m.screen) && b.on.has(m.screen) && m.able(b) && m.sensible(b.intent) {
			out = append(out, [2]string{b.Help().Key, b.word()})
		}
	}
	return out
}

// sensible says whether there is reason to hint at an intent now.
func (m *model) sensible(i intent) bool {
	switch i {
	case open:
		return !m.inDetail
	case nextHit, onlyHits:
		return !m.logs.pattern.empty()
	case undoFault:
		return m.faultLeft()
	}
	return true
}

// quitWord says what q does now.
func (m *model) quitWord() string {
	if m.nested() {
		return "back"
	}
	return "quit"
}
