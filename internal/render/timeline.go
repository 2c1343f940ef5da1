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
	// A run is worth a timeline if it took so long...
	timelineFrom = 5 * time.Second
	// ...and a step is worth a row if it took this part of the run.
	timelinePart = 50
	// timelineRows is the most rows, of the steps that took longest.
	timelineRows  = 10
	timelineCells = 60
)

// timeline draws when each of the longer steps ran, with the steps that the
// length of the run is due to. It returns nothing for a run that is not worth
// it.
func timeline(v *event.View, style Style, width int) []string {
	total := v.Now.Sub(v.Started)
	var rows []event.StepView
	for _, s := range v.Steps {
		if !s.Started.IsZero() && s.Outcome != "" && s.Elapsed >= total/timelinePart && s.Elapsed >= time.Second {
			rows = append(rows, s)
		}
	}
	if total < timelineFrom || len(rows) < 2 {
		return nil
	}
	slices.SortStableFunc(rows, func(a, b event.StepView) int { return int(b.Elapsed - a.Elapsed) })
	rows = rows[:min(len(rows), timelineRows)]
	slices.SortStableFunc(rows, func(a, b event.StepView) int { return a.Started.Compare(b.Started) })

	names := idColumn(rows, width)
	cells := min(timelineCells, width-2-names-2-2-tookWidth)
	if cells < 10 {
		return nil
	}
	path := criticalPath(v.Steps)
	onPath := func(id string) bool {
		return slices.ContainsFunc(path, func(s event.StepView) bool { return s.ID == id })
	}
	end := seconds(total)
	lines := []string{"  " + style.paint(toneDim, strings.Repeat(" ", names+2)+"0s"+strings.Repeat(" ", cells-2-ansi.StringWidth(end))+end)}
	for _, s := range rows {
		name := ansi.Truncate(style.text(s.ID), names, style.ellipsis())
		from := int(int64(cells) * int64(s.Started.Sub(v.Started)) / int64(total))
		to := int((int64(cells)*int64(s.Finished.Sub(v.Started)) + int64(total)/2) / int64(total))
		from = min(from, cells-1)
		to = min(max(to, from+1), cells)
		bar := strings.Repeat(" ", from) + strings.Repeat(style.barCell(onPath(s.ID)), to-from) + strings.Repeat(" ", cells-to)
		t := outcomeSign(s.Outcome).tone
		if t == toneGood && !onPath(s.ID) {
			t = toneNone
		}
		took := duration(s.Elapsed)
		lines = append(lines, "  "+name+pad(name, names)+"  "+style.paint(t, bar)+"  "+pad(took, tookWidth)+style.paint(toneDim, took))
	}
	if rest := ran(v.Steps) - len(rows); rest > 0 {
		shortest := slices.MinFunc(rows, func(a, b event.StepView) int { return int(a.Elapsed - b.Elapsed) })
		lines = append(lines, "  "+style.paint(toneDim, fmt.Sprintf("and %s under %s", count(rest, "step"), duration(shortest.Elapsed))))
	}
	return append(lines, criticalLine(path, style, width)...)
}

// criticalLine names the steps that the length of the run is due to.
func criticalLine(path []event.StepView, style Style, width int) []string {
	var names []string
	for _, s := range path {
		if s.Elapsed >= 50*time.Millisecond {
			names = append(names, s.ID+" "+duration(s.Elapsed))
		}
	}
	text := style.text("critical path (" + style.barCell(true) + "): " + strings.Join(names, " → "))
	return indent(wrap(text, width-2), 2)
}

// criticalPath returns the chain of steps that ends with the one that finished
// last, each the one that its successor had to wait for the longest. Making any
// of them faster makes the run faster.
func criticalPath(steps []event.StepView) []event.StepView {
	byID := map[string]event.StepView{}
	var last event.StepView
	for _, s := range steps {
		if s.Started.IsZero() || s.Finished.IsZero() {
			continue
		}
		byID[s.ID] = s
		if s.Finished.After(last.Finished) {
			last = s
		}
	}
	var path []event.StepView
	for last.ID != "" {
		path = append(path, last)
		var before event.StepView
		for _, id := range last.After {
			if s, ok := byID[id]; ok && s.Finished.After(before.Finished) {
				before = s
			}
		}
		delete(byID, last.ID) // a plan has no cycles, but a file may
		last = before
	}
	slices.Reverse(path)
	return path
}

// ran counts the steps that did something for a while.
func ran(steps []event.StepView) int {
	n := 0
	for _, s := range steps {
		if !s.Started.IsZero() && s.Outcome != "" {
			n++
		}
	}
	return n
}
