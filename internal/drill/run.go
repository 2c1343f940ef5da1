package drill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/sandbox-stack/sandbox/internal/agent/receiver"
	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/observe"
)

// run is a drill that runs.
type run struct {
	*Runner
	d   Drill
	now event.DrillChanged

	// What the last look saw.
	seen look
	kept bool // the fault is on record: from then on it may be there
	// broken is when it began to be injected: the alert may arrive before that ends.
	broken   time.Time
	injected time.Time
	undone   time.Time
	// asked is when the value was last asked for.
	asked time.Time
	// heldBy is what held notifications back when Alertmanager last had the alert.
	heldBy string
}

// look is what there is to see of the alert at one time.
type look struct {
	rules     []promv1.AlertingRule
	alerts    []*promv1.Alert
	sent      []observe.SentAlert
	delivered []receiver.Notification
	// The errors of those that could not be asked.
	promErr, amErr, receiverErr error
}

// Run runs a drill to its end and returns it. The fault is undone in any case,
// also when ctx ends, but for KeepBroken.
func (r *Runner) Run(ctx context.Context, d Drill) event.DrillChanged {
	x := &run{Runner: r, d: d, now: event.DrillChanged{
		Alert: d.Alert, State: event.DrillRunning, Fault: d.Fault.What, Compress: d.Compress,
		Within: d.Within, Resolves: d.Resolves, Started: time.Now(),
	}}
	for _, w := range d.Watched {
		x.now.Expr, x.now.For = w.Expr, w.For
	}
	for _, name := range event.DrillStages {
		x.now.Stages = append(x.now.Stages, event.DrillStage{Name: name, State: event.StageWaiting})
	}
	x.finish(ctx, x.run(ctx))
	return x.now
}

func (x *run) run(ctx context.Context) error {
	if err := x.baseline(ctx); err != nil {
		return err
	}
	fails := x.whileBroken(ctx)
	if fails != nil && x.KeepBroken && x.kept && ctx.Err() == nil {
		var b *broken
		if errors.As(fails, &b) {
			b.why += "; the fault is left in place: " + x.d.Fault.What
			b.try = "sandbox alerts drill --undo"
		}
		return fails
	}
	if err := x.undo(ctx); err != nil {
		// What is still broken comes first; that the drill has failed as well, second.
		var b *broken
		if fails != nil && errors.As(err, &b) {
			b.why += "; before that: " + strings.ReplaceAll(fails.Error(), "\n", " ")
		}
		return err
	}
	if fails != nil {
		return fails
	}
	return x.resolve(ctx)
}

// baseline waits until the stack is healthy, the rules are loaded and the alert
// is inactive.
func (x *run) baseline(ctx context.Context) error {
	x.work(event.StageBaseline, "")
	if x.Ready != nil {
		if err := x.Ready(ctx, func(note string) { x.work(event.StageBaseline, note) }); err != nil {
			return err
		}
	}
	return x.until(ctx, x.d.Settle, func(ctx context.Context) (bool, error) {
		x.lookAtPrometheus(ctx)
		if x.seen.promErr != nil {
			x.work(event.StageBaseline, "Prometheus does not answer")
			return false, nil
		}
		if len(x.seen.rules) < len(x.d.Watched) {
			x.work(event.StageBaseline, "waiting for Prometheus to load the rules")
			return false, nil
		}
		for _, rule := range x.seen.rules {
			switch {
			case rule.LastEvaluation.IsZero() || rule.Health == promv1.RuleHealthUnknown:
				x.work(event.StageBaseline, "waiting for the first evaluation")
				return false, nil
			case rule.Health == promv1.RuleHealthBad:
				return false, &broken{link: event.LinkExpression, why: "it can't be evaluated: " + rule.LastError, try: "correct the rule"}
			}
		}
		if len(x.seen.alerts) > 0 {
			a := x.seen.alerts[0]
			x.work(event.StageBaseline, fmt.Sprintf("the alert is %s already, value %s", a.State, figure(a.Value)))
			return false, nil
		}
		x.done(event.StageBaseline, "")
		return true, nil
	}, func(context.Context) error {
		why := "Prometheus does not evaluate the rule"
		if len(x.seen.alerts) > 0 {
			a := x.seen.alerts[0]
			why = fmt.Sprintf("the alert is %s before anything was broken: %s, value %s", a.State, labels(a.Labels), figure(a.Value))
		} else if x.seen.promErr != nil {
			why = "Prometheus does not answer: " + x.seen.promErr.Error()
		}
		return &broken{link: event.LinkBaseline, why: why, try: "sandbox status, then the drill again"}
	})
}

