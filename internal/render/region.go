package render

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/sandbox-stack/sandbox/internal/event"
)

const (
	tookWidth   = 6  // "59.9s", "12m04s"
	noteRoom    = 24 // fewer columns for a note, and it gets a line of its own
	maxTroubles = 3  // components and alerts in the region
	hang        = signWidth + 1
	// fresh is how long the last log line of a step tells what it does.
	fresh = 15 * time.Second
)

// The ranks of the region's lines. Where there are too few rows, the lines of
// the highest rank go first, from the bottom up.
const (
	rankHeader = iota
	rankStep
	rankTrouble
	rankWaiting
	rankBlocker // the first of each step
	rankDoing   // what a step does, where that needs a line of its own
	rankKeys
	rankStage    // of a drill
	rankBlockers // the others
	rankLog
)

// region is what TTY redraws: what runs, what it waits for, what is wrong and
// what is still to come. It is drawn from these fields alone.
type region struct {
	view  *event.View
	now   time.Time
	style Style
	keys  string // a line on the keys, if any
	// logged says when each step last logged something.
	logged map[string]time.Time
}

type rankedLine struct {
	rank int
	text string
}

// fit returns the lines for a terminal with that many rows, each at most width
// columns. They never take all rows, as the cursor is below them; on a tall
// terminal some rows are left for what is finished.
func (r region) fit(width, height int) []string {
	rows := min(height-1, max(12, height*2/3))
	if rows < 1 || width < 1 {
		return nil
	}
	lines := r.lines(width)
	dropped := 0
	for len(lines) > rows {
		least := slices.MaxFunc(lines, func(a, b rankedLine) int { return a.rank - b.rank }).rank
		last := len(lines) - 1
		for lines[last].rank != least {
			last--
		}
		if least == rankStep {
			dropped++
		}
		lines = slices.Delete(lines, last, last+1)
	}
	if last := len(lines) - 1; dropped > 0 && lines[last].rank == rankStep {
		lines[last].text = r.style.paint(toneDim, fmt.Sprintf("  and %d more that run", dropped+1))
	}
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = ansi.Truncate(l.text, width, r.style.ellipsis())
	}
	return out
}

// lines returns everything there is to show.
func (r region) lines(width int) []rankedLine {
	lines := []rankedLine{{rankHeader, r.header(width)}}
	var waiting []string
	for _, s := range r.view.Steps {
		switch {
		case s.Running():
			lines = append(lines, r.step(s, width)...)
		case s.Outcome == "":
			waiting = append(waiting, s.ID)
		}
	}
	for _, t := range first(maxTroubles, troubles(r.view, r.style)) {
		lines = append(lines, rankedLine{rankTrouble, t})
	}
	if len(waiting) > 0 {
		lines = append(lines, rankedLine{rankWaiting, r.waiting(waiting, width)})
	}
	if r.keys != "" {
		lines = append(lines, rankedLine{rankKeys, r.style.paint(toneDim, "  "+r.style.text(r.keys))})
	}
	return lines
}

// header is a rule with the name of the run and how far it is.
func (r region) header(width int) string {
	counts, _ := outcomes(r.view)
	total := len(r.view.Steps)
	done := counts[event.Done] + counts[event.Unchanged] + counts[event.Off]
	progress := fmt.Sprintf("%d of %d done", done, total)
	failed := ""
	if n := counts[event.Failed]; n > 0 {
		failed = fmt.Sprintf(", %d failed", n)
	}
	took := ", " + seconds(r.now.Sub(r.view.Started))
	name := r.style.text(orElse(strings.TrimSpace(r.view.Command+" "+r.view.Stack), "run"))
	used := ansi.StringWidth(progress + failed + took)
	name = ansi.Truncate(name, max(0, width-used-8), r.style.ellipsis())
	fill := r.style.rule(max(0, width-used-ansi.StringWidth(name)-4-3))
	return r.style.paint(toneDim, r.style.rule(3)) + " " + r.style.paint(toneBold, name) + " " + r.style.paint(toneDim, fill) + " " +
		r.style.paint(toneBold, progress) + r.style.paint(toneBad, failed) + r.style.paint(toneDim, took)
}

