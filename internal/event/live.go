package event

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
)

// The payloads of this file are about a stack that runs, whatever run brought
// it up: what it uses, what it says and what happens to its objects.

// ResourceSample is what a component used when the sample was taken.
type ResourceSample struct {
	Component string `json:"component"`
	// CPU is in cores: 0.25 is a quarter of one.
	CPU float64 `json:"cpu"`
	// Memory is the working set in bytes.
	Memory int64 `json:"memory"`
}

// Severity says whether an ObjectEvent needs attention.
type Severity string

// The severities, in Kubernetes' words.
const (
	Normal  Severity = "Normal"
	Warning Severity = "Warning"
)

// ObjectEvent says that something happened to an object: a Kubernetes event, a
// word of the engine, or one of sandbox's own.
type ObjectEvent struct {
	Type Severity `json:"type"`
	// Source is who says so: "kubelet", "podman", "sandbox".
	Source string `json:"source"`
	// Object is kind and name, the kind in lower case: "pod/web-6f8b".
	Object    string `json:"object"`
	Namespace string `json:"namespace,omitempty"`
	// Count is how often it has happened by now; 0 counts as once more.
	Count   int       `json:"count,omitempty"`
	Reason  string    `json:"reason"`
	Message string    `json:"message,omitempty"`
	Last    time.Time `json:"last,omitzero"`
}

// LogLine is one line of a running component's log, as opposed to the StepLog
// of the work that brought it up. Source names the pod or container.
type LogLine struct {
	Component string `json:"component"`
	Source    string `json:"source,omitempty"`
	Line      string `json:"line"`
	// At is when it was written, where that is known.
	At time.Time `json:"at,omitzero"`
}

// ResourceState is how a resource relates to its Terraform configuration.
type ResourceState string

// The states of a resource.
const (
	ResourceOK      ResourceState = "ok"
	ResourceDrift   ResourceState = "drift"   // changed outside of Terraform
	ResourceMissing ResourceState = "missing" // deleted outside of Terraform
	ResourcePlanned ResourceState = "planned" // apply would create or change it
)

// Resource is one resource of a Terraform module.
type Resource struct {
	Address string        `json:"address"` // "aws_sqs_queue.jobs"
	Type    string        `json:"type"`
	State   ResourceState `json:"state"`
	// Detail says what differs; it may have several lines.
	Detail string `json:"detail,omitempty"`
}

// ModuleChanged is what the last refresh of a Terraform module found.
type ModuleChanged struct {
	Module    string     `json:"module"`
	Tool      string     `json:"tool,omitempty"`     // "terraform 1.11.4"
	Provider  string     `json:"provider,omitempty"` // "aws 6.34.0"
	Resources []Resource `json:"resources,omitempty"`
	// Drift counts the resources that are not as the state says.
	Drift     int       `json:"drift"`
	Refreshed time.Time `json:"refreshed,omitzero"`
	// Comparing says that a full comparison is under way.
	Comparing bool `json:"comparing,omitempty"`
}

// Differing counts the resources that are not as the state says: what Drift is.
func (m ModuleChanged) Differing() int {
	n := 0
	for _, r := range m.Resources {
		if r.State == ResourceDrift || r.State == ResourceMissing {
			n++
		}
	}
	return n
}

// AlertmanagerChanged is what Alertmanager makes of the alerts it was sent.
type AlertmanagerChanged struct {
	Silences  int      `json:"silences"`
	Inhibited int      `json:"inhibited"`
	Active    int      `json:"active"`
	Receivers []string `json:"receivers,omitempty"`
}

// The bounds of what a View keeps of a running stack.
const (
	SampleTail = 60     // samples of each component
	LogTail    = 10_000 // log lines in all
	EventTail  = 500    // groups of object events
)

// Live is what a View knows of the running stack.
//
// Its slices only grow at their end or move to a new array, so a snapshot can
// share them.
type Live struct {
	// Samples of each component by its path, oldest first.
	Samples map[string][]Sample
	// Logs holds the last lines of all components and steps, oldest first.
	// LogsDropped counts the lines before them, so line i of Logs is number
	// LogsDropped+i for good.
	Logs        []LogEntry
	LogsDropped int
	// Events by object and reason; EventsByTime sorts them.
	Events map[string]ObjectEvents
	// Modules holds the last word on each Terraform module.
	Modules map[string]ModuleChanged
	// Alertmanager is nil until it has been heard of.
	Alertmanager *AlertmanagerChanged
	// Drills holds the last drill of each alert.
	Drills map[string]DrillChanged
}

// Sample is a ResourceSample with its time.
type Sample struct {
	Time   time.Time
	CPU    float64 // cores
	Memory int64   // bytes
}

// LogEntry is a log line with its time. Of a step's line the Component is the
// ID of the step, which is the path of the component the step brings up.
type LogEntry struct {
	LogLine
	Time time.Time
	Step bool
}

// ObjectEvents is an ObjectEvent that may have happened several times; Count says
// how often, First and Last since when and until when.
type ObjectEvents struct {
	ObjectEvent
	First time.Time
}

