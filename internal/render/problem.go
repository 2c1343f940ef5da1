package render

import (
	"fmt"
	"io"
	"strings"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// WriteProblem draws an error: what happened, why, what to try, and the last
// lines of the tool that failed.
func WriteProblem(w io.Writer, p event.Problem, style Style) error {
	what := strings.Split(p.What, "\n")
	lines := []string{style.glyph(signFailed) + " " + style.paint(toneBold, style.text(what[0]))}
	for _, more := range what[1:] {
		lines = append(lines, "  "+style.text(more))
	}
	lines = append(lines, problemDetail(p, style, "  ")...)
	_, err := fmt.Fprintln(w, strings.Join(lines, "\n"))
	return err
}

// problemBlock draws an error below the line of what failed, and a blank line.
func problemBlock(p event.Problem, style Style, indent string) []string {
	var lines []string
	for line := range strings.SplitSeq(p.What, "\n") {
		lines = append(lines, indent+style.paint(toneBold, style.text(line)))
	}
	return append(append(lines, problemDetail(p, style, indent)...), "")
}

// problemDetail returns the lines below what happened, indented.
func problemDetail(p event.Problem, style Style, indent string) []string {
	var lines []string
	if p.Why != "" {
		for line := range strings.SplitSeq(p.Why, "\n") {
			lines = append(lines, indent+style.text(line))
		}
	}
	lines = append(lines, logLines(p.Log, style, indent)...)
	if p.Try != "" {
		for i, line := range strings.Split(p.Try, "\n") {
			lead := "Try: "
			if i > 0 {
				lead = "     "
			}
			lines = append(lines, indent+style.paint(toneBusy, lead)+style.text(line))
		}
	}
	return lines
}

// logLines returns the lines of a log, each behind a bar.
func logLines(log []string, style Style, indent string) []string {
	lines := make([]string, len(log))
	for i, line := range log {
		lines[i] = strings.TrimRight(indent+style.paint(toneDim, style.bar())+" "+style.text(line), " ")
	}
	return lines
}