// whileBroken injects the fault and follows the alert to its receiver.
func (x *run) whileBroken(ctx context.Context) error {
	x.work(event.StageInjected, "")
	rec, err := x.d.Prepare(ctx)
	if err != nil {
		return x.faultFailed(ctx, "can't be injected", err)
	}
	x.d.Fault = rec
	if err := x.Keep(rec); err != nil {
		return err
	}
	x.kept = true
	x.broken = time.Now()
	injecting, cancel := context.WithTimeout(ctx, injectTimeout)
	err = x.d.Injector.Inject(injecting, x.d.Fault)
	cancel()
	if err != nil {
		return x.faultFailed(ctx, "can't be injected", err)
	}
	x.injected = time.Now()
	x.done(event.StageInjected, "")
	x.work(event.StagePending, "")

	ctx, stop := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		x.sustain(ctx, stop)
	}()
	err = x.until(ctx, x.d.Within, x.delivery, x.diagnose)
	stop(nil)
	<-ended
	return err
}

// sustain keeps the fault up and the load coming until ctx ends. A fault that can't
// be kept up ends ctx.
func (x *run) sustain(ctx context.Context, stop context.CancelCauseFunc) {
	loaded := make(chan struct{})
	go func() {
		defer close(loaded)
		if x.d.Load != nil {
			x.d.Load.Send(ctx)
		}
	}()
	if err := x.d.Injector.Sustain(ctx, x.d.Fault); err != nil && ctx.Err() == nil {
		stop(&broken{link: event.LinkFault, why: "the fault can't be kept up: " + err.Error(), try: "sandbox status"})
	}
	<-loaded
}

// delivery looks how far the alert is and says whether it has arrived.
func (x *run) delivery(ctx context.Context) (bool, error) {
	x.lookAtPrometheus(ctx)
	x.value(ctx)
	if len(x.seen.alerts) > 0 {
		x.done(event.StagePending, "value "+figure(x.seen.alerts[0].Value))
	}
	if x.firing() >= 0 {
		x.done(event.StageFiring, "")
	}
	x.waitingFor(ctx)
	if !x.isDone(event.StageFiring) {
		return false, nil
	}
	x.lookAtAlertmanager(ctx)
	if len(x.seen.sent) > 0 {
		x.done(event.StageRouted, "")
	}
	// A notification proves all that comes before it.
	x.lookAtReceiver(ctx)
	x.waitingFor(ctx)
	for _, n := range x.seen.delivered {
		for _, a := range n.Alerts {
			if a.Status != statusFiring || n.ReceivedAt.Before(x.broken) || !x.counts(n.Receiver) {
				continue
			}
			x.done(event.StageRouted, "")
			if wrong := receiver.CheckPayload(a); len(wrong) > 0 {
				return false, &broken{
					link: event.LinkPayload, what: fmt.Sprintf("the alert %s arrives, but is not fit to be read", x.d.Alert),
					why: strings.Join(wrong, "; "), try: "correct the labels and annotations of the rule",
				}
			}
			note := "to " + n.Receiver
			if x.d.Unrouted {
				note = "to the drill alone: the stack has no receivers"
			}
			x.done(event.StageDelivered, note)
		}
	}
	return x.isDone(event.StageDelivered), nil
}

// firing returns the index of the first alert that fires, -1 where none does.
func (x *run) firing() int {
	return slices.IndexFunc(x.seen.alerts, func(a *promv1.Alert) bool { return a.State == promv1.AlertStateFiring })
}

// The states of an alert in a notification.
const (
	statusFiring   = "firing"
	statusResolved = "resolved"
)

// waitingFor says what the drill waits for at the stage that it is at.
func (x *run) waitingFor(ctx context.Context) {
	switch {
	case !x.isDone(event.StagePending):
		note := ""
		if x.now.Value != "" {
			note = x.now.Value
		}
		x.work(event.StagePending, note)
	case !x.isDone(event.StageFiring):
		note := "it was pending, and is not any more"
		if len(x.seen.alerts) > 0 {
			note = fmt.Sprintf("for %s of %s", time.Since(x.seen.alerts[0].ActiveAt).Round(time.Second), model.Duration(x.now.For))
		}
		x.work(event.StageFiring, note)
	case !x.isDone(event.StageRouted):
		x.work(event.StageRouted, "")
	case !x.isDone(event.StageDelivered):
		note := ""
		if why := x.held(ctx); why != "" {
			note = why
		}
		x.work(event.StageDelivered, note)
	}
}

// undo ends the fault, whatever has become of ctx.
func (x *run) undo(ctx context.Context) error {
	if !x.kept {
		return nil
	}
	interrupted := ctx.Err() != nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	if !interrupted {
		x.work(event.StageUndone, "")
	}
	if err := x.Undo(ctx, x.d.Fault); err != nil {
		return x.faultFailed(context.WithoutCancel(ctx), "is not undone", err)
	}
	x.undone = time.Now()
	x.done(event.StageUndone, "")
	return nil
}

func (x *run) faultFailed(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	b := &broken{link: event.LinkFault, what: "the fault of drill " + x.d.Alert + " " + what, why: err.Error(), try: "sandbox alerts drill --undo"}
	var said *fault.Error
	if errors.As(err, &said) {
		b.why = strings.TrimSuffix(said.What+": "+said.Reason(), ": ")
		b.try = cmp.Or(said.Try, b.try)
	}
	return b
}

