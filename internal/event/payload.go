package event

import (
	"slices"
	"strings"
)

// Every text that may come from a tool, a cluster or a user's file is cleaned
// here, at the one gate all events pass, so that no output has to.

func (p PlanReady) fill(e *Envelope) {
	p.Steps = slices.Clone(p.Steps)
	for i := range p.Steps {
		p.Steps[i].Title = Clean(p.Steps[i].Title)
	}
	e.PlanReady = &p
}

func (p StepStarted) fill(e *Envelope) { e.StepStarted = &p }

func (p StepProgress) fill(e *Envelope) {
	p.Text = Clean(p.Text)
	p.Blockers = cleanAll(p.Blockers)
	e.StepProgress = &p
}

func (p StepLog) fill(e *Envelope) {
	p.Source, p.Line = Clean(p.Source), Clean(p.Line)
	e.StepLog = &p
}

func (p StepFinished) fill(e *Envelope) {
	p.Note, p.Error = Clean(p.Note), p.Error.cleaned()
	e.StepFinished = &p
}

func (p HealthChanged) fill(e *Envelope) {
	p.Component, p.Reason, p.Try = Clean(p.Component), Clean(p.Reason), Clean(p.Try)
	e.HealthChanged = &p
}

func (p AlertChanged) fill(e *Envelope) {
	p.Rule, p.Value, p.Expr = Clean(p.Rule), Clean(p.Value), Clean(p.Expr)
	p.Summary = strings.TrimSuffix(CleanText(p.Summary), "\n")
	if p.Labels != nil {
		labels := make(map[string]string, len(p.Labels))
		for k, v := range p.Labels {
			labels[Clean(k)] = Clean(v)
		}
		p.Labels = labels
	}
	e.AlertChanged = &p
}

func (p RunFinished) fill(e *Envelope) {
	p.Error = p.Error.cleaned()
	e.RunFinished = &p
}

func (p ResourceSample) fill(e *Envelope) {
	p.Component = Clean(p.Component)
	e.ResourceSample = &p
}

func (p ObjectEvent) fill(e *Envelope) {
	p.Source, p.Object, p.Namespace = Clean(p.Source), Clean(p.Object), Clean(p.Namespace)
	p.Reason, p.Message = Clean(p.Reason), Clean(p.Message)
	e.ObjectEvent = &p
}

func (p LogLine) fill(e *Envelope) {
	p.Component, p.Source, p.Line = Clean(p.Component), Clean(p.Source), Clean(p.Line)
	e.LogLine = &p
}

func (p ModuleChanged) fill(e *Envelope) {
	p.Module, p.Tool, p.Provider = Clean(p.Module), Clean(p.Tool), Clean(p.Provider)
	p.Resources = slices.Clone(p.Resources)
	for i, r := range p.Resources {
		r.Address, r.Type, r.Detail = Clean(r.Address), Clean(r.Type), cleanText(r.Detail)
		p.Resources[i] = r
	}
	e.ModuleChanged = &p
}

func (p AlertmanagerChanged) fill(e *Envelope) {
	p.Receivers = cleanAll(p.Receivers)
	e.AlertmanagerChanged = &p
}

func (p DrillChanged) fill(e *Envelope) {
	p.Alert, p.Fault, p.Expr, p.Value = Clean(p.Alert), Clean(p.Fault), cleanText(p.Expr), cleanText(p.Value)
	p.Stages = slices.Clone(p.Stages)
	for i := range p.Stages {
		p.Stages[i].Note = Clean(p.Stages[i].Note)
	}
	p.Error = p.Error.cleaned()
	e.DrillChanged = &p
}

func (p *Problem) cleaned() *Problem {
	if p == nil {
		return nil
	}
	c := *p
	c.What, c.Why, c.Try = cleanText(c.What), cleanText(c.Why), cleanText(c.Try)
	c.Log = cleanAll(c.Log)
	return &c
}

func cleanAll(lines []string) []string {
	if lines == nil {
		return nil
	}
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = Clean(l)
	}
	return out
}
