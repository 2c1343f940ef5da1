package render

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/sandbox-stack/sandbox/internal/event"
)

const (
	// heartbeat is the longest that Plain is silent while a step runs.
	heartbeat = 10 * time.Second
	// linger is how long a step runs before its start is worth a line: on a
	// stack that is up already, every step is over at once.
	linger = time.Second
	// tick is how often Plain looks at its clock.
	tick = 250 * time.Millisecond

	stampWidth  = 8  // "  1m04s "
	maxIDWidth  = 32 // longer step IDs push their line out
	maxBlockers = 3  // of one step in a heartbeat
	failedLog   = 10 // lines of a failed step's own log, where its error has none
)

// Plain draws a run as lines that stay: what changes, and at least every ten
// seconds what runs and what it waits for.
type Plain struct {
	// Logs draws every line that a step logs. Set it before the first Handle.
	Logs bool

	w     io.Writer
	style Style

	mu        sync.Mutex
	err       error // of the first write that failed
	view      event.View
	seen      time.Time // by this process's clock: when view.Now was handled
	printed   time.Time // by the same clock: the last output
	started   bool      // the clock's goroutine runs
	closed    bool
	stop      chan struct{}
	stopped   chan struct{}
	idWidth   int
	announced map[string]bool        // steps whose start has a line
	problems  map[string]bool        // problems that have been drawn, by what happened
	health    map[string]event.State // last drawn or passed over
	firing    map[string]bool        // alerts
}

// NewPlain returns a Plain sink on w. It must be closed.
func NewPlain(w io.Writer, style Style) *Plain {
	return &Plain{
		w: w, style: style,
		stop: make(chan struct{}), stopped: make(chan struct{}),
		announced: map[string]bool{}, problems: map[string]bool{},
		health: map[string]event.State{}, firing: map[string]bool{},
	}
}

// Handle draws what the envelope changes.
func (p *Plain) Handle(e event.Envelope) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.view.Apply(e)
	p.seen = time.Now()
	if !p.started && !p.closed {
		p.started, p.printed = true, p.seen
		go p.watchClock()
	}
	switch {
	case e.PlanReady != nil:
		p.plan(*e.PlanReady)
	case e.StepLog != nil && p.Logs:
		p.logLine(*e.StepLog)
	case e.StepFinished != nil:
		p.finished(*e.StepFinished)
	case e.HealthChanged != nil:
		p.healthChanged(e.HealthChanged.Health)
	case e.AlertChanged != nil:
		p.alertChanged(*e.AlertChanged)
	case e.RunFinished != nil:
		p.runFinished(*e.RunFinished)
	}
	return p.err
}

