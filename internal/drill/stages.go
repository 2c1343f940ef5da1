package drill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
)

// stage changes a stage and says so, unless it is as it was. A stage that is done
// stays so.
func (x *run) stage(name event.StageName, state event.StageState, note string) {
	i := slices.IndexFunc(x.now.Stages, func(s event.DrillStage) bool { return s.Name == name })
	s := &x.now.Stages[i]
	if s.State == event.StageDone || (s.State == state && s.Note == note) {
		return
	}
	if s.State != state {
		s.At = time.Now()
	}
	s.State, s.Note = state, note
	x.emit()
}

func (x *run) work(name event.StageName, note string) { x.stage(name, event.StageWorking, note) }
func (x *run) done(name event.StageName, note string) { x.stage(name, event.StageDone, note) }

func (x *run) isDone(name event.StageName) bool { return !x.now.When(name).IsZero() }

func (x *run) emit() {
	c := x.now
	c.Stages = slices.Clone(c.Stages)
	x.Emit(c)
}

// finish ends the drill with what has become of it.
func (x *run) finish(ctx context.Context, err error) {
	x.now.Finished = time.Now()
	var b *broken
	switch {
	case err == nil:
		x.now.State = event.DrillPassed
	case ctx.Err() != nil:
		x.now.State = event.DrillInterrupted
		x.now.Error = &event.Problem{Code: string(fault.Interrupted), What: "the drill " + x.d.Alert + " was interrupted", Why: "its fault was undone", Try: "sandbox alerts drill " + x.d.Alert}
		if !x.kept {
			x.now.Error.Why = "before anything was broken"
		}
		if x.kept && x.undone.IsZero() {
			x.now.Error.Why, x.now.Error.Try = "its fault is not undone: "+err.Error(), "sandbox alerts drill --undo"
		}
	case errors.As(err, &b):
		x.now.State, x.now.Link = event.DrillFailed, b.link
		what := b.what
		if what == "" {
			what = x.what(b.link)
		}
		x.now.Error = &event.Problem{Code: string(fault.Unhealthy), What: what, Why: string(b.link) + ": " + b.why, Try: b.try}
	default:
		x.now.State = event.DrillFailed
		x.now.Error = problem(err)
	}
	for i, s := range x.now.Stages {
		if s.State == event.StageWorking && x.now.State != event.DrillPassed {
			x.now.Stages[i].State = event.StageFailed
		}
	}
	x.emit()
}

// what says in one line what has not happened.
func (x *run) what(link event.DrillLink) string {
	switch link {
	case event.LinkBaseline:
		return "the drill " + x.d.Alert + " can't begin"
	case event.LinkFault:
		return "the fault of drill " + x.d.Alert + " is not there"
	case event.LinkResolve:
		return fmt.Sprintf("the alert %s is not resolved %s after the fault was undone", x.d.Alert, model.Duration(x.d.Resolves))
	}
	if x.isDone(event.StageUndone) && x.isDone(event.StageDelivered) {
		return fmt.Sprintf("nobody was told within %s that the alert %s is over", model.Duration(x.d.Resolves), x.d.Alert)
	}
	if x.isDone(event.StageFiring) {
		return fmt.Sprintf("the alert %s fires, and is not delivered within %s", x.d.Alert, model.Duration(x.d.Within))
	}
	return fmt.Sprintf("the alert %s does not fire within %s of the fault", x.d.Alert, model.Duration(x.d.Within))
}

func problem(err error) *event.Problem {
	var f *fault.Error
	if errors.As(err, &f) {
		return &event.Problem{Code: string(f.Code), What: f.What, Why: f.Reason(), Try: f.Try, Log: f.Log}
	}
	return &event.Problem{Code: string(fault.Failed), What: err.Error()}
}

// labels writes labels as Prometheus does, without those that say nothing here.
func labels(set model.LabelSet) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if name != model.AlertNameLabel && name != model.MetricNameLabel && string(name) != Marker {
			parts = append(parts, fmt.Sprintf("%s=%q", name, string(set[name])))
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// figure is a value as people write it.
func figure(value string) string {
	f, err := strconv.ParseFloat(value, 64)
	if err != nil {
		return value
	}
	return strconv.FormatFloat(f, 'g', 4, 64)
}