// step draws a step that runs: a line with how far it is, what it waits for,
// and the last that it logged.
func (r region) step(s event.StepView, width int) []rankedLine {
	id := r.style.text(s.ID)
	took := seconds(r.now.Sub(s.Started))
	head := r.style.sign(signRunning) + " " + id + pad(id, idColumn(r.view.Steps, width)) + "  " +
		pad(took, tookWidth) + r.style.paint(toneDim, took)
	below := strings.Repeat(" ", hang)
	var lines []rankedLine
	drill, isDrill := drillOf(r.view, s)
	if s.Progress == nil {
		lines = append(lines, rankedLine{rankStep, head})
	} else {
		head += r.progress(*s.Progress, width)
		doing := r.style.paint(toneDim, r.style.text(s.Progress.Text))
		if isDrill {
			doing = "" // the stages say it
		}
		if ansi.StringWidth(head)+2+ansi.StringWidth(doing) <= width {
			lines = append(lines, rankedLine{rankStep, strings.TrimRight(head+"  "+doing, " ")})
		} else {
			lines = append(lines, rankedLine{rankStep, head}, rankedLine{rankDoing, below + doing})
		}
		for i, b := range s.Progress.Blockers {
			rank, lead := rankBlockers, "            "
			if i == 0 {
				rank, lead = rankBlocker, "blocked by  "
			}
			if i == maxBlockers {
				more := fmt.Sprintf("and %d more", len(s.Progress.Blockers)-i)
				lines = append(lines, rankedLine{rank, below + r.style.paint(toneDim, lead+more)})
				break
			}
			lines = append(lines, rankedLine{rank, below + r.style.paint(toneDim, lead) + r.style.text(b)})
		}
	}
	if isDrill {
		lines = append(lines, r.stages(drill)...)
	}
	if n := len(s.Log); n > 0 && r.now.Sub(r.logged[s.ID]) < fresh {
		log := s.Log[n-1]
		lines = append(lines, rankedLine{rankLog, below + r.style.paint(toneDim, r.style.bar()+" "+r.style.text(log.Line))})
	}
	return lines
}

// progress draws how far a step is, where that is known: a bar if there is
// room, and the amount.
func (r region) progress(p event.Progress, width int) string {
	text := ""
	cells := 0
	switch {
	case width >= 95:
		cells = 16
	case width >= 75:
		cells = 8
	}
	if p.Total > 0 && cells > 0 {
		text += "  " + r.style.gauge(p.Done, p.Total, cells)
	}
	if a := amount(p); a != "" {
		text += "  " + r.style.text(a)
	}
	return text
}

// waiting names the steps that have not started, as many as fit.
func (r region) waiting(ids []string, width int) string {
	text := ""
	for i, id := range ids {
		next := text
		if i > 0 {
			next += ", "
		}
		next += r.style.text(id)
		rest := ""
		if left := len(ids) - i - 1; left > 0 {
			rest = fmt.Sprintf(" and %d more", left)
		}
		if i > 0 && hang+ansi.StringWidth(next+rest) > width {
			text += fmt.Sprintf(" and %d more", len(ids)-i)
			break
		}
		text = next
	}
	return r.style.sign(signWaiting) + " " + r.style.paint(toneDim, text)
}

// troubles returns a line for each component that is not well and each alert
// that fires.
func troubles(v *event.View, style Style) []string {
	var lines []string
	for _, h := range v.Components() {
		if trouble(h.State) {
			lines = append(lines, style.sign(stateSign(h.State))+" "+style.text(strings.TrimRight(h.Component+"  "+cause(h), " ")))
		}
	}
	for _, a := range firing(v) {
		lines = append(lines, style.sign(signFiring)+" "+style.text(strings.TrimRight("alert/"+a.Rule+"  "+labels(a), " ")))
	}
	return lines
}

// firing returns the alerts that fire, in order.
func firing(v *event.View) []event.AlertChanged {
	var out []event.AlertChanged
	for _, a := range v.Alerts {
		if a.State == "firing" {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, func(a, b event.AlertChanged) int {
		return strings.Compare(a.Rule+" "+labels(a), b.Rule+" "+labels(b))
	})
	return out
}

// idColumn is the width of the column of step IDs in a terminal of that width.
// Longer IDs push their line out.
func idColumn(steps []event.StepView, width int) int {
	longest := 0
	for _, s := range steps {
		longest = max(longest, ansi.StringWidth(s.ID))
	}
	return min(longest, maxIDWidth, max(12, width/3))
}

// first returns at most n lines, the last of which says how many are left out.
func first(n int, lines []string) []string {
	if len(lines) <= n {
		return lines
	}
	return append(slices.Clone(lines[:n-1]), fmt.Sprintf("  and %d more that are not well", len(lines)-n+1))
}
