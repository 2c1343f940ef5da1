package tui

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// The widths of the columns before the text of a line.
const (
	timeWidth  = 9 // "15:04:05 "
	labelWidth = 16
)

func (l *logsTab) leadWidth() int {
	n := 1
	if l.times {
		n += timeWidth
	}
	if l.w >= 50 {
		n += labelWidth + 1
	}
	return n
}

func (l *logsTab) textWidth() int { return max(10, l.w-l.leadWidth()) }

func (l *logsTab) listPane(m *model, w, h int) pane {
	l.w, l.h = w, h
	t := m.theme
	p := pane{title: "Logs", note: l.note()}
	if l.source != "" {
		p.title = "Logs of " + l.source
	}
	if len(l.rows) == 0 {
		p.lines = append(p.lines, t.line(w, false, in(toneDim, " "+l.nothing())))
		return p
	}
	top := l.top
	if l.follow {
		top = l.bottomTop()
	}
	for row, sub := top.row, top.sub; row < len(l.rows) && len(p.lines) < h; row, sub = row+1, 0 {
		lines := l.draw(m, row)
		if sub < len(lines) {
			p.lines = append(p.lines, lines[sub:]...)
		}
	}
	p.lines = p.lines[:min(h, len(p.lines))]
	return p
}

func (l *logsTab) detailPane(*model, int, int) pane { return pane{} }

// nothing says why there is nothing to see, and the way out.
func (l *logsTab) nothing() string {
	switch {
	case l.level > 0:
		return "no line of level " + levels[l.level].name + "; v shows other levels"
	case !l.since.IsZero():
		return "nothing was logged in the last " + short(logSpans[l.span]) + "; [ widens"
	case l.only:
		return "no line matches " + l.pattern.text + "; esc shows all"
	case l.source != "":
		return l.source + " has said nothing; esc shows all sources"
	}
	return "nothing has been logged yet"
}

// note says what is shown of what there is.
func (l *logsTab) note() string {
	parts := []string{fmt.Sprintf("%d lines", len(l.rows))}
	if !l.pattern.empty() {
		what := "matches"
		if l.pattern.invert {
			what = "without a match"
		}
		parts = append(parts, fmt.Sprintf("%s: %d %s", l.pattern.text, len(l.hits), what))
	}
	if l.level > 0 {
		parts = append(parts, levels[l.level].name)
	}
	if !l.since.IsZero() {
		parts = append(parts, "last "+short(logSpans[l.span]))
	}
	if l.right > 0 {
		parts = append(parts, fmt.Sprintf("column %d", l.right+1))
	}
	switch {
	case l.follow:
		parts = append(parts, "FOLLOW")
	case l.unread > 0:
		parts = append(parts, fmt.Sprintf("%d new, G shows them", l.unread))
	default:
		parts = append(parts, "paused, G follows")
	}
	return strings.Join(parts, ", ")
}

// short writes a span of whole minutes.
func short(d time.Duration) string { return fmt.Sprintf("%dm", int(d.Minutes())) }

// bytesPerColumn is more than what is needed to fill a column with text.
const bytesPerColumn = 16

// prefix is the start of a line that may be very long: what lies beyond the
// edge of the screen need not be looked at.
func prefix(line string, n int) string {
	if len(line) <= n {
		return line
	}
	for n > 0 && !utf8.RuneStart(line[n]) {
		n--
	}
	return line[:n]
}

// draw draws a row: its line, wrapped or shifted, and the marks after it.
func (l *logsTab) draw(m *model, row int) []string {
	t, e := m.theme, l.entry(row)
	var lead []span
	if l.times {
		lead = append(lead, in(toneDim, e.Time.In(m.state.now.Location()).Format("15:04:05 ")))
	}
	if l.w >= 50 {
		name := label(e)
		lead = append(lead, in(labelTone(name), t.squeeze(name, labelWidth)), plain(" "))
	}
	cursor := " "
	if l.rows[row] == l.hit {
		cursor = ">"
	}
	lead = append([]span{plain(cursor)}, lead...)

	line := e.Line
	if !l.wrap {
		line = prefix(line, (l.right+l.w)*bytesPerColumn)
	}
	text := t.text(line)
	found := l.pattern.find(text)
	var out []string
	if l.wrap {
		at := 0
		for i, piece := range chunks(text, l.textWidth()) {
			if i > 0 {
				lead = []span{gap(l.leadWidth())}
			}
			out = append(out, t.line(l.w, false, append(lead[:len(lead):len(lead)], highlight(text, at, at+len(piece), found, levelTone(text))...)...))
			at += len(piece)
		}
	} else {
		from := len(text) - len(skip(text, l.right))
		to := min(len(text), from+len(head(text[from:], l.textWidth()+1)))
		out = append(out, t.line(l.w, false, append(lead, highlight(text, from, to, found, levelTone(text))...)...))
	}
	for i := l.marksAfter(row); i > 0; i-- {
		out = append(out, l.markLine(t, m, row, i))
	}
	return out
}

// markLine draws the mark that is the i-th from the last after a row.
func (l *logsTab) markLine(t theme, m *model, row, i int) string {
	var after []logMark
	for _, k := range l.marks {
		if l.rows[row] <= k.after && (row+1 >= len(l.rows) || l.rows[row+1] > k.after) {
			after = append(after, k)
		}
	}
	k := after[len(after)-i]
	text := t.rule(8) + k.at.In(m.state.now.Location()).Format(" mark 15:04:05 ")
	return t.line(l.w, false, in(toneMagenta, text+t.rule(l.w-width(text))))
}

// highlight splits text[from:to] into spans, the parts found in tones of their
// own.
func highlight(text string, from, to int, found [][]int, tn tone) []span {
	var out []span
	for _, f := range found {
		a, b := max(from, f[0]), min(to, f[1])
		if a >= b {
			continue
		}
		if a > from {
			out = append(out, in(tn, text[from:a]))
		}
		out = append(out, in(toneHit, text[a:b]))
		from = b
	}
	if from < to {
		out = append(out, in(tn, text[from:to]))
	}
	return out
}

// labelTone gives each source a colour of its own; the name says it too.
func labelTone(name string) tone {
	sum := 0
	for i := range len(name) {
		sum = sum*31 + int(name[i])
	}
	return []tone{toneBusy, toneBlue, toneMagenta, toneGood}[uint(sum)%4]
}

// choice is an entry of a list to choose from.
type choice struct{ key, text, note string }
