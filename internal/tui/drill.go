package tui

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// copyLabel is on the alerts of the copy of a rule that a drill works on.
const copyLabel = "sandbox_drill"

func isCopy(a event.AlertChanged) bool { return a.Labels[copyLabel] != "" }

// drillSign is how a drill is or went, in a word.
func drillSign(s event.DrillState) sign {
	switch s {
	case event.DrillRunning:
		return signWorking.as(string(s))
	case event.DrillPassed:
		return signOK.as(string(s))
	case event.DrillFailed:
		return signFailed
	case event.DrillInterrupted:
		return signDegraded.as(string(s))
	default:
		return sign{"?", "?", string(s), toneWarn}
	}
}

func stageSign(s event.StageState) sign {
	switch s {
	case event.StageDone:
		return signOK
	case event.StageWorking:
		return signWorking
	case event.StageFailed:
		return signFailed
	default:
		return signWaiting
	}
}

// drills says what the stack's drills break, as far as that can be known here.
func (m *model) drills() map[string]string {
	if d := m.driller(); d != nil {
		return d.Drills()
	}
	return nil
}

// lastDrill is the last drill of an alert in a few words.
func (m *model) lastDrill(alert string, declared map[string]string) sign {
	d, ok := m.state.Drills[alert]
	_, has := declared[alert]
	switch {
	case !ok && !has && declared != nil:
		return signOff.as("none")
	case !ok:
		return signStale.as("never")
	case d.State == event.DrillPassed:
		return signOK.as(age(m.state.now, d.Finished) + " ago")
	case d.State == event.DrillInterrupted:
		return drillSign(d.State).as("stopped") // that fits
	default:
		return drillSign(d.State)
	}
}

// faultLeft says whether some drill's fault may be there.
func (m *model) faultLeft() bool {
	if m.drill != "" {
		return true
	}
	for _, d := range m.state.Drills {
		if !d.When(event.StageInjected).IsZero() && d.When(event.StageUndone).IsZero() {
			return true
		}
	}
	return false
}

