package render

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// A screen reader reads every line aloud, so Accessible says less often that
// things are as they were than Plain does.
const (
	spokenHeartbeat = 30 * time.Second
	spokenLinger    = 5 * time.Second
)

// Accessible draws a run for screen readers: full sentences, one to a line,
// without glyphs, columns, colour or redraws.
type Accessible struct {
	// Logs says every line that a step logs. Set it before the first Handle.
	Logs bool

	w io.Writer

	mu sync.Mutex
	stream
	err       error     // of the first write that failed
	said      time.Time // by this process's clock: the last sentence
	pulse     *pulse
	closed    bool
	announced map[string]bool        // steps whose start was said
	problems  map[string]bool        // problems that were said, by what happened
	health    map[string]event.State // last said or passed over
	firing    map[string]bool        // alerts
}

// NewAccessible returns an Accessible sink on w. It must be closed.
func NewAccessible(w io.Writer) *Accessible {
	return &Accessible{
		w: w, stream: newStream(),
		announced: map[string]bool{}, problems: map[string]bool{},
		health: map[string]event.State{}, firing: map[string]bool{},
	}
}

// Handle says what the envelope changes.
func (a *Accessible) Handle(e event.Envelope) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.apply(e) {
		clear(a.announced)
		clear(a.problems)
	}
	if a.pulse == nil && !a.closed {
		a.said = a.seen
		a.pulse = startPulse(tick, a.due)
	}
	switch {
	case e.PlanReady != nil:
		a.plan(*e.PlanReady)
	case e.StepLog != nil && a.Logs:
		a.say(fmt.Sprintf("Step %s, %s: %s", e.StepLog.ID, orElse(e.StepLog.Source, "log"), e.StepLog.Line))
	case e.StepFinished != nil:
		a.finished(*e.StepFinished)
	case e.HealthChanged != nil:
		a.healthChanged(e.HealthChanged.Health)
	case e.AlertChanged != nil:
		a.alertChanged(*e.AlertChanged)
	case e.DrillChanged != nil:
		a.sayStages(*e.DrillChanged)
	case e.RunFinished != nil:
		a.runFinished(*e.RunFinished)
	}
	return a.err
}

// Close ends the heartbeat.
func (a *Accessible) Close() error {
	a.mu.Lock()
	running := a.pulse
	a.pulse, a.closed = nil, true
	a.mu.Unlock()
	running.end()
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

// Pace sets how many seconds of the run pass in one second, for a replay.
func (a *Accessible) Pace(speed float64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pace = speed
}

// due says what becomes so without an event.
func (a *Accessible) due() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over() {
		return
	}
	for _, s := range a.running() {
		if !a.announced[s.ID] && a.now().Sub(s.Started) >= spokenLinger {
			a.announced[s.ID] = true
			a.say(fmt.Sprintf("Step %s is running.", s.ID))
		}
	}
	if time.Since(a.said) > spokenHeartbeat-tick {
		for _, s := range a.running() {
			a.say(a.stillRunning(s))
		}
	}
}

func (a *Accessible) stillRunning(s event.StepView) string {
	text := fmt.Sprintf("Step %s is still running after %s", s.ID, spokenDuration(a.now().Sub(s.Started)))
	if s.Progress == nil {
		return text + "."
	}
	parts := []string{s.Progress.Text, amount(*s.Progress)}
	for _, p := range parts {
		if p != "" {
			text += ", " + p
		}
	}
	text += "."
	if n := len(s.Progress.Blockers); n > 0 {
		text += " It waits for " + sentence(strings.Join(s.Progress.Blockers[:min(n, maxBlockers)], "; "))
		if n > maxBlockers {
			text += fmt.Sprintf(" And for %d more.", n-maxBlockers)
		}
	}
	return text
}

func (a *Accessible) plan(p event.PlanReady) {
	text := strings.TrimSpace("Running " + orElse(p.Command, "the plan") + " for " + p.Stack)
	if p.Engine != "" {
		text += " on " + p.Engine
	}
	a.say(fmt.Sprintf("%s, %s.", text, count(len(p.Steps), "step")))
}

func (a *Accessible) finished(f event.StepFinished) {
	a.announced[f.ID] = true
	took := spokenDuration(f.Elapsed)
	var text string
	switch f.Outcome {
	case event.Done:
		text = fmt.Sprintf("Step %s finished after %s", f.ID, took)
	case event.Unchanged:
		text = fmt.Sprintf("Step %s had nothing to change", f.ID)
	case event.Off:
		text = fmt.Sprintf("Step %s is off", f.ID)
	case event.Skipped:
		text = fmt.Sprintf("Step %s was skipped", f.ID)
	case event.Canceled:
		text = fmt.Sprintf("Step %s was interrupted after %s", f.ID, took)
	case event.Failed:
		text = fmt.Sprintf("Step %s failed after %s", f.ID, took)
	default:
		text = fmt.Sprintf("Step %s ended as %s after %s", f.ID, f.Outcome, took)
	}
	if f.Note != "" {
		text += ": " + f.Note
	}
	a.say(sentence(text))
	if f.Error != nil {
		a.problem(a.explain(*f.Error, f.ID))
	}
}

