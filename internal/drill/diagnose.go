package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/observe"
	"github.com/sandbox-stack/sandbox/internal/rules"
)

// valueInterval is the time between two looks at the value of the expression.
const valueInterval = 2 * time.Second

// shownSeries is how many series of a value are shown.
const shownSeries = 3

// value asks for what the expression is now, for people to see it move.
func (x *run) value(ctx context.Context) {
	if time.Since(x.asked) < valueInterval || x.seen.promErr != nil {
		return
	}
	x.asked = time.Now()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for _, w := range x.d.Watched {
		conditions, err := rules.Explain(w.Expr)
		if err != nil || len(conditions) == 0 {
			continue
		}
		c := conditions[0]
		if v, err := x.Prometheus.Query(ctx, c.Expr); err == nil {
			if text := fmt.Sprintf("%s, needs %s %s", shown(v, false), c.Op, c.Threshold); text != x.now.Value {
				x.now.Value = text
				x.emit()
			}
			return
		}
	}
}

// shown writes a value, without the series' labels or with them.
func shown(v model.Value, withLabels bool) string {
	switch v := v.(type) {
	case *model.Scalar:
		return figure(v.Value.String())
	case model.Vector:
		if len(v) == 0 {
			return "no value"
		}
		slices.SortFunc(v, func(a, b *model.Sample) int {
			switch {
			case a.Value > b.Value:
				return -1
			case a.Value < b.Value:
				return 1
			}
			return strings.Compare(a.Metric.String(), b.Metric.String())
		})
		var parts []string
		for i, s := range v {
			if i == shownSeries {
				parts = append(parts, fmt.Sprintf("… %d in all", len(v)))
				break
			}
			part := figure(s.Value.String())
			if withLabels {
				part = labels(model.LabelSet(s.Metric)) + " " + part
			}
			parts = append(parts, part)
		}
		return strings.Join(parts, ", ")
	case nil:
		return "no value"
	}
	return v.String()
}

// diagnose says which link of the chain is broken, when the alert has not arrived
// in its time: the first that is not as it should be.
func (x *run) diagnose(ctx context.Context) error {
	x.lookAtPrometheus(ctx)
	if x.seen.promErr != nil {
		return &broken{link: event.LinkMetric, why: "Prometheus does not answer: " + x.seen.promErr.Error(), try: "sandbox logs observe/prometheus"}
	}
	if !x.isDone(event.StageFiring) {
		if len(x.seen.alerts) > 0 {
			a := x.seen.alerts[0]
			return &broken{
				link: event.LinkFor,
				why:  fmt.Sprintf("it has to hold for %s, and did for %s: pending since %s after the fault, value %s", model.Duration(x.now.For), ago(a.ActiveAt), max(a.ActiveAt.Sub(x.injected), 0).Round(time.Second), figure(a.Value)),
				try:  "a longer within:, or a shorter for: of the rule",
			}
		}
		return x.whyInactive(ctx)
	}
	if x.firing() < 0 {
		return x.whyStopped(ctx)
	}
	// Of one that it has had, Alertmanager may not know yet that it fires again.
	if b := x.whyNotSent(ctx); b != nil && (x.seen.amErr != nil || !x.isDone(event.StageRouted)) {
		return b
	}
	if why := x.held(ctx); why != "" {
		try := "correct the routes and inhibit_rules of Alertmanager's configuration"
		if strings.HasPrefix(why, "it is silenced") {
			try = "sandbox open observe/alertmanager, and expire the silence"
		}
		return &broken{link: event.LinkRoute, why: why, try: try}
	}
	return x.whyNotReceived(ctx)
}

// whyStopped says why an alert that has fired does not any more, before anybody was
// told of it.
func (x *run) whyStopped(ctx context.Context) error {
	b := &broken{link: event.LinkFor, try: "a fault that lasts, or keep_firing_for: of the rule"}
	if len(x.seen.alerts) > 0 {
		a := x.seen.alerts[0]
		b.why = fmt.Sprintf("it is pending again: it has to hold for %s, and did for %s, value %s", model.Duration(x.now.For), ago(a.ActiveAt), figure(a.Value))
	} else if err := x.whyInactive(ctx); !errors.As(err, &b) {
		return err
	}
	b.what = fmt.Sprintf("the alert %s fired, and was not delivered within %s", x.d.Alert, model.Duration(x.d.Within))
	b.why = "it does not fire any more; " + b.why
	if x.heldBy != "" {
		b.why += "; Alertmanager said: " + x.heldBy
	}
	return b
}