// snapshot returns a copy that later changes of l leave alone. It copies the
// maps, which are small, and shares the lines and samples, which are many.
func (l *Live) snapshot() Live {
	c := *l
	c.Samples = maps.Clone(l.Samples)
	for k, s := range c.Samples {
		c.Samples[k] = slices.Clip(s)
	}
	c.Logs = slices.Clip(l.Logs)
	c.Events, c.Modules, c.Drills = maps.Clone(l.Events), maps.Clone(l.Modules), maps.Clone(l.Drills)
	return c
}

func (l *Live) sample(s ResourceSample, at time.Time) {
	kept := l.Samples[s.Component]
	set(&l.Samples, s.Component, tail(append(kept, Sample{Time: at, CPU: s.CPU, Memory: s.Memory}), SampleTail))
}

func (l *Live) log(line LogLine, at time.Time, step bool) {
	if !line.At.IsZero() {
		at = line.At
	}
	l.Logs = append(l.Logs, LogEntry{LogLine: line, Time: at, Step: step})
	l.LogsDropped += max(0, len(l.Logs)-LogTail)
	l.Logs = tail(l.Logs, LogTail)
}

// tail returns the last n of s. It leaves the array of s alone, as snapshots
// may share it, and moves to a new one when the old one is used up.
func tail[E any](s []E, n int) []E {
	if len(s) <= n {
		return s
	}
	return s[len(s)-n:]
}

// happened adds an event to its group, and forgets the group that has been
// quiet for longest where there are too many.
func (l *Live) happened(e ObjectEvent, at time.Time) {
	if e.Last.IsZero() {
		e.Last = at
	}
	key := e.key()
	old, again := l.Events[key]
	g := ObjectEvents{ObjectEvent: e, First: e.Last}
	if again {
		g.First = old.First
	}
	if e.Count == 0 {
		g.Count = old.Count + 1
	}
	if !again && len(l.Events) >= EventTail {
		oldest := l.EventsByTime()
		delete(l.Events, oldest[len(oldest)-1].key())
	}
	set(&l.Events, key, g)
}

func (e ObjectEvent) key() string {
	return strings.Join([]string{e.Source, e.Namespace, e.Object, e.Reason}, " ")
}

// EventsByTime returns the groups of events, the one that happened last first.
func (l *Live) EventsByTime() []ObjectEvents {
	return slices.SortedFunc(maps.Values(l.Events), func(a, b ObjectEvents) int {
		return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.key(), b.key()))
	})
}

// healthEvent is the change of a component's health as an event of sandbox's
// own; false means that nothing worth telling has changed.
func healthEvent(was, is Health) (ObjectEvent, bool) {
	if was.State == is.State || was.State == "" && is.State.Healthy() {
		return ObjectEvent{}, false
	}
	e := ObjectEvent{Type: Normal, Source: "sandbox", Object: is.Component, Reason: capital(string(is.State)), Message: string(is.State)}
	if was.State != "" {
		e.Message = string(was.State) + " → " + string(is.State)
	}
	if is.Reason != "" {
		e.Message += ": " + is.Reason
	}
	switch is.State {
	case StateFailed, StateDegraded, StateStale:
		e.Type = Warning
	}
	return e, true
}

// alertEvent is the change of an alert as an event.
func alertEvent(was, is AlertChanged) (ObjectEvent, bool) {
	if was.State == is.State || was.State == "" && is.State == "inactive" {
		return ObjectEvent{}, false
	}
	e := ObjectEvent{
		Type: Normal, Source: "prometheus", Object: "rule/" + is.Rule,
		Reason: "Alert" + capital(is.State), Message: is.State,
	}
	if was.State != "" {
		e.Message = was.State + " → " + is.State
	}
	if is.State == "firing" {
		e.Type = Warning
	}
	return e, true
}

// drillEvent is the beginning or the end of a drill as an event.
func drillEvent(was, is DrillChanged) (ObjectEvent, bool) {
	if was.State == is.State && was.Started.Equal(is.Started) {
		return ObjectEvent{}, false
	}
	e := ObjectEvent{Type: Normal, Source: "sandbox", Object: "drill/" + is.Alert, Reason: "Drill" + capital(string(is.State)), Message: is.Fault}
	if is.Error != nil {
		e.Message = is.Error.What
	}
	if is.State == DrillFailed {
		e.Type = Warning
	}
	return e, true
}

// stepEvent is the end of a step as an event.
func stepEvent(f StepFinished) (ObjectEvent, bool) {
	if f.Outcome == Unchanged || f.Outcome == Skipped {
		return ObjectEvent{}, false
	}
	e := ObjectEvent{Type: Normal, Source: "sandbox", Object: "step/" + f.ID, Reason: "Step" + capital(string(f.Outcome)), Message: f.Note}
	if f.Outcome == Failed {
		e.Type = Warning
		if f.Error != nil {
			e.Message = strings.TrimSuffix(f.Error.What+": "+f.Error.Why, ": ")
		}
	}
	return e, true
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