// resolve follows the end of the alert to its receiver.
func (x *run) resolve(ctx context.Context) error {
	x.work(event.StageResolved, "")
	return x.until(ctx, x.d.Resolves, func(ctx context.Context) (bool, error) {
		x.lookAtPrometheus(ctx)
		x.value(ctx)
		if !x.isDone(event.StageResolved) {
			if !x.inactive() {
				x.work(event.StageResolved, x.now.Value)
				return false, nil
			}
			x.done(event.StageResolved, "")
			x.work(event.StageNotified, "")
		}
		// What Alertmanager still takes for active it may yet tell of.
		x.lookAtAlertmanager(ctx)
		x.lookAtReceiver(ctx)
		if x.seen.amErr != nil || x.active() || x.seen.receiverErr != nil || x.untold() {
			return false, nil
		}
		x.done(event.StageNotified, "")
		return true, nil
	}, x.whyNotResolved)
}

// inactive says whether Prometheus has evaluated the rules since the fault was
// undone, and none has an alert. A Prometheus that has just started has none
// either, and that says nothing.
func (x *run) inactive() bool {
	if x.seen.promErr != nil || len(x.seen.rules) < len(x.d.Watched) || len(x.seen.alerts) > 0 {
		return false
	}
	return !slices.ContainsFunc(x.seen.rules, func(r promv1.AlertingRule) bool {
		return r.Health != promv1.RuleHealthGood || r.LastEvaluation.Before(x.undone)
	})
}

// counts says whether what a receiver is told counts for the drill.
func (x *run) counts(name string) bool { return x.d.Receiver == "" || name == x.d.Receiver }

// active says whether Alertmanager has an alert of which it would tell a receiver
// that counts.
func (x *run) active() bool {
	return slices.ContainsFunc(x.seen.sent, func(a observe.SentAlert) bool {
		return a.Status.State == "active" && (x.d.Receiver == "" || routedTo(a, x.d.Receiver))
	})
}

// untold says whether there is an alert of which a receiver that counts was told
// that it fires, and not that it is over. One may be over before the fault is
// undone: the series of a pod ends with the pod.
func (x *run) untold() bool {
	type told struct{ receiver, fingerprint string }
	open := map[told]bool{}
	for _, n := range x.seen.delivered { // in the order in which they came
		if !x.counts(n.Receiver) {
			continue
		}
		for _, a := range n.Alerts {
			switch {
			case a.Status == statusFiring && !n.ReceivedAt.Before(x.broken):
				open[told{n.Receiver, a.Fingerprint}] = true
			case a.Status == statusResolved:
				delete(open, told{n.Receiver, a.Fingerprint})
			}
		}
	}
	return len(open) > 0
}

// until calls step again and again until it says that it is done or fails, or for
// as long as it has, after which late says what is missing.
func (x *run) until(ctx context.Context, has time.Duration, step func(context.Context) (bool, error), late func(context.Context) error) error {
	deadline := time.NewTimer(has)
	defer deadline.Stop()
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		ok, err := step(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-deadline.C:
			// Something may have come since the last look.
			if ok, err := step(ctx); ok || err != nil {
				return err
			}
			asking, cancel := context.WithTimeout(ctx, 2*askTimeout)
			defer cancel()
			return late(asking)
		case <-tick.C:
		}
	}
}

// lookAtPrometheus finds the rules that are watched, and their alerts.
func (x *run) lookAtPrometheus(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	groups, err := x.Prometheus.Rules(ctx)
	x.seen.promErr = err
	if err != nil {
		return
	}
	x.seen.rules, x.seen.alerts = nil, nil
	for _, g := range groups {
		for _, r := range g.Rules {
			rule, ok := r.(promv1.AlertingRule)
			if !ok || rule.Name != x.d.Alert || string(rule.Labels[Marker]) != x.d.Marker {
				continue
			}
			x.seen.rules = append(x.seen.rules, rule)
			x.seen.alerts = append(x.seen.alerts, rule.Alerts...)
		}
	}
	slices.SortStableFunc(x.seen.alerts, func(a, b *promv1.Alert) int { return a.ActiveAt.Compare(b.ActiveAt) })
}

func (x *run) lookAtAlertmanager(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	x.seen.sent, x.seen.amErr = x.Alertmanager.Alerts(ctx, x.matcher())
}

// matcher selects the drill's alerts in Alertmanager.
func (x *run) matcher() string {
	if x.d.Marker != "" {
		return fmt.Sprintf("%s=%q", Marker, x.d.Marker)
	}
	return fmt.Sprintf("alertname=%q", x.d.Alert)
}

func (x *run) lookAtReceiver(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	all, err := x.Receiver.Notifications(ctx)
	x.seen.receiverErr = err
	if err != nil {
		return
	}
	x.seen.delivered = nil
	for _, n := range all {
		n.Alerts = slices.DeleteFunc(slices.Clone(n.Alerts), func(a receiver.Alert) bool {
			return a.Labels[model.AlertNameLabel] != x.d.Alert || a.Labels[Marker] != x.d.Marker
		})
		if len(n.Alerts) > 0 {
			x.seen.delivered = append(x.seen.delivered, n)
		}
	}
}
