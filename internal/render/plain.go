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
	stream

	mu        sync.Mutex
	err       error     // of the first write that failed
	printed   time.Time // by this process's clock: the last output
	pulse     *pulse
	closed    bool
	idWidth   int
	announced map[string]bool        // steps whose start has a line
	problems  map[string]bool        // problems that have been drawn, by what happened
	health    map[string]event.State // last drawn or passed over
	firing    map[string]bool        // alerts
}

// NewPlain returns a Plain sink on w. It must be closed.
func NewPlain(w io.Writer, style Style) *Plain {
	return &Plain{
		w: w, style: style, stream: newStream(),
		announced: map[string]bool{}, problems: map[string]bool{},
		health: map[string]event.State{}, firing: map[string]bool{},
	}
}

// Handle draws what the envelope changes.
func (p *Plain) Handle(e event.Envelope) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.apply(e) {
		p.forget()
	}
	if p.pulse == nil && !p.closed {
		p.printed = p.seen
		p.pulse = startPulse(tick, p.due)
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
	case e.DrillChanged != nil:
		p.stageLines(*e.DrillChanged)
	case e.RunFinished != nil:
		p.runFinished(*e.RunFinished)
	}
	return p.err
}

// Close ends the heartbeat.
func (p *Plain) Close() error {
	p.mu.Lock()
	running := p.pulse
	p.pulse, p.closed = nil, true
	p.mu.Unlock()
	running.end()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Pace sets how many seconds of the run pass in one second, for a replay.
func (p *Plain) Pace(speed float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pace = speed
}

// forget drops what is remembered of the steps of an earlier run.
func (p *Plain) forget() {
	clear(p.announced)
	clear(p.problems)
	p.idWidth = 0
}

// due draws what becomes so without an event.
func (p *Plain) due() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over() {
		return
	}
	var lines []string
	for _, s := range p.running() {
		if !p.announced[s.ID] && p.now().Sub(s.Started) >= linger {
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

// beat says what runs, since when, and what it waits for.
func (p *Plain) beat() {
	var lines []string
	for _, s := range p.running() {
		text := duration(p.now().Sub(s.Started))
		if s.Progress != nil {
			text += "  " + doing(*s.Progress)
		}
		lines = append(lines, p.line(signRunning, s.ID, text))
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
	p.print(planHead(plan, p.style), "")
}

// planHead is "up web-app on podman 4.3.1, 7 steps".
func planHead(plan event.PlanReady, style Style) string {
	head := strings.TrimSpace(plan.Command + " " + plan.Stack)
	facts := count(len(plan.Steps), "step")
	if plan.Engine != "" {
		facts = "on " + plan.Engine + ", " + facts
	}
	return style.paint(toneBold, style.text(head)) + " " + style.paint(toneDim, style.text(facts))
}

func (p *Plain) logLine(l event.StepLog) {
	p.print(strings.Repeat(" ", stampWidth+2) + logEntry(l, p.style))
}

// logEntry is a line that a step logged, with its step.
func logEntry(l event.StepLog, style Style) string {
	source := ""
	if l.Source != "" {
		source = l.Source + ": "
	}
	return style.paint(toneDim, style.bar()+" "+style.text(l.ID)) + " " + style.text(source+l.Line)
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
	return problemBlock(p.explain(pr, id), p.style, strings.Repeat(" ", stampWidth+2))
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
	text := labels(a)
	key, fires := a.Rule+"\x00"+text, a.State == "firing"
	was := p.firing[key]
	if fires == was {
		return
	}
	p.firing[key] = fires
	mark := signFiring
	if !fires {
		mark = sign{"✓", "+", "resolved", toneGood}
	}
	p.print(p.line(mark, "alert/"+a.Rule, text))
}

// labels writes the labels of an alert, in order.
func labels(a event.AlertChanged) string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(a.Labels)) {
		out = append(out, name+"="+a.Labels[name])
	}
	return strings.Join(out, " ")
}

// runFinished sums up.
func (p *Plain) runFinished(r event.RunFinished) {
	mark, text := ending(&p.view)
	lines := []string{"", p.style.glyph(mark) + " " + p.style.text(text)}
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
