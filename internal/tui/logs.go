package tui

import (
	"fmt"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// logsTab shows the logs of all components and steps as one, or of one source.
//
// Lines have numbers that they keep (see event.Live), so that what was found
// and where the window is survive that old lines go. Lines are looked at once,
// when they come.
type logsTab struct {
	source  string // a component; "" shows all
	pattern pattern
	only    bool // show lines that match only
	level   int  // index in levels
	span    int  // index in spans
	since   time.Time
	wrap    bool
	times   bool
	follow  bool
	right   int // columns the text is shifted

	lines  []event.LogEntry
	first  int   // number of lines[0]
	seen   int   // numbers below this have been looked at
	rows   []int // numbers of the lines to show
	hits   []int // those of them that match
	marks  []logMark
	top    place // the first visible line, unless following
	hit    int   // number of the match the user is at, -1 for none
	unread int   // lines that came since follow was switched off

	w, h int // the size drawn last
}

// logMark is a rule the user drew after a line.
type logMark struct {
	after int
	at    time.Time
}

// place is a line by its index in rows, and a row within it where it is wrapped.
type place struct{ row, sub int }

func newLogs() *logsTab { return &logsTab{follow: true, times: true, wrap: true, hit: -1} }

// sync looks at the lines that are new.
func (l *logsTab) sync(m *model) {
	if m.state.LogsDropped+len(m.state.Logs) < l.seen {
		l.reset() // another stream
	}
	l.lines, l.first = m.state.Logs, m.state.LogsDropped
	gone, _ := slices.BinarySearch(l.rows, l.first)
	l.rows = l.rows[gone:]
	l.top.row = max(0, l.top.row-gone)
	old, _ := slices.BinarySearch(l.hits, l.first)
	l.hits = l.hits[old:]
	for n := max(l.seen, l.first); n < l.first+len(l.lines); n++ {
		l.look(n)
	}
	l.seen = l.first + len(l.lines)
}

func (l *logsTab) look(n int) {
	e := l.lines[n-l.first]
	if l.source != "" && !inside(e.Component, l.source) || e.Time.Before(l.since) || !levels[l.level].shows(e.Line) {
		return
	}
	if !l.pattern.empty() {
		hit := l.pattern.match(e.Line, label(e))
		if hit {
			l.hits = append(l.hits, n)
		}
		if l.only && !hit {
			return
		}
	}
	l.rows = append(l.rows, n)
	if !l.follow {
		l.unread++
	}
}

// levels are how bad a line must be to be shown.
var levels = []struct {
	name  string
	shows func(line string) bool
}{
	{"", func(string) bool { return true }},
	{"warnings", func(line string) bool { return levelTone(line) != toneNone }},
	{"errors", func(line string) bool { return levelTone(line) == toneBad }},
}

// spans are how far back lines are shown; the first is all there are.
var logSpans = []time.Duration{0, 15 * time.Minute, 5 * time.Minute, time.Minute}

// narrow takes the next shorter span, or the next longer one.
func (l *logsTab) narrow(now time.Time, by int) {
	l.span = min(max(0, l.span+by), len(logSpans)-1)
	l.since = time.Time{}
	if d := logSpans[l.span]; d > 0 {
		l.since = now.Add(-d)
	}
	l.reset()
}

// reset looks at all lines again, and stays near the line it was at.
func (l *logsTab) reset() {
	at := -1
	if !l.follow && l.top.row < len(l.rows) {
		at = l.rows[l.top.row]
	}
	l.rows, l.hits, l.seen, l.hit = nil, nil, 0, -1
	for n := l.first; n < l.first+len(l.lines); n++ {
		l.look(n)
	}
	l.seen = l.first + len(l.lines)
	l.unread = 0
	if at >= 0 {
		row, _ := slices.BinarySearch(l.rows, at)
		l.top = place{row: min(row, max(0, len(l.rows)-1))}
	}
}

// search looks for a pattern. An inverted one shows only what does not match.
func (l *logsTab) search(p pattern) {
	l.pattern = p
	l.only = !p.empty() && (l.only || p.invert)
	l.reset()
}

// show narrows the logs to a component; "" widens them to all.
func (l *logsTab) show(component string) {
	l.source, l.follow, l.right = component, true, 0
	l.reset()
}

func (l *logsTab) do(m *model, i intent) (tea.Cmd, bool) {
	switch i {
	case moveDown:
		l.scroll(1)
	case moveUp:
		l.scroll(-1)
	case pageDown:
		l.scroll(max(1, l.h-1))
	case pageUp:
		l.scroll(-max(1, l.h-1))
	case halfDown:
		l.scroll(max(1, l.h/2))
	case halfUp:
		l.scroll(-max(1, l.h/2))
	case moveTop:
		l.hold()
		l.top = place{}
	case moveBottom:
		l.follow, l.unread = true, 0
	case follow:
		if l.follow {
			l.hold()
		} else {
			l.follow, l.unread = true, 0
		}
	case foldOut:
		l.right += 20
	case foldIn:
		l.right = max(0, l.right-20)
	case wrapLines:
		l.wrap, l.right = !l.wrap, 0
		l.top.sub = 0
	case showTimes:
		l.times = !l.times
	case mark:
		l.marks = append(l.marks, logMark{after: l.seen - 1, at: m.state.now})
	case nextHit, previousHit:
		l.jump(m, i == nextHit)
	case cycleLevel:
		l.level = (l.level + 1) % len(levels)
		l.reset()
	case narrowSpan, widenSpan:
		l.narrow(m.state.now, map[intent]int{narrowSpan: 1, widenSpan: -1}[i])
	case onlyHits:
		if l.pattern.empty() {
			m.say(toneNone, "nothing is searched for: / first")
		} else {
			l.only = !l.only
			l.reset()
		}
	case invertHits:
		text, inverted := strings.CutPrefix(l.pattern.text, "!")
		if !inverted {
			text = "!" + text
		}
		if l.pattern.empty() {
			m.say(toneNone, "nothing is searched for: / first")
		} else {
			l.search(parsePattern(text))
		}
	default:
		return nil, false
	}
	return nil, true
}

// hold stops following where the window is now.
func (l *logsTab) hold() {
	if l.follow {
		l.follow, l.unread = false, 0
		l.top = l.bottomTop()
	}
}

// scroll moves the window by d lines of the screen. At the end it follows.
func (l *logsTab) scroll(d int) {
	if d > 0 && l.follow {
		return
	}
	l.hold()
	l.top = l.move(l.top, d)
	if end := l.bottomTop(); d > 0 && (l.top.row > end.row || l.top.row == end.row && l.top.sub >= end.sub) {
		l.follow, l.unread = true, 0
	}
}

// move is the place d lines of the screen from p.
func (l *logsTab) move(p place, d int) place {
	p.sub += d
	for p.sub < 0 && p.row > 0 {
		p.row--
		p.sub += l.heightOf(p.row)
	}
	for p.row < len(l.rows)-1 && p.sub >= l.heightOf(p.row) {
		p.sub -= l.heightOf(p.row)
		p.row++
	}
	p.sub = max(0, p.sub)
	return p
}

// bottomTop is the place at the top of the window that shows the last line.
func (l *logsTab) bottomTop() place {
	left := max(1, l.h)
	for row := len(l.rows) - 1; row >= 0; row-- {
		n := l.heightOf(row)
		if n >= left {
			return place{row: row, sub: n - left}
		}
		left -= n
	}
	return place{}
}

// heightOf is the number of lines of the screen a row takes.
func (l *logsTab) heightOf(row int) int {
	n := 1
	if l.wrap {
		text := l.entry(row).Line
		if ascii(text) {
			n = max(1, (len(text)+l.textWidth()-1)/l.textWidth())
		} else {
			n = len(chunks(theme{}.text(text), l.textWidth()))
		}
	}
	return n + l.marksAfter(row)
}

// marksAfter counts the marks between a row and the next.
func (l *logsTab) marksAfter(row int) int {
	n := 0
	for _, k := range l.marks {
		if l.rows[row] <= k.after && (row+1 >= len(l.rows) || l.rows[row+1] > k.after) {
			n++
		}
	}
	return n
}

func (l *logsTab) entry(row int) event.LogEntry { return l.lines[l.rows[row]-l.first] }

// jump goes to the next or the previous match, from the one it is at or from
// what is visible, and around the ends.
func (l *logsTab) jump(m *model, forward bool) {
	if len(l.hits) == 0 {
		if l.pattern.empty() {
			m.say(toneNone, "nothing is searched for: / first")
		} else {
			m.say(toneWarn, "no line matches "+l.pattern.text)
		}
		return
	}
	from := l.hit
	if from < 0 {
		l.hold()
		from = l.rows[min(l.top.row, len(l.rows)-1)]
		if !forward {
			from += l.h
		}
	}
	i, exact := slices.BinarySearch(l.hits, from)
	switch {
	case forward && exact && l.hit >= 0:
		i++
	case !forward:
		i--
	}
	i = (i + len(l.hits)) % len(l.hits)
	l.goTo(l.hits[i])
}

// goTo puts the match of that number into the middle of the window.
func (l *logsTab) goTo(n int) {
	l.hold()
	l.hit = n
	row, _ := slices.BinarySearch(l.rows, n)
	l.top = l.move(place{row: min(row, len(l.rows)-1)}, -l.h/2)
}

// latest goes to the last match, if there is one.
func (l *logsTab) latest() {
	if len(l.hits) > 0 && !l.pattern.invert {
		l.goTo(l.hits[len(l.hits)-1])
	}
}

func (l *logsTab) subject() string { return l.source }

// value is the visible lines.
func (l *logsTab) value(*model) string {
	var b strings.Builder
	top := l.top
	if l.follow {
		top = l.bottomTop()
	}
	for row := top.row; row < min(len(l.rows), top.row+l.h); row++ {
		e := l.entry(row)
		fmt.Fprintf(&b, "%s %s\n", label(e), event.Clean(e.Line))
	}
	return b.String()
}

// sources lists what has logged, with the number of its lines.
func (l *logsTab) sources() []choice {
	counts := map[string]int{}
	for _, e := range l.lines {
		counts[e.Component]++
		// What says more than a release is a pod of it.
		if parts := strings.SplitN(e.Component, "/", 3); len(parts) == 3 {
			counts[parts[0]+"/"+parts[1]]++
		}
	}
	names := make([]string, 0, len(counts))
	for name := range counts {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if d := topRank(a) - topRank(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	all := []choice{{key: "", text: "all sources", note: fmt.Sprintf("%d lines", len(l.lines))}}
	for _, name := range names {
		all = append(all, choice{key: name, text: name, note: fmt.Sprintf("%d lines", counts[name])})
	}
	return all
}

// label is the name that leads a line: the pod or container, or what else the
// line came from.
func label(e event.LogEntry) string {
	last := e.Component[strings.LastIndexByte(e.Component, '/')+1:]
	switch {
	case e.Source == "":
		return last
	case e.Step && e.Source != last:
		return last + ":" + e.Source
	}
	return e.Source
}

// levelTone is the tone of a line that says how bad it is.
func levelTone(line string) tone {
	line = strings.ToUpper(line[:min(len(line), 120)])
	switch {
	case strings.Contains(line, "ERROR"), strings.Contains(line, "FATAL"), strings.Contains(line, "PANIC"):
		return toneBad
	case strings.Contains(line, "WARN"):
		return toneWarn
	}
	return toneNone
}

func (l *logsTab) click(*model, int) {}
