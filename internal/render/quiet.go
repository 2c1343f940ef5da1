package render

import (
	"io"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// Quiet draws errors only.
type Quiet struct {
	w     io.Writer
	style Style
	shown map[string]bool // what was said of a problem already
}

// NewQuiet returns a Quiet sink on w.
func NewQuiet(w io.Writer, style Style) *Quiet {
	return &Quiet{w: w, style: style, shown: map[string]bool{}}
}

// Handle writes the problem of a failed step, and of a failed run where no
// step's failure explains it.
func (q *Quiet) Handle(e event.Envelope) error {
	switch {
	case e.StepFinished != nil && e.StepFinished.Outcome == event.Failed && e.StepFinished.Error != nil:
		return q.problem(*e.StepFinished.Error)
	case e.RunFinished != nil && e.RunFinished.Error != nil:
		return q.problem(*e.RunFinished.Error)
	}
	return nil
}

func (q *Quiet) problem(p event.Problem) error {
	if q.shown[p.What] {
		return nil
	}
	q.shown[p.What] = true
	return WriteProblem(q.w, p, q.style)
}

// Close has nothing to end.
func (q *Quiet) Close() error { return nil }
