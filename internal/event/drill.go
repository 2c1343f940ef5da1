package event

import (
	"slices"
	"time"
)

// DrillChanged is the whole of what is known of the drill of an alert. A running
// drill says it anew with each step it takes; the last one of an alert counts.
type DrillChanged struct {
	// Alert is the name of the rule that is to fire.
	Alert string     `json:"alert"`
	State DrillState `json:"state"`
	// Fault says what is broken, for people: "scale production/deployment/web-app to 0".
	Fault string `json:"fault"`
	// Expr is the condition of the rule as it is evaluated, Value what it last
	// was, and For how long it has to hold.
	Expr  string        `json:"expr,omitempty"`
	Value string        `json:"value,omitempty"`
	For   time.Duration `json:"forNs,omitempty"`
	// Compress is what the rule's durations were divided by, 1 where they are as
	// they were written.
	Compress int `json:"compress"`
	// Within and Resolves are the times it has for the two halves.
	Within   time.Duration `json:"withinNs"`
	Resolves time.Duration `json:"resolvesNs"`

	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished,omitzero"`
	// Passed is when a drill of this alert last passed, this one or an earlier one.
	Passed time.Time `json:"passed,omitzero"`
	// Stages are what has to happen, in order; all of them, from the beginning.
	Stages []DrillStage `json:"stages"`
	// Link is the link of the chain that is broken, where it failed.
	Link  DrillLink `json:"link,omitempty"`
	Error *Problem  `json:"error,omitempty"`
}

// DrillState is how far a drill is.
type DrillState string

// The states of a drill.
const (
	DrillRunning     DrillState = "running"
	DrillPassed      DrillState = "passed"
	DrillFailed      DrillState = "failed"
	DrillInterrupted DrillState = "interrupted" // it says nothing about the alert
)

// DrillStage is one thing that has to happen in a drill.
type DrillStage struct {
	Name  StageName  `json:"name"`
	State StageState `json:"state"`
	// At is when it happened, or began where it is what is waited for.
	At time.Time `json:"at,omitzero"`
	// Note says what is waited for, or what was seen.
	Note string `json:"note,omitempty"`
}

// StageName names a stage of a drill.
type StageName string

// The stages of a drill, in order.
const (
	StageBaseline  StageName = "baseline inactive"
	StageInjected  StageName = "fault injected"
	StagePending   StageName = "pending in Prometheus"
	StageFiring    StageName = "firing in Prometheus"
	StageRouted    StageName = "seen by Alertmanager"
	StageDelivered StageName = "delivered to a receiver"
	StageUndone    StageName = "fault undone"
	StageResolved  StageName = "resolved in Prometheus"
	StageNotified  StageName = "resolve notice delivered"
)

// DrillStages are the stages of every drill, in order.
var DrillStages = []StageName{
	StageBaseline, StageInjected, StagePending, StageFiring, StageRouted, StageDelivered, StageUndone, StageResolved, StageNotified,
}

// StageState is how far a stage is.
type StageState string

// The states of a stage.
const (
	StageWaiting StageState = "waiting" // for the stages before it
	StageWorking StageState = "working"
	StageDone    StageState = "done"
	StageFailed  StageState = "failed"
)

// DrillLink is a link of the chain from a metric to the one who is notified.
type DrillLink string

// The links that can be broken, from the metric to the receiver.
const (
	LinkMetric       DrillLink = "metric absent"
	LinkExpression   DrillLink = "expression false"
	LinkFor          DrillLink = "for not yet over"
	LinkAlertmanager DrillLink = "Prometheus to Alertmanager"
	LinkRoute        DrillLink = "route or inhibition"
	LinkReceiver     DrillLink = "receiver"
	LinkPayload      DrillLink = "payload"  // it arrives, but is not fit to be read
	LinkResolve      DrillLink = "resolve"  // it goes on after the fault is undone
	LinkBaseline     DrillLink = "baseline" // it fires before anything is broken
	LinkFault        DrillLink = "fault"    // nothing could be broken, or not be undone
)

// Stage returns the stage that the drill is at: the one that is being waited for,
// or else the one that failed or was last done.
func (d DrillChanged) Stage() DrillStage {
	at := DrillStage{}
	for _, s := range d.Stages {
		switch s.State {
		case StageWorking, StageFailed:
			return s
		case StageDone:
			at = s
		case StageWaiting:
		}
	}
	return at
}

// When returns when a stage happened, zero where it has not.
func (d DrillChanged) When(name StageName) time.Time {
	i := slices.IndexFunc(d.Stages, func(s DrillStage) bool { return s.Name == name && s.State == StageDone })
	if i < 0 {
		return time.Time{}
	}
	return d.Stages[i].At
}