func ago(t time.Time) time.Duration { return time.Since(t).Round(time.Second) }

// whyInactive says why the expressions of the rules are not true: something that
// they are about is not there, or their value is another.
func (x *run) whyInactive(ctx context.Context) error {
	var missing, untrue []string
	for _, w := range x.d.Watched {
		absent, err := rules.CanFire(w.Expr, func(metric string) (bool, error) { return x.exists(ctx, fmt.Sprintf("{__name__=%q}", metric)) })
		if err != nil {
			return err
		}
		if len(absent) > 0 {
			missing = append(missing, fmt.Sprintf("no target exposes %s", strings.Join(absent, ", ")))
			continue
		}
		empty, why, err := x.explain(ctx, w.Expr)
		if err != nil {
			return err
		}
		if empty {
			missing = append(missing, why)
			continue
		}
		untrue = append(untrue, why)
	}
	load := x.d.Load.note()
	if len(untrue) == 0 && len(missing) > 0 {
		return &broken{link: event.LinkMetric, why: strings.Join(missing, "; ") + load, try: "sandbox open observe/prometheus, and look at its targets"}
	}
	return &broken{link: event.LinkExpression, why: strings.Join(append(untrue, missing...), "; ") + load, try: "another fault, or another threshold of the rule"}
}

func (x *run) exists(ctx context.Context, selector string) (bool, error) {
	v, err := x.Prometheus.Query(ctx, "count("+selector+")")
	if err != nil {
		return false, err
	}
	vector, ok := v.(model.Vector)
	return !ok || len(vector) > 0, nil
}

// explain says why an expression is false. empty says that there are no series
// for it at all.
func (x *run) explain(ctx context.Context, expr string) (empty bool, why string, err error) {
	conditions, err := rules.Explain(expr)
	if err != nil {
		return false, "", err
	}
	var values []string
	for _, c := range conditions {
		v, err := x.Prometheus.Query(ctx, c.Expr)
		if err != nil {
			return false, "", err
		}
		if vector, ok := v.(model.Vector); ok && len(vector) == 0 {
			return true, x.noSeries(ctx, c.Expr), nil
		}
		values = append(values, fmt.Sprintf("%s is %s, needs %s %s", c.Expr, shown(v, true), c.Op, c.Threshold))
	}
	if len(values) == 0 {
		return true, x.noSeries(ctx, expr), nil
	}
	return false, strings.Join(values, "; "), nil
}

// noSeries names the selector of an expression that matches nothing.
func (x *run) noSeries(ctx context.Context, expr string) string {
	selectors, err := rules.Selectors(expr)
	if err != nil {
		return expr + " has no value"
	}
	for _, s := range selectors {
		if there, err := x.exists(ctx, s.Text); err == nil && !there {
			return fmt.Sprintf("no series matches %s", s.Text)
		}
	}
	return fmt.Sprintf("%s has no value: its series have no samples in the range, or do not match each other", expr)
}

// whyNotSent says why Alertmanager does not have an alert that fires, nil where
// it has it.
func (x *run) whyNotSent(ctx context.Context) *broken {
	x.lookAtAlertmanager(ctx)
	if len(x.seen.sent) > 0 {
		return nil
	}
	b := &broken{link: event.LinkAlertmanager, try: "sandbox logs observe/alertmanager"}
	to, err := x.Prometheus.Alertmanagers(ctx)
	switch {
	case x.seen.amErr != nil:
		b.why = "Alertmanager does not answer: " + x.seen.amErr.Error()
	case err != nil:
		b.why = err.Error()
	case len(to) == 0:
		b.why = "Prometheus has no Alertmanager to send alerts to"
	default:
		b.why = "Prometheus sends to " + strings.Join(to, ", ") + ", and Alertmanager does not have the alert"
		v, err := x.Prometheus.Query(ctx, "sum(increase(prometheus_notifications_errors_total[1m])) > 0")
		if vector, ok := v.(model.Vector); err == nil && ok && len(vector) > 0 {
			b.why += ", errors in the last minute: " + shown(v, false)
		}
	}
	return b
}

// held says what keeps Alertmanager from notifying somebody of the alerts, by
// what it said when it last had some; "" where it notifies somebody of one of
// them at least.
func (x *run) held(ctx context.Context) string {
	if len(x.seen.sent) == 0 {
		return x.heldBy
	}
	notifying, err := x.Alertmanager.Notifying()
	if err != nil {
		return err.Error()
	}
	x.heldBy = ""
	var why []string
	for _, a := range x.seen.sent {
		reason := x.heldBack(ctx, a, notifying)
		if reason == "" {
			return ""
		}
		why = append(why, reason)
	}
	slices.Sort(why)
	x.heldBy = strings.Join(slices.Compact(why), "; ")
	return x.heldBy
}

