package tui

import (
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// stepsTab is the timeline of the last run: what was done when, what waited
// for what, and which chain of steps made it take as long as it did.
type stepsTab struct {
	steps    []event.StepView
	critical []string // IDs, in the order of time
	start    time.Time
	end      time.Time
	list     list
	more     pager
	led      bool // the cursor follows what runs or has failed
}

func newSteps() *stepsTab { return &stepsTab{led: true} }

func (s *stepsTab) sync(m *model) {
	p := m.filterOf(stepsScreen)
	s.steps = s.steps[:0]
	var keys []string
	for _, st := range m.state.Steps {
		if p.match(st.ID, st.Title, stepSign(st).word, st.Note) {
			s.steps = append(s.steps, st)
			keys = append(keys, st.ID)
		}
	}
	s.list.set(keys)
	s.start, s.end = m.state.Started, m.state.now
	if m.state.Result != nil {
		s.end = s.start.Add(m.state.Result.Elapsed)
	}
	for _, st := range m.state.Steps {
		if st.Finished.After(s.end) {
			s.end = st.Finished
		}
	}
	s.critical = criticalPath(m.state.Steps, s.end)
	if s.led {
		s.lead()
	}
}

// lead puts the cursor on what has failed, or else on what runs.
func (s *stepsTab) lead() {
	at := -1
	for i, st := range s.steps {
		switch {
		case st.Outcome == event.Failed:
			s.list.at = i
			return
		case st.Running() && at < 0:
			at = i
		}
	}
	s.list.at = max(0, at)
}

// criticalPath is the chain of steps that the end of the run waited for: from
// the step that ended last back, each time to the one that let it start last.
func criticalPath(steps []event.StepView, now time.Time) []string {
	byID := map[string]event.StepView{}
	ended := func(s event.StepView) time.Time {
		if s.Running() {
			return now
		}
		return s.Finished
	}
	last := event.StepView{}
	for _, s := range steps {
		byID[s.ID] = s
		if !s.Started.IsZero() && (last.ID == "" || ended(s).After(ended(last))) {
			last = s
		}
	}
	var path []string
	for at := last; at.ID != ""; {
		path = append(path, at.ID)
		next := event.StepView{}
		for _, id := range at.After {
			before, ok := byID[id]
			if ok && !before.Started.IsZero() && (next.ID == "" || ended(before).After(ended(next))) {
				next = before
			}
		}
		if slices.Contains(path, next.ID) {
			break // a graph of a recording need not be free of circles
		}
		at = next
	}
	slices.Reverse(path)
	return path
}

func (s *stepsTab) do(m *model, i intent) (tea.Cmd, bool) {
	if m.inDetail {
		return nil, s.more.do(i)
	}
	if s.list.do(i) {
		s.led, s.more.top = false, 0
		return nil, true
	}
	if i == open && len(s.steps) > 0 {
		s.led, m.inDetail, s.more.top = false, true, 0
		return nil, true
	}
	return nil, false
}

func (s *stepsTab) subject() string { return s.list.key() }

func (s *stepsTab) current() (event.StepView, bool) {
	if s.list.at >= len(s.steps) {
		return event.StepView{}, false
	}
	return s.steps[s.list.at], true
}

func (s *stepsTab) value(*model) string {
	st, ok := s.current()
	switch {
	case !ok:
		return ""
	case st.Error != nil:
		return strings.TrimSuffix(st.Error.What+": "+st.Error.Why, ": ")
	case st.Note != "":
		return st.Title + ": " + st.Note
	}
	return st.Title
}

// listPane draws the timeline above, the selected step below.
func (s *stepsTab) listPane(m *model, w, h int) pane {
	t := m.theme
	p := pane{title: "Steps of " + orWord(m.state.Command, "the run"), note: m.filterNote(stepsScreen, len(s.steps), len(m.state.Steps))}
	if p.note == "" && len(s.steps) > 0 {
		p.note = duration(s.end.Sub(s.start))
	}
	if len(m.state.Steps) == 0 {
		p.lines = append(p.lines, t.line(w, false, in(toneDim, " no run was seen: the stack was up before this dashboard was")))
		return p
	}
	if m.inDetail {
		return s.alone(m, w, h)
	}
	// The selected step gets the lines it needs, up to a third.
	st, some := s.current()
	var about []string
	if some {
		about = m.describeStep(st, w, max(3, h/3))
	}
	rows := min(len(s.steps), max(3, h-3-max(1, min(len(about), h/3))))
	title := 12
	for _, st := range s.steps {
		title = max(title, width(st.Title))
	}
	title = min(title, 28, w/3)
	bars := w - title - 23
	p.lines = append(p.lines, t.line(w, false, in(toneDim, " "+t.fill("STEP", title)+" "+t.fill("STATE", 11)+" "+t.right("TIME", 6)+"  "), in(toneDim, scale(t, s.end.Sub(s.start), bars))))
	from, to := s.list.window(rows)
	for i := from; i < to; i++ {
		p.lines = append(p.lines, s.row(m, s.steps[i], title, bars, w, i == s.list.at))
	}
	if len(s.critical) > 1 && h-len(p.lines) > 3 {
		p.lines = append(p.lines, t.line(w, false, in(toneDim, " critical path "), in(toneMagenta, t.pick("█ ", "# ")), plain(strings.Join(s.critical, " → "))))
	}
	if some && h-len(p.lines) > 1 {
		p.lines = append(p.lines, ruleMark+st.Title)
		p.lines = append(p.lines, m.describeStep(st, w, h-len(p.lines))...)
		p.lines = p.lines[:min(len(p.lines), h)]
	}
	return p
}

// alone shows the selected step on all of the screen.
func (s *stepsTab) alone(m *model, w, h int) pane {
	st, _ := s.current()
	lines := m.describeStep(st, w, 1<<20)
	p := pane{title: st.Title, focus: true, lines: s.more.window(lines, h)}
	p.note = share(s.more.top, h, len(lines))
	return p
}

func (s *stepsTab) detailPane(*model, int, int) pane { return pane{} }

func (s *stepsTab) row(m *model, st event.StepView, title, bars, w int, selected bool) string {
	t := m.theme
	cursor := " "
	if selected {
		cursor = ">"
	}
	sg := stepSign(st)
	if st.Running() {
		sg.word = "running"
	}
	mark := t.sign(sg)
	mark.text = t.fill(mark.text, 11)
	took := ""
	switch {
	case st.Outcome == event.Skipped || st.Started.IsZero():
	case st.Running():
		took = age(m.state.now, st.Started)
	default:
		took = duration(st.Elapsed)
	}
	before, bar := s.bar(t, st, bars)
	tn := toneBlue
	switch {
	case st.Outcome == event.Failed:
		tn = toneBad
	case slices.Contains(s.critical, st.ID):
		tn = toneMagenta
	}
	spans := []span{plain(cursor), plain(t.fill(st.Title, title)), plain(" "), mark, in(toneDim, " "+t.right(took, 6)), plain("  "), gap(before), in(tn, bar)}
	if wait := s.waits(st); bar == "" && wait != "" {
		spans = append(spans, in(toneDim, wait))
	} else if room := bars - before - width(bar) - 1; st.Running() && st.Progress != nil && room > 8 {
		spans = append(spans, in(toneDim, " "+progressWord(*st.Progress)))
	}
	return t.line(w, selected, spans...)
}

func progressWord(p event.Progress) string {
	if a := amount(p); a != "" {
		return strings.TrimSpace(p.Text + " " + a)
	}
	return p.Text
}

// waits says what a step that has not begun waits for.
func (s *stepsTab) waits(st event.StepView) string {
	if st.Outcome != "" {
		return ""
	}
	var open []string
	for _, id := range st.After {
		i := slices.IndexFunc(s.steps, func(o event.StepView) bool { return o.ID == id })
		if i >= 0 && s.steps[i].Outcome == "" {
			open = append(open, id)
		}
	}
	if len(open) == 0 {
		return ""
	}
	return "waits for " + strings.Join(open, ", ")
}

// bar is when the step ran, as the columns before it and the bar. A bar of the
// critical path is solid, others are lighter: not only their colour differs.
func (s *stepsTab) bar(t theme, st event.StepView, w int) (before int, bar string) {
	total := s.end.Sub(s.start)
	if st.Started.IsZero() || total <= 0 || w <= 0 || st.Outcome == event.Skipped {
		return 0, ""
	}
	end := st.Finished
	if st.Running() {
		end = s.end
	}
	at := func(when time.Time) int { return int(int64(when.Sub(s.start)) * int64(w) / int64(total)) }
	before = max(0, min(at(st.Started), w-1))
	n := max(1, min(at(end), w)-before)
	block := t.pick("▒", "=")
	if slices.Contains(s.critical, st.ID) {
		block = t.pick("█", "#")
	}
	return before, strings.Repeat(block, n)
}

// scale is the axis of the timeline: the times at its quarters.
func scale(t theme, total time.Duration, w int) string {
	if w < 12 || total <= 0 {
		return ""
	}
	parts := 4
	if w < 40 {
		parts = 2
	}
	line := []byte(strings.Repeat(" ", w))
	for i := range parts {
		d := total * time.Duration(i) / time.Duration(parts)
		label := duration(d.Round(time.Second))
		if d < time.Minute {
			label = age(time.Time{}.Add(time.Hour+d.Round(time.Second)), time.Time{}.Add(time.Hour))
		}
		copy(line[i*w/parts:], "|"+label)
	}
	return t.text(string(line))
}

// describeStep is all that is known of a step, the last h lines of its log
// included.
func (m *model) describeStep(st event.StepView, w, h int) []string {
	d := &writer{t: m.theme, w: w}
	sg := stepSign(st)
	head := []span{m.theme.sign(sg)}
	if st.Note != "" {
		head = append(head, plain("  "+st.Note))
	}
	if st.Progress != nil && st.Running() {
		head = append(head, plain("  "+progressWord(*st.Progress)+" "), in(toneBlue, m.theme.bar(st.Progress.Done, st.Progress.Total, 20)))
	}
	d.line(head...)
	if st.Running() && st.Progress != nil {
		for _, b := range st.Progress.Blockers {
			d.line(gap(1), in(toneDim, "blocked by "), plain(b))
		}
	}
	if e := st.Error; e != nil {
		d.text(toneBad, e.What)
		if e.Why != "" {
			d.text(toneNone, e.Why)
		}
		if e.Try != "" {
			d.line(gap(1), in(toneDim, "try "), in(toneKey, e.Try))
		}
	}
	if len(st.After) > 0 && h > 12 {
		d.line(gap(1), in(toneDim, "after "), plain(strings.Join(st.After, ", ")))
	}
	log := st.Log
	if room := h - len(d.lines); len(log) > room {
		log = log[len(log)-max(0, room):]
	}
	for _, l := range log {
		d.line(gap(1), in(toneDim, m.theme.pick("│ ", "| ")), in(levelTone(l.Line), l.Line))
	}
	if st.Error != nil && len(st.Log) == 0 {
		for _, l := range st.Error.Log {
			d.line(gap(1), in(toneDim, m.theme.pick("│ ", "| ")), plain(l))
		}
	}
	return d.lines
}

func (s *stepsTab) click(_ *model, y int) {
	if row := s.list.top + y - 1; y >= 1 && row < len(s.steps) && y <= s.list.size {
		s.list.at, s.led = row, false
	}
}
