package render

import (
	"slices"
	"strconv"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// News returns a line for each event of objects that the view knows and said
// does not, the oldest first, and notes them in said.
func News(view *event.View, said map[string]time.Time, style Style) []string {
	var lines []string
	for _, g := range slices.Backward(view.EventsByTime()) {
		key := g.Source + " " + g.Namespace + " " + g.Object + " " + g.Reason
		if last, known := said[key]; known && !g.Last.After(last) {
			continue
		}
		said[key] = g.Last
		times := ""
		if g.Count > 1 {
			times = " x" + strconv.Itoa(g.Count)
		}
		kind, t := "normal ", toneDim
		if g.Type == event.Warning {
			kind, t = "warning", toneWarn
		}
		what := g.Reason
		if g.Message != "" {
			what += ": " + g.Message
		}
		lines = append(lines, style.paint(toneDim, g.Last.Local().Format(time.TimeOnly))+"  "+style.paint(t, kind)+"  "+
			style.text(g.Source+"  "+g.Object+times+"  "+what))
	}
	return lines
}