// drillTally counts how the last drills went.
func (m *model) drillTally(declared map[string]string) string {
	counts := map[event.DrillState]int{}
	never := 0
	for _, d := range m.state.Drills {
		counts[d.State]++
	}
	for alert := range declared {
		if _, ok := m.state.Drills[alert]; !ok {
			never++
		}
	}
	var parts []string
	for _, s := range []event.DrillState{event.DrillRunning, event.DrillPassed, event.DrillFailed, event.DrillInterrupted} {
		if n := counts[s]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	if never > 0 {
		parts = append(parts, fmt.Sprintf("%d never drilled", never))
	}
	return strings.Join(parts, "  ")
}

// writeDrill writes the last drill of an alert, or what one would break.
func (m *model) writeDrill(d *writer, alert string) {
	last, ok := m.state.Drills[alert]
	if !ok {
		if breaks, has := m.drills()[alert]; has {
			d.heading("DRILL")
			d.line(gap(1), d.t.sign(signStale.as("never")))
			d.text(toneNone, "would break: "+breaks)
		}
		return
	}
	d.heading("DRILL")
	d.line(append([]span{gap(1), d.t.sign(drillSign(last.State))}, in(toneDim, " "+m.drillTime(last)))...)
	d.text(toneNone, last.Fault)
	writeDrillProblem(d, last)
	d.line()
	for _, s := range last.Stages {
		m.writeStage(d, last, s)
	}
	d.line()
	d.field("value", figure(last.Value))
	if last.For > 0 {
		d.field("for", round(last.For))
	}
	fires, resolves := m.drillUse(last)
	d.field("within", fires)
	d.field("resolves", resolves)
	switch {
	case last.Compress > 1:
		d.field("compress", "durations / "+strconv.Itoa(last.Compress))
	case last.Compress == 1:
		d.field("compress", "as written")
	}
	if last.Expr != "" {
		d.line(gap(1), in(toneDim, "expr"))
		d.text(toneNone, last.Expr)
	}
	m.writeCopies(d, alert)
	if last.State == event.DrillRunning && m.drill != "" {
		d.line()
		d.line(gap(1), in(toneDim, "u or leaving undoes the fault first"))
	}
}

// drillTime says when a drill was and how long it took.
func (m *model) drillTime(d event.DrillChanged) string {
	if d.State == event.DrillRunning {
		return "for " + age(m.state.now, d.Started)
	}
	return fmt.Sprintf("%s ago, took %s", age(m.state.now, d.Finished), round(d.Finished.Sub(d.Started)))
}

// writeDrillProblem says which link is broken, and what to do.
func writeDrillProblem(d *writer, last event.DrillChanged) {
	if last.State == event.DrillRunning || last.Link == "" && last.Error == nil {
		return
	}
	if last.Link != "" {
		d.heading("BROKEN LINK")
		d.text(toneBad, string(last.Link))
	} else {
		d.heading("WHY")
	}
	if p := last.Error; p != nil {
		d.text(toneNone, p.What)
		d.text(toneDim, strings.TrimPrefix(p.Why, string(last.Link)+": "))
		for _, l := range d.t.wrap(p.Try, d.w-3) {
			d.line(gap(1), in(toneKey, l))
		}
	}
}

// stageWidth fits the longest name of a stage.
const stageWidth = 24

// writeStage writes a stage, when it was reached, counted from the fault, and
// what it waits for or what was seen: beside it, or below where there is no room.
func (m *model) writeStage(d *writer, last event.DrillChanged, s event.DrillStage) {
	sg := stageSign(s.State)
	spans := []span{gap(1), in(sg.tone, d.t.pick(sg.glyph, sg.ascii)+" ")}
	name, when := plain(d.t.fill(string(s.Name), stageWidth)), ""
	switch s.State {
	case event.StageDone:
		when = sinceFault(last, s.At)
	case event.StageWorking:
		name.tone = toneBold
		when = sinceFault(last, m.state.now)
	case event.StageFailed:
		when = sg.word
	default:
		name.tone = toneDim
	}
	spans = append(spans, name, in(toneDim, d.t.right(when, 7)))
	room := d.w - 1 - d.t.measure(spans...) - 2
	switch {
	case s.Note == "" || s.State == event.StageWaiting:
		d.line(spans...)
	case width(d.t.text(s.Note)) <= room:
		d.line(append(spans, in(toneDim, "  "+s.Note))...)
	default:
		d.line(spans...)
		for _, l := range d.t.wrap(s.Note, d.w-5) {
			d.line(gap(3), in(toneDim, l))
		}
	}
}

// sinceFault is a time counted from the fault, which the baseline comes before.
func sinceFault(d event.DrillChanged, at time.Time) string {
	from := d.When(event.StageInjected)
	if from.IsZero() {
		return ""
	}
	if from.Sub(at) >= time.Second {
		return "-" + round(from.Sub(at))
	}
	return "+" + round(at.Sub(from))
}

// drillUse says how much of its two times a drill has used.
func (m *model) drillUse(d event.DrillChanged) (fires, resolves string) {
	now := d.Finished
	if now.IsZero() {
		now = m.state.now
	}
	use := func(budget time.Duration, from, to event.StageName) string {
		began, ended := d.When(from), d.When(to)
		switch {
		case began.IsZero():
			return round(budget)
		case ended.IsZero():
			ended = now
		}
		return "used " + round(ended.Sub(began)) + " of " + round(budget)
	}
	return use(d.Within, event.StageInjected, event.StageDelivered), use(d.Resolves, event.StageUndone, event.StageNotified)
}

// writeCopies says how the alerts of the drill's copy of a rule are.
func (m *model) writeCopies(d *writer, alert string) {
	n := 0
	for _, key := range slices.Sorted(maps.Keys(m.state.Alerts)) {
		a := m.state.Alerts[key]
		if a.Rule != alert || !isCopy(a) || a.State == "inactive" {
			continue
		}
		if n++; n == 1 {
			d.heading("THE DRILL'S COPY")
		}
		d.line(gap(1), d.t.sign(alertSign(a.State)), in(toneDim, " for "+age(m.state.now, a.Since)), plain("  "+figure(a.Value)))
	}
}

// round writes a duration in whole seconds: "16s", "1m04s".
func round(d time.Duration) string {
	d = max(0, d).Truncate(time.Second)
	if d < time.Minute {
		return fmt.Sprintf("%ds", d/time.Second)
	}
	return duration(d)
}