// Close ends the heartbeat.
func (p *Plain) Close() error {
	p.mu.Lock()
	running := p.started && !p.closed
	p.closed = true
	p.mu.Unlock()
	if running {
		close(p.stop)
		<-p.stopped
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// watchClock draws what becomes due without an event.
func (p *Plain) watchClock() {
	defer close(p.stopped)
	clock := time.NewTicker(tick)
	defer clock.Stop()
	for {
		select {
		case <-p.stop:
			return
		case <-clock.C:
			p.due()
		}
	}
}

func (p *Plain) due() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.view.Result != nil {
		return
	}
	var lines []string
	for _, s := range p.view.Steps {
		if s.Running() && !p.announced[s.ID] && p.now().Sub(s.Started) >= linger {
			p.announced[s.ID] = true
			lines = append(lines, p.line(signWorking, s.ID, s.Title))
		}
	}
	if len(lines) > 0 {
		p.print(lines...)
		return
	}
	if time.Since(p.printed) > heartbeat-tick {
		p.beat()
	}
}

// now is the time by the stream's clock. The two differ in a replay.
func (p *Plain) now() time.Time { return p.view.Now.Add(time.Since(p.seen)) }

// beat says what runs, since when, and what it waits for.
func (p *Plain) beat() {
	var lines []string
	for _, s := range p.view.Steps {
		if !s.Running() {
			continue
		}
		text := duration(p.now().Sub(s.Started))
		if s.Progress != nil {
			text += "  " + doing(*s.Progress)
		}
		lines = append(lines, p.line(sign{"~", "~", "running", toneBusy}, s.ID, text))
	}
	if len(lines) > 0 {
		p.print(lines...)
	}
}

// doing is a progress in one line.
func doing(pr event.Progress) string {
	text := pr.Text
	if a := amount(pr); a != "" {
		text += ", " + a
	}
	if n := len(pr.Blockers); n > 0 {
		shown := pr.Blockers[:min(n, maxBlockers)]
		text += ": " + strings.Join(shown, "; ")
		if n > maxBlockers {
			text += fmt.Sprintf("; and %d more", n-maxBlockers)
		}
	}
	return text
}

func (p *Plain) plan(plan event.PlanReady) {
	for _, s := range plan.Steps {
		p.idWidth = max(p.idWidth, min(maxIDWidth, ansi.StringWidth(s.ID)))
	}
	head := strings.TrimSpace(plan.Command + " " + plan.Stack)
	var facts []string
	if plan.Engine != "" {
		facts = append(facts, "on "+plan.Engine)
	}
	facts = append(facts, count(len(plan.Steps), "step"))
	p.print(p.style.paint(toneBold, p.style.text(head))+" "+
		p.style.paint(toneDim, p.style.text(strings.Join(facts, ", "))), "")
}

func (p *Plain) logLine(l event.StepLog) {
	source := ""
	if l.Source != "" {
		source = l.Source + ": "
	}
	p.print(strings.Repeat(" ", stampWidth+2) + p.style.paint(toneDim, p.style.bar()+" "+
		p.style.text(l.ID)) + " " + p.style.text(source+l.Line))
}

func (p *Plain) finished(f event.StepFinished) {
	p.announced[f.ID] = true
	switch f.Outcome {
	case event.Off, event.Skipped:
		p.print(p.line(outcomeSign(f.Outcome), f.ID, f.Note))
		return
	}
	detail := duration(f.Elapsed)
	if f.Note != "" {
		detail += "  " + f.Note
	}
	if f.Error == nil {
		p.print(p.line(outcomeSign(f.Outcome), f.ID, detail))
		return
	}
	lines := []string{p.line(outcomeSign(f.Outcome), f.ID, detail)}
	p.print(append(lines, p.problem(*f.Error, f.ID)...)...)
}

// problem draws a problem below the line of its step. An error without a log
// gets the end of the step's own.
func (p *Plain) problem(pr event.Problem, id string) []string {
	p.problems[pr.What] = true
	if len(pr.Log) == 0 {
		pr.Log = p.ownLog(id)
	}
	indent := strings.Repeat(" ", stampWidth+2)
	var lines []string
	for line := range strings.SplitSeq(pr.What, "\n") {
		lines = append(lines, indent+p.style.paint(toneBold, p.style.text(line)))
	}
	return append(append(lines, problemDetail(pr, p.style, indent)...), "")
}

func (p *Plain) ownLog(id string) []string {
	for _, s := range p.view.Steps {
		if s.ID != id {
			continue
		}
		var lines []string
		for _, l := range s.Log[max(0, len(s.Log)-failedLog):] {
			lines = append(lines, l.Line)
		}
		return lines
	}
	return nil
}

// healthChanged draws trouble, and the end of it.
func (p *Plain) healthChanged(h event.Health) {
	before := p.health[h.Component]
	p.health[h.Component] = h.State
	if h.State == before || (!trouble(h.State) && !trouble(before)) {
		return
	}
	p.print(p.line(stateSign(h.State), h.Component, cause(h)))
}

func trouble(s event.State) bool {
	return s == event.StateDegraded || s == event.StateFailed || s == event.StateStale
}

// cause is the reason of a state with the component to blame.
func cause(h event.Health) string {
	switch {
	case h.Blames == "":
		return h.Reason
	case h.Reason == "":
		return "because of " + h.Blames
	default:
		return h.Reason + " (because of " + h.Blames + ")"
	}
}

// alertChanged draws alerts that fire, and that cease to.
func (p *Plain) alertChanged(a event.AlertChanged) {
	var labels []string
	for _, name := range slices.Sorted(maps.Keys(a.Labels)) {
		labels = append(labels, name+"="+a.Labels[name])
	}
	text := strings.Join(labels, " ")
	key, fires := a.Rule+"\x00"+text, a.State == "firing"
	was := p.firing[key]
	if fires == was {
		return
	}
	p.firing[key] = fires
	mark := sign{"!", "!", "firing", toneWarn}
	if !fires {
		mark = sign{"✓", "+", "resolved", toneGood}
	}
	p.print(p.line(mark, "alert/"+a.Rule, text))
}

// runFinished sums up.
func (p *Plain) runFinished(r event.RunFinished) {
	counts := map[event.Outcome]int{}
	first := ""
	for _, s := range p.view.Steps {
		counts[s.Outcome]++
		if s.Outcome == event.Failed && first == "" {
			first = s.ID
		}
	}
	var parts []string
	for _, o := range []event.Outcome{event.Done, event.Unchanged, event.Off, event.Failed, event.Skipped, event.Canceled} {
		if n := counts[o]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, o))
		}
	}
	command := p.view.Command
	if command == "" {
		command = "run"
	}
	mark, text := signOK, fmt.Sprintf("%s %s: finished in %s", command, p.view.Stack, duration(r.Elapsed))
	switch {
	case r.OK:
	case counts[event.Canceled] > 0 && first == "":
		mark, text = signDegraded, fmt.Sprintf("%s %s: interrupted after %s", command, p.view.Stack, duration(r.Elapsed))
	case first != "":
		mark, text = signFailed, fmt.Sprintf("%s %s: failed at %s after %s", command, p.view.Stack, first, duration(r.Elapsed))
	default:
		mark, text = signFailed, fmt.Sprintf("%s %s: failed after %s", command, p.view.Stack, duration(r.Elapsed))
	}
	if len(parts) > 0 {
		text += " (" + strings.Join(parts, ", ") + ")"
	}
	glyph := mark.glyph
	if p.style.ASCII {
		glyph = mark.ascii
	}
	lines := []string{"", p.style.paint(mark.tone, glyph) + " " + p.style.text(text)}
	if r.Error != nil && !p.problems[r.Error.What] {
		lines = append(lines, p.problem(*r.Error, "")...)
	}
	p.print(lines...)
}

// line draws one line of the run: when, how, what, and a detail that hangs
// below itself where it is too long for the terminal.
func (p *Plain) line(g sign, id, detail string) string {
	stamp := duration(p.now().Sub(p.view.Started))
	id = p.style.text(id)
	head := pad(stamp, stampWidth-2) + p.style.paint(toneDim, stamp) + "  " + p.style.sign(g) + " " + id
	detail = p.style.text(detail)
	if detail == "" {
		return strings.TrimRight(head, " ")
	}
	column := stampWidth + signWidth + 1 + max(p.idWidth, ansi.StringWidth(id)) + 2
	head += pad(id, p.idWidth) + "  "
	lines := []string{detail}
	if p.style.Width > 0 {
		lines = wrap(detail, p.style.Width-column)
	}
	return head + strings.Join(lines, "\n"+strings.Repeat(" ", column))
}

// print writes the lines in one go.
func (p *Plain) print(lines ...string) {
	p.printed = time.Now()
	if p.err != nil {
		return
	}
	if _, err := io.WriteString(p.w, strings.Join(lines, "\n")+"\n"); err != nil {
		p.err = fmt.Errorf("draw progress: %w", err)
	}
}

// count writes a number of things: "1 step", "3 steps".
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
