package tui

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// Driller is what Actions may be able to do as well: drill alerts.
type Driller interface {
	// Drills returns what the drill of each alert breaks, by the stack: "scale
	// production/deployment/web-app to 0". It must return at once.
	Drills() map[string]string
	// Drill drills these alerts, one after the other, or all that have a drill.
	// The user has been asked. It returns once that is over, which may take many
	// minutes: its context has no deadline. When that ends it undoes the fault
	// before it returns. A drill that fails is an error.
	Drill(ctx context.Context, alerts []string, all bool) error
	// UndoFaults undoes what earlier drills have left and says what that was.
	UndoFaults(ctx context.Context) (string, error)
}

// The reasons for which a drill is ended early.
var (
	errDrillEnded = errors.New("the drill was ended")
	errLeft       = errors.New("the dashboard was left")
)

// drilling is the drill that this dashboard runs, if there is one. It outlives
// the program that draws: whoever leaves in the middle of a drill must not leave
// its fault behind.
type drilling struct {
	mu     sync.Mutex
	left   bool // no drill may begin any more
	cancel context.CancelCauseFunc
	done   chan struct{} // nil unless a drill runs
	err    error         // of the last drill, until the user has seen it
}

// run runs a drill, unless the dashboard has been left already.
func (d *drilling) run(ctx context.Context, do func(context.Context) error) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := make(chan struct{})
	d.mu.Lock()
	if d.left {
		d.mu.Unlock()
		return errLeft
	}
	d.cancel, d.done = cancel, done
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.cancel, d.done, d.err = nil, nil, err
		close(done)
	}()
	return do(ctx)
}

// end ends the drill that runs, which then undoes its fault, and says whether
// there was one.
func (d *drilling) end(cause error) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cancel == nil {
		return false
	}
	d.cancel(cause)
	return true
}

// seen says that the user has seen how the last drill ended.
func (d *drilling) seen() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = nil
}

// undoTime is how long whoever leaves has to wait for a fault to be undone: two
// minutes for what is being broken to come to its end, ten for the undoing, one to
// remove what lives for a drill only, and two to spare.
const undoTime = (2 + 10 + 1 + 2) * time.Minute

// leave ends the drill that runs and waits until it has undone its fault, which
// it says on w: the terminal is as it was before.
func (d *drilling) leave(w io.Writer, ellipsis string, limit time.Duration) error {
	d.mu.Lock()
	d.left = true
	done, cancel, unseen := d.done, d.cancel, d.err
	d.mu.Unlock()
	if done == nil {
		return beyond(unseen)
	}
	cancel(errLeft)
	if _, err := fmt.Fprintln(w, "undoing the fault of the drill "+ellipsis); err != nil {
		return fmt.Errorf("write to the terminal: %w", err)
	}
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case <-done:
	case <-late.C:
		return errors.New("the fault of the drill is not undone yet: sandbox alerts drill --undo")
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return beyond(d.err)
}

// beyond is what an error says beyond that the drill was ended.
func beyond(err error) error {
	switch e := err.(type) { //nolint:errorlint // it takes joined errors apart
	case nil:
		return nil
	case interface{ Unwrap() []error }:
		var rest []error
		for _, one := range e.Unwrap() {
			rest = append(rest, beyond(one))
		}
		return errors.Join(rest...)
	}
	if errors.Is(err, errLeft) || errors.Is(err, errDrillEnded) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// drillMsg says how the drill that this dashboard ran has ended.
type drillMsg struct {
	what string
	err  error
}

func (m *model) driller() Driller {
	d, _ := m.actions.(Driller)
	return d
}

// drilled does what the keys for drills say.
func (m *model) drilled(i intent) tea.Cmd {
	d := m.driller()
	if d == nil {
		m.say(toneNone, "that cannot be done here")
		return nil
	}
	if i == undoFault {
		return m.undoFaults(d)
	}
	if m.drill != "" {
		m.say(toneNone, m.drill+" still runs; u ends it and undoes its fault")
		return nil
	}
	drills := d.Drills()
	if i == drillAll {
		if len(drills) == 0 {
			m.say(toneNone, "no drill is declared; add drills: to the stack file")
			return nil
		}
		text := fmt.Sprintf("Drill all %d alerts, one after the other? Each drill breaks something", len(drills))
		m.question = &question{text: text, yes: func() tea.Cmd { return m.startDrill(d, nil, "the drill of all alerts") }}
		return nil
	}
	alert := m.tabs[alertsScreen].subject()
	breaks, declared := drills[alert]
	switch {
	case alert == "":
		m.say(toneNone, "no alert is selected")
	case !declared:
		m.say(toneNone, "no drill is declared for "+alert+"; add one to drills: in the stack file")
	default:
		m.question = &question{text: fmt.Sprintf("Drill %s? It breaks: %s", alert, breaks), yes: func() tea.Cmd {
			return m.startDrill(d, []string{alert}, "the drill "+alert)
		}}
	}
	return nil
}

// startDrill runs a drill outside of Update, for as long as it takes.
func (m *model) startDrill(d Driller, alerts []string, what string) tea.Cmd {
	m.drill, m.drillFrom = what, m.now()
	ctx, running := m.ctx, m.drilling
	return func() tea.Msg {
		return drillMsg{what: what, err: running.run(ctx, func(ctx context.Context) error { return d.Drill(ctx, alerts, alerts == nil) })}
	}
}

func (m *model) drillEnded(msg drillMsg) {
	m.drill, m.undoing = "", false
	m.drilling.seen()
	switch {
	case msg.err == nil:
		m.say(toneGood, msg.what+" has passed")
	case errors.Is(msg.err, errDrillEnded) && beyond(msg.err) == nil:
		m.say(toneNone, msg.what+" was ended")
	default:
		m.fail(msg.err)
	}
}

// undoFaults ends the drill that runs here, which undoes its fault, or else
// undoes what others have left.
func (m *model) undoFaults(d Driller) tea.Cmd {
	if m.drill != "" {
		m.undoing = m.drilling.end(errDrillEnded)
		return nil
	}
	doing := "undoing faults" + m.theme.pick(" …", " ...")
	m.busy = append(m.busy, doing)
	return m.within(undoPatience, func(ctx context.Context) tea.Msg {
		text, err := d.UndoFaults(ctx)
		return doneMsg{doing: doing, text: orWord(text, "no fault of a drill is left"), err: err}
	})
}

// drillLine says how far the drill is that runs here.
func (m *model) drillLine() span {
	dots := m.theme.pick(" …", " ...")
	if m.undoing {
		return in(toneBusy, " undoing the fault of "+m.drill+dots)
	}
	for _, d := range m.state.Drills {
		if d.State != event.DrillRunning || d.Started.Before(m.drillFrom) {
			continue // one that was killed is recorded as running
		}
		at := d.Stage()
		text := string(at.Name)
		if at.Note != "" {
			text += ": " + at.Note
		}
		return in(toneBusy, strings.TrimSuffix(" drill "+d.Alert+": "+text, ": "))
	}
	return in(toneBusy, " "+m.drill+" begins"+dots)
}