// routedTo says whether Alertmanager routes an alert to a receiver.
func routedTo(a observe.SentAlert, name string) bool {
	for _, r := range a.Receivers {
		if r.Name == name {
			return true
		}
	}
	return false
}

func (x *run) heldBack(ctx context.Context, a observe.SentAlert, notifying []string) string {
	st := a.Status
	switch {
	case len(st.InhibitedBy) > 0:
		return "it is inhibited by " + x.names(ctx, st.InhibitedBy)
	case len(st.SilencedBy) > 0:
		return "it is silenced: " + strings.Join(st.SilencedBy, ", ")
	case len(st.MutedBy) > 0:
		return "it is muted by the time interval " + strings.Join(st.MutedBy, ", ")
	}
	var to []string
	for _, r := range a.Receivers {
		if x.counts(r.Name) && slices.Contains(notifying, r.Name) {
			return ""
		}
		to = append(to, r.Name)
	}
	where := strings.Join(to, ", ")
	switch {
	case x.d.Receiver != "" && routedTo(a, x.d.Receiver):
		where = x.d.Receiver // whatever the others do
	case x.d.Receiver != "":
		return fmt.Sprintf("it is routed to %s, not to %s", where, x.d.Receiver)
	}
	return fmt.Sprintf("it is routed to %s, which notifies nobody", where)
}

// names turns the fingerprints of alerts into their names.
func (x *run) names(ctx context.Context, fingerprints []string) string {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	all, err := x.Alertmanager.Alerts(ctx, "")
	if err != nil {
		return strings.Join(fingerprints, ", ")
	}
	var names []string
	for _, f := range fingerprints {
		name := f
		for _, a := range all {
			if a.Fingerprint == f {
				name = a.Labels[model.AlertNameLabel]
			}
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

// whyNotReceived says why the receiver was not told of what Alertmanager has
// routed to it.
func (x *run) whyNotReceived(ctx context.Context) error {
	x.lookAtReceiver(ctx)
	b := &broken{link: event.LinkReceiver, try: "sandbox logs observe/alertmanager"}
	if x.seen.receiverErr != nil {
		b.why = "the drill's receiver does not answer: " + x.seen.receiverErr.Error()
		return b
	}
	b.why = "Alertmanager has routed it, and the receiver was not told"
	v, err := x.Prometheus.Query(ctx, `sum by (integration, reason) (alertmanager_notifications_failed_total) > 0`)
	if vector, ok := v.(model.Vector); err == nil && ok && len(vector) > 0 {
		b.why += "; failed notifications: " + shown(v, true)
	}
	return b
}

// whyNotResolved says what goes on after the fault was undone.
func (x *run) whyNotResolved(ctx context.Context) error {
	x.lookAtPrometheus(ctx)
	if x.seen.promErr != nil {
		return &broken{link: event.LinkResolve, why: "Prometheus does not answer: " + x.seen.promErr.Error(), try: "sandbox logs observe/prometheus"}
	}
	if !x.isDone(event.StageResolved) && len(x.seen.alerts) == 0 {
		return &broken{link: event.LinkResolve, why: "Prometheus has not evaluated the rule since the fault was undone", try: "sandbox logs observe/prometheus"}
	}
	if i := x.firing(); i >= 0 {
		a := x.seen.alerts[i]
		return &broken{
			link: event.LinkResolve, why: fmt.Sprintf("it still fires: %s, value %s; %s", labels(a.Labels), figure(a.Value), x.now.Value),
			try: "sandbox status, whether the fault is gone, or a longer resolves:",
		}
	}
	if !x.isDone(event.StageResolved) {
		a := x.seen.alerts[0]
		return &broken{
			link: event.LinkResolve, why: fmt.Sprintf("it is still pending: %s, value %s; %s", labels(a.Labels), figure(a.Value), x.now.Value),
			try: "sandbox status, whether the fault is gone, or a longer resolves:",
		}
	}
	x.lookAtAlertmanager(ctx)
	if x.seen.amErr != nil {
		return &broken{link: event.LinkAlertmanager, why: "Alertmanager does not answer: " + x.seen.amErr.Error(), try: "sandbox logs observe/alertmanager"}
	}
	if x.active() {
		return &broken{link: event.LinkAlertmanager, why: "Alertmanager still takes it for active", try: "sandbox logs observe/alertmanager"}
	}
	return x.whyNotReceived(ctx)
}