// problem says what happened, why, and what to try.
func (a *Accessible) problem(p event.Problem) {
	a.problems[p.What] = true
	a.say("Error: " + sentence(p.What))
	if p.Why != "" {
		a.say("Reason: " + sentence(p.Why))
	}
	if len(p.Log) > 0 {
		what := "The last line of its log:"
		if len(p.Log) > 1 {
			what = fmt.Sprintf("The last %d lines of its log:", len(p.Log))
		}
		a.say(what)
		for _, line := range p.Log {
			if strings.TrimSpace(line) != "" {
				a.say(line)
			}
		}
		a.say("End of the log.")
	}
	if p.Try != "" {
		a.say("Try: " + p.Try)
	}
}

func (a *Accessible) healthChanged(h event.Health) {
	before := a.health[h.Component]
	a.health[h.Component] = h.State
	if h.State == before || (!trouble(h.State) && !trouble(before)) {
		return
	}
	text := fmt.Sprintf("Component %s is %s", h.Component, h.State)
	if c := cause(h); c != "" {
		text += ": " + c
	}
	a.say(sentence(text))
}

func (a *Accessible) alertChanged(al event.AlertChanged) {
	text := labels(al)
	key, fires := al.Rule+"\x00"+text, al.State == "firing"
	if fires == a.firing[key] {
		return
	}
	a.firing[key] = fires
	what := "is firing"
	if !fires {
		what = "has ended"
	}
	if text != "" {
		what += ", with " + text
	}
	a.say(sentence(fmt.Sprintf("Alert %s %s", al.Rule, what)))
}

func (a *Accessible) runFinished(r event.RunFinished) {
	counts, failed := outcomes(&a.view)
	took := spokenDuration(r.Elapsed)
	var text string
	switch {
	case r.OK:
		text = fmt.Sprintf("The run finished after %s", took)
	case counts[event.Canceled] > 0 && failed == "":
		text = fmt.Sprintf("The run was interrupted after %s", took)
	case failed != "":
		text = fmt.Sprintf("The run failed at step %s after %s", failed, took)
	default:
		text = fmt.Sprintf("The run failed after %s", took)
	}
	if t := tally(counts); t != "" {
		text += ". Steps: " + t
	}
	a.say(sentence(text))
	if r.Error != nil && !a.problems[r.Error.What] {
		a.problem(*r.Error)
	}
}

// say writes one line. Its text has what a screen reader would spell out or
// pass over replaced by words.
func (a *Accessible) say(text string) {
	a.said = time.Now()
	if a.err != nil {
		return
	}
	if _, err := io.WriteString(a.w, spoken(text)+"\n"); err != nil {
		a.err = fmt.Errorf("draw progress: %w", err)
	}
}

// signsInWords are the signs that sandbox, and tools it runs, write.
var signsInWords = strings.NewReplacer(
	" → ", " then ", "→", " then ", " · ", ", ", "·", ",", "…", "...",
	"✓ ", "", "✗ ", "", "• ", "", "–", "-", "—", "-", "\n", "; ",
)

// spoken returns text without the characters that only draw something.
func spoken(text string) string {
	text = strings.Map(func(r rune) rune {
		if r >= 0x2500 && r <= 0x25ff || r >= 0x2800 && r <= 0x28ff { // boxes, blocks, shapes; braille spinners
			return -1
		}
		return r
	}, signsInWords.Replace(text))
	return strings.Join(strings.Fields(event.Clean(text)), " ")
}

// sentence ends text with a full stop, if it has no end yet.
func sentence(text string) string {
	text = strings.TrimRight(text, " \n")
	if text == "" || strings.ContainsRune(".!?:", rune(text[len(text)-1])) {
		return text
	}
	return text + "."
}

// spokenDuration writes d in words: "38 seconds", "1 minute 4 seconds".
func spokenDuration(d time.Duration) string {
	d = d.Round(time.Second)
	hours, minutes, secs := int(d/time.Hour), int(d%time.Hour/time.Minute), int(d%time.Minute/time.Second)
	switch {
	case d < time.Second:
		return "less than a second"
	case hours > 0:
		return count(hours, "hour") + " " + count(minutes, "minute")
	case minutes > 0 && secs > 0:
		return count(minutes, "minute") + " " + count(secs, "second")
	case minutes > 0:
		return count(minutes, "minute")
	default:
		return count(secs, "second")
	}
}

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
