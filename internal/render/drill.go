package render

import (
	"strconv"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// drillPrefix leads the IDs of the steps that are drills.
const drillPrefix = "drill/"

// drillOf returns the drill that a step is, as far as it is known. One of an
// earlier run is none: what is known of drills outlives their run.
func drillOf(v *event.View, s event.StepView) (event.DrillChanged, bool) {
	alert, is := strings.CutPrefix(s.ID, drillPrefix)
	if !is || s.Started.IsZero() {
		return event.DrillChanged{}, false
	}
	d, known := v.Drills[alert]
	return d, known && !d.Started.Before(s.Started)
}

// reached returns the stages that a drill has reached since it was last heard of.
func reached(was, is event.DrillChanged) []event.DrillStage {
	var news []event.DrillStage
	for _, s := range is.Stages {
		before := was.Started.Equal(is.Started) && !was.When(s.Name).IsZero()
		if s.State == event.StageDone && !before {
			news = append(news, s)
		}
	}
	return news
}

// news returns the stages that the drill which is a step of this run has reached
// with the envelope last applied.
func (s *stream) news(d event.DrillChanged) []event.DrillStage {
	if step := s.stepOf(drillPrefix + d.Alert); !step.Running() {
		return nil
	} else if _, here := drillOf(&s.view, step); !here {
		return nil
	}
	return s.reached
}

// sinceFault is a time counted from the fault: "+16s", "-2s" before it, or "" where
// nothing is broken yet.
func sinceFault(d event.DrillChanged, at time.Time) string {
	switch from := d.When(event.StageInjected); {
	case from.IsZero():
		return ""
	case from.Sub(at) >= time.Second:
		return "-" + seconds(from.Sub(at))
	default:
		return "+" + seconds(at.Sub(from))
	}
}

// stageNote is what there is to say of a stage: of the fault, what it is.
func stageNote(d event.DrillChanged, s event.DrillStage) string {
	if s.Name == event.StageInjected && s.Note == "" {
		return d.Fault
	}
	return s.Note
}

// stageColumn fits the longest name of a stage.
const stageColumn = 24

// stageText is a stage in one line: when, what, and a note.
func stageText(d event.DrillChanged, s event.DrillStage) string {
	when, name := sinceFault(d, s.At), string(s.Name)
	if s.State == event.StageFailed {
		when = signFailed.word
	}
	text := pad(when, stampWidth-2) + when + "  " + name
	if note := stageNote(d, s); note != "" {
		text += pad(name, stageColumn) + "  " + note
	}
	return text
}

// stages draws a drill that runs: its fault, each stage, and how much of its time
// is used.
func (r region) stages(d event.DrillChanged) []rankedLine {
	below := strings.Repeat(" ", hang)
	lines := []rankedLine{{rankDoing, below + r.style.text(d.Fault)}}
	for _, s := range d.Stages {
		lines = append(lines, rankedLine{rankStage, below + r.stage(d, s)})
	}
	if use := r.drillUse(d); use != "" {
		lines = append(lines, rankedLine{rankBlockers, below + r.style.paint(toneDim, r.style.text(use))})
	}
	if d.Expr != "" {
		lines = append(lines, rankedLine{rankLog, below + r.style.paint(toneDim, "expr  "+r.style.text(d.Expr))})
	}
	return lines
}

func (r region) stage(d event.DrillChanged, s event.DrillStage) string {
	mark, when, t := signWaiting, "", toneDim
	switch s.State {
	case event.StageDone:
		mark, when, t = signOK, sinceFault(d, s.At), toneNone
	case event.StageWorking:
		mark, when, t = signWorking, sinceFault(d, r.now), toneBold
	case event.StageFailed:
		mark, when, t = signFailed, signFailed.word, toneNone
	case event.StageWaiting:
	}
	text := r.style.glyph(mark) + " " + r.style.paint(t, string(s.Name))
	if when != "" || s.Note != "" {
		text += pad(string(s.Name), stageColumn) + pad(when, tookWidth+1) + r.style.paint(toneDim, when)
	}
	if s.Note != "" {
		text += "  " + r.style.text(s.Note)
	}
	return text
}

// drillUse says how much of the time of the half that a drill is in is used, and
// what that time is compressed by.
func (r region) drillUse(d event.DrillChanged) string {
	var parts []string
	injected, undone := d.When(event.StageInjected), d.When(event.StageUndone)
	switch {
	case !undone.IsZero():
		parts = append(parts, "resolves: used "+seconds(r.now.Sub(undone))+" of "+seconds(d.Resolves))
	case !injected.IsZero():
		parts = append(parts, "within: used "+seconds(r.now.Sub(injected))+" of "+seconds(d.Within))
	}
	if d.Value != "" {
		parts = append(parts, "value "+figure(d.Value))
	}
	if d.For > 0 {
		parts = append(parts, "for "+seconds(d.For))
	}
	if d.Compress > 1 {
		parts = append(parts, "durations / "+strconv.Itoa(d.Compress))
	}
	return strings.Join(parts, ", ")
}

// figure is a value of Prometheus as people write it: it says "1.5e+00".
func figure(value string) string {
	f, err := strconv.ParseFloat(value, 64)
	if err != nil {
		return value
	}
	return strconv.FormatFloat(f, 'g', 6, 64)
}

// stageLines draws the stages that a drill has reached as lines that stay.
func (p *Plain) stageLines(d event.DrillChanged) {
	for _, s := range p.news(d) {
		when := sinceFault(d, s.At)
		alert, name, note := p.style.text(d.Alert), string(s.Name), p.style.text(stageNote(d, s))
		line := pad(when, stampWidth-2) + p.style.paint(toneDim, when) + "  " + alert + "  " + name
		if note != "" {
			column := stampWidth + ansi.StringWidth(alert) + 2 + stageColumn + 2
			lines := []string{note}
			if p.style.Width > 0 {
				lines = wrap(note, p.style.Width-column)
			}
			line += pad(name, stageColumn) + "  " + strings.Join(lines, "\n"+strings.Repeat(" ", column))
		}
		p.print(line)
	}
}

// keepStages puts the stages that a drill has reached into the log of its step,
// which is drawn as a group.
func (g *GitHub) keepStages(d event.DrillChanged) {
	for _, s := range g.news(d) {
		g.keep(event.StepLog{ID: drillPrefix + d.Alert, Line: stageText(d, s)})
	}
}

// sayStages says which stages a drill has reached.
func (a *Accessible) sayStages(d event.DrillChanged) {
	for _, s := range a.news(d) {
		text := "Drill " + d.Alert + ": " + string(s.Name)
		from := d.When(event.StageInjected)
		if s.Name != event.StageInjected && !from.IsZero() && !s.At.Before(from) {
			text += " " + spokenDuration(s.At.Sub(from).Truncate(time.Second)) + " after the fault"
		}
		if note := stageNote(d, s); note != "" {
			text += ", " + note
		}
		a.say(sentence(text))
	}
}

// drillLog is the stages that a drill has reached and, where it failed, the one
// that it did not, for a report.
func drillLog(d event.DrillChanged) string {
	var lines []string
	for _, s := range d.Stages {
		if s.State == event.StageDone || s.State == event.StageFailed {
			lines = append(lines, stageText(d, s))
		}
	}
	return strings.Join(lines, "\n")
}
