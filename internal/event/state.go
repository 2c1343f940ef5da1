package event

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// logTail is how many of a step's last log lines a View keeps.
const logTail = 200

// View is what the stream amounts to: a pure reduction of the envelopes
// applied so far. The same envelopes always give the same View, so a recorded
// run shows exactly what the live one did. A View is not safe for concurrent
// use; pass Snapshots on.
type View struct {
	Run     string
	Stack   string
	Command string
	Engine  string
	// Started is the time of the run's first envelope, Now that of the last
	// one applied.
	Started time.Time
	Now     time.Time
	// Steps in the order of the plan.
	Steps []StepView
	// Health of each component by its path.
	Health map[string]Health
	// Alerts holds the last word on each rule and label set.
	Alerts map[string]AlertChanged
	// Result is nil until the run has finished.
	Result *RunFinished
	// Live is what is known of the stack as it runs.
	Live
	// Missed counts the envelopes that were left out on the way here.
	Missed uint64

	seq uint64
}

// StepView is one step of a View.
type StepView struct {
	PlanStep
	Started  time.Time
	Finished time.Time
	// Outcome is empty until the step has finished.
	Outcome Outcome
	Note    string
	Error   *Problem
	// Elapsed is how long the finished step took.
	Elapsed time.Duration
	// Progress is the last the step said of itself.
	Progress *Progress
	// Log holds the last lines the step logged.
	Log []StepLog
}

// Running says whether the step has started and not finished.
func (s StepView) Running() bool { return !s.Started.IsZero() && s.Outcome == "" }

// Apply takes in one envelope. Envelopes come in the order of their Seq; one
// that was applied already is ignored.
func (v *View) Apply(e Envelope) {
	switch {
	case e.Run != v.Run:
		v.begin(e)
	case e.Seq <= v.seq:
		return
	default:
		v.Missed += e.Seq - v.seq - 1
	}
	v.seq, v.Now = e.Seq, e.Time

	switch {
	case e.PlanReady != nil:
		v.plan(*e.PlanReady)
	case e.StepStarted != nil:
		v.step(e.StepStarted.ID).Started = e.Time
	case e.StepProgress != nil:
		v.step(e.StepProgress.ID).Progress = &e.StepProgress.Progress
	case e.StepLog != nil:
		s, l := v.step(e.StepLog.ID), *e.StepLog
		s.Log = tail(append(s.Log, l), logTail)
		v.log(LogLine{Component: l.ID, Source: l.Source, Line: l.Line}, e.Time, true)
	case e.StepFinished != nil:
		s, f := v.step(e.StepFinished.ID), e.StepFinished
		s.Finished, s.Outcome, s.Note, s.Error, s.Elapsed = e.Time, f.Outcome, f.Note, f.Error, f.Elapsed
		v.note(e.Time)(stepEvent(*f))
	case e.HealthChanged != nil:
		is := e.HealthChanged.Health
		if is.State == StateOff && is.Reason == ReasonGone {
			delete(v.Health, is.Component)
			delete(v.Samples, is.Component)
			return
		}
		was := v.Health[is.Component]
		if is.Since.IsZero() && was.State == is.State {
			is.Since = was.Since // a new observer does not know since when
		}
		v.note(e.Time)(healthEvent(was, is))
		set(&v.Health, is.Component, is)
	case e.AlertChanged != nil:
		is := *e.AlertChanged
		v.note(e.Time)(alertEvent(v.Alerts[is.key()], is))
		set(&v.Alerts, is.key(), is)
	case e.RunFinished != nil:
		v.Result = e.RunFinished
	case e.ResourceSample != nil:
		v.sample(*e.ResourceSample, e.Time)
	case e.ObjectEvent != nil:
		v.happened(*e.ObjectEvent, e.Time)
	case e.LogLine != nil:
		v.log(*e.LogLine, e.Time, false)
	case e.ModuleChanged != nil:
		set(&v.Modules, e.ModuleChanged.Module, *e.ModuleChanged)
	case e.AlertmanagerChanged != nil:
		v.Alertmanager = e.AlertmanagerChanged
	case e.DrillChanged != nil:
		was, is := v.Drills[e.DrillChanged.Alert], *e.DrillChanged
		v.note(e.Time)(drillEvent(was, is))
		set(&v.Drills, is.Alert, is)
	}
}

// note returns a function that takes in an event of sandbox's own, if it is one.
func (v *View) note(at time.Time) func(ObjectEvent, bool) {
	return func(e ObjectEvent, worthTelling bool) {
		if worthTelling {
			v.happened(e, at)
		}
	}
}

// begin forgets the steps of an earlier run. What is known of health, alerts
// and the running stack stays: it is about the stack, not about the run.
func (v *View) begin(e Envelope) {
	*v = View{Run: e.Run, Started: e.Time, Health: v.Health, Alerts: v.Alerts, Live: v.Live, Missed: e.Seq - 1}
}

func (v *View) plan(p PlanReady) {
	v.Stack, v.Command, v.Engine = p.Stack, p.Command, p.Engine
	for _, s := range p.Steps {
		v.step(s.ID).PlanStep = s
	}
}

// step returns the step of that ID and adds it where the plan did not name it.
func (v *View) step(id string) *StepView {
	i := slices.IndexFunc(v.Steps, func(s StepView) bool { return s.ID == id })
	if i < 0 {
		i = len(v.Steps)
		v.Steps = append(v.Steps, StepView{PlanStep: PlanStep{ID: id, Title: id}})
	}
	return &v.Steps[i]
}

// Snapshot returns a copy that later calls of Apply leave alone.
func (v *View) Snapshot() View {
	c := *v
	c.Steps = slices.Clone(v.Steps)
	for i := range c.Steps {
		c.Steps[i].Log = slices.Clip(c.Steps[i].Log)
	}
	c.Health, c.Alerts = maps.Clone(v.Health), maps.Clone(v.Alerts)
	c.Live = v.snapshot()
	return c
}

// Components returns the health of all components, sorted by path.
func (v *View) Components() []Health {
	return slices.SortedFunc(maps.Values(v.Health), func(a, b Health) int {
		return cmp.Compare(a.Component, b.Component)
	})
}

// key identifies an alert: its rule and its labels.
func (a AlertChanged) key() string {
	k := a.Rule
	for _, name := range slices.Sorted(maps.Keys(a.Labels)) {
		k += "\x00" + name + "\x00" + a.Labels[name]
	}
	return k
}

func set[V any](m *map[string]V, k string, value V) {
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[k] = value
}
