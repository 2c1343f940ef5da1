// Package event is the one record of what a run does and of how the stack is.
//
// Everything a user sees, on any output, is drawn from this stream: steps emit
// facts, the Log stamps them once and hands them to every sink, and State
// reduces them to what a screen shows. A recorded events.jsonl therefore
// replays a run exactly. The package imports the standard library only, so
// that every other package can use it.
package event

import "time"

// SchemaVersion is the version of the Envelope's JSON form. It changes only
// when a reader of an older version would misread a newer stream; added fields
// do not change it.
const SchemaVersion = 1

// Envelope is one stamped event: exactly one of its payload fields is set.
type Envelope struct {
	Schema int       `json:"schema"`
	Run    string    `json:"run"`
	Seq    uint64    `json:"seq"`
	Time   time.Time `json:"time"`

	PlanReady     *PlanReady     `json:"planReady,omitempty"`
	StepStarted   *StepStarted   `json:"stepStarted,omitempty"`
	StepProgress  *StepProgress  `json:"stepProgress,omitempty"`
	StepLog       *StepLog       `json:"stepLog,omitempty"`
	StepFinished  *StepFinished  `json:"stepFinished,omitempty"`
	HealthChanged *HealthChanged `json:"healthChanged,omitempty"`
	AlertChanged  *AlertChanged  `json:"alertChanged,omitempty"`
	RunFinished   *RunFinished   `json:"runFinished,omitempty"`

	ResourceSample      *ResourceSample      `json:"resourceSample,omitempty"`
	ObjectEvent         *ObjectEvent         `json:"objectEvent,omitempty"`
	LogLine             *LogLine             `json:"logLine,omitempty"`
	ModuleChanged       *ModuleChanged       `json:"moduleChanged,omitempty"`
	AlertmanagerChanged *AlertmanagerChanged `json:"alertmanagerChanged,omitempty"`
	DrillChanged        *DrillChanged        `json:"drillChanged,omitempty"`
}

// PlanReady opens a run: the stack, what is to be done to it and in what order.
type PlanReady struct {
	Stack   string     `json:"stack"`
	Command string     `json:"command"`
	Engine  string     `json:"engine,omitempty"`
	Steps   []PlanStep `json:"steps"`
}

// PlanStep is one step of the plan. ID is a stable slug such as
// "release/web-app"; After lists the IDs that must be done before it starts.
type PlanStep struct {
	ID    string   `json:"id"`
	Title string   `json:"title"`
	After []string `json:"after,omitempty"`
}

// StepStarted says that a step has begun.
type StepStarted struct {
	ID string `json:"id"`
}

// StepProgress says what a running step is doing. Only the latest one of a
// step matters, so sinks may drop earlier ones.
type StepProgress struct {
	ID string `json:"id"`
	Progress
}

// StepLog is one line that the step, or a tool it runs, had to say. Terminal
// control sequences have been removed from Line.
type StepLog struct {
	ID     string `json:"id"`
	Source string `json:"source,omitempty"`
	Line   string `json:"line"`
}

// Outcome is how a step ended.
type Outcome string

// The outcomes of a step.
const (
	// Done means that the step changed something and succeeded.
	Done Outcome = "done"
	// Unchanged means that what the step is for was there already.
	Unchanged Outcome = "unchanged"
	// Off means that the step's component cannot be had here; Note says why.
	Off Outcome = "off"
	// Failed means that the step failed; Error says why.
	Failed Outcome = "failed"
	// Skipped means that a step before it failed.
	Skipped Outcome = "skipped"
	// Canceled means that the run was interrupted while the step ran.
	Canceled Outcome = "canceled"
)

// StepFinished closes a step.
type StepFinished struct {
	ID      string  `json:"id"`
	Outcome Outcome `json:"outcome"`
	// Note is one short line for people, such as "9 added, 0 changed".
	Note    string        `json:"note,omitempty"`
	Error   *Problem      `json:"error,omitempty"`
	Elapsed time.Duration `json:"elapsedNs"`
}

// Problem is an error as it appears in events: what happened, why, and the
// command to try next. Log holds the last lines of the tool that failed.
type Problem struct {
	Code string   `json:"code"`
	What string   `json:"what"`
	Why  string   `json:"why,omitempty"`
	Try  string   `json:"try,omitempty"`
	Log  []string `json:"log,omitempty"`
}

// HealthChanged carries the health of one component when it differs from
// what was last said of it.
type HealthChanged struct {
	Health
}

// AlertChanged says that an alerting rule changed its state.
type AlertChanged struct {
	Rule   string            `json:"rule"`
	State  string            `json:"state"` // inactive, pending, firing: Prometheus' words
	Labels map[string]string `json:"labels,omitempty"`
	Value  string            `json:"value,omitempty"`
	Since  time.Time         `json:"since,omitzero"`
	// Summary says what the alert means, by its annotations, and Expr is the
	// condition of its rule.
	Summary string `json:"summary,omitempty"`
	Expr    string `json:"expr,omitempty"`
}

// RunFinished closes a run.
type RunFinished struct {
	OK      bool          `json:"ok"`
	Error   *Problem      `json:"error,omitempty"`
	Elapsed time.Duration `json:"elapsedNs"`
}
