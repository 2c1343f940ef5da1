package drill

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sandbox-stack/sandbox/internal/agent/receiver"
	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/inject"
	"github.com/sandbox-stack/sandbox/internal/observe"
	"github.com/sandbox-stack/sandbox/internal/stack"
)

// chain is a Prometheus, an Alertmanager and a receiver that behave as the real
// ones do: an alert that is broken is pending after a scrape, fires after its
// `for`, and goes on from there; each link can be broken.
type chain struct {
	mu     sync.Mutex
	broken time.Time // since when the fault is there, zero where it is not
	mended time.Time
	marker string

	absent     bool          // no series for the expression
	untrue     bool          // the expression is false
	holds      time.Duration // the rule's for
	flaps      bool          // it is never true for as long as for
	unsent     bool          // Alertmanager does not get it
	inhibited  bool
	nowhere    bool // it is routed to a receiver that notifies nobody
	deaf       bool // the receiver gets nothing
	unreadable bool
	stays      bool // it goes on when the fault is undone
	already    bool // it fires before anything is broken
	silentEnd  bool // nobody is told that it is over
	restless   bool // it is pending when the fault is undone
	again      bool // it is pending again once it has stopped

	injectTakes, undoTakes time.Duration
	stops                  time.Duration // how long it fires, for ever where it is zero
	forgets                bool          // Alertmanager has it for the first five seconds only
	lingers                time.Duration // how long Alertmanager has it after the end

	kept, undone       int
	injectErr, undoErr error
	sustainErr         error
}

const scrape = 5 * time.Second

// state is the state of the alert now.
func (c *chain) state() (state string, since time.Time) {
	if c.already {
		return "firing", time.Now()
	}
	if c.broken.IsZero() || c.absent || c.untrue {
		return "", time.Time{}
	}
	if !c.mended.IsZero() && !c.stays && !c.restless && time.Since(c.mended) >= scrape {
		return "", time.Time{}
	}
	since = c.broken.Add(scrape)
	switch {
	case c.restless && !c.mended.IsZero():
		return "pending", c.mended
	case c.stops > 0 && time.Since(since) >= c.holds+c.stops:
		if c.again {
			return "pending", time.Now().Add(-time.Second)
		}
		return "", time.Time{}
	case time.Now().Before(since):
		return "", time.Time{}
	case c.flaps || time.Since(since) < c.holds:
		if c.flaps {
			since = time.Now().Add(-time.Second)
		}
		return "pending", since
	}
	return "firing", since
}

func (c *chain) labels() model.LabelSet {
	return model.LabelSet{"alertname": "Down", "severity": "critical", Marker: model.LabelValue(c.marker)}
}

func (c *chain) Rules(context.Context) ([]promv1.RuleGroup, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	rule := promv1.AlertingRule{
		Name: "Down", Health: promv1.RuleHealthGood, LastEvaluation: time.Now(),
		Labels: model.LabelSet{Marker: model.LabelValue(c.marker)},
	}
	if state, since := c.state(); state != "" {
		rule.Alerts = []*promv1.Alert{{ActiveAt: since, State: promv1.AlertState(state), Value: "0e+00", Labels: c.labels()}}
	}
	own := rule // of the rule itself, which is another one
	own.Labels, own.Alerts = nil, []*promv1.Alert{{State: promv1.AlertStateFiring, Value: "1"}}
	return []promv1.RuleGroup{{Rules: promv1.Rules{own, rule}}}, nil
}

func (c *chain) Query(_ context.Context, promql string) (model.Value, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case strings.Contains(promql, "notifications"):
		return model.Vector{}, nil
	case c.absent:
		return model.Vector{}, nil
	}
	return model.Vector{{Metric: model.Metric{"deployment": "web"}, Value: 3}}, nil
}

func (c *chain) Alertmanagers(context.Context) ([]string, error) {
	return []string{"http://alertmanager:9093/api/v2/alerts"}, nil
}

func (c *chain) Alerts(_ context.Context, matcher string) ([]observe.SentAlert, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if matcher == "" {
		return []observe.SentAlert{{Labels: map[string]string{"alertname": "Outage"}, Fingerprint: "f0"}}, nil
	}
	state, since := c.state()
	lingers := !c.mended.IsZero() && time.Since(c.mended) < c.lingers
	if (state != "firing" && !lingers) || c.unsent || (c.forgets && time.Since(since) > c.holds+5*time.Second) {
		return nil, nil
	}
	a := observe.SentAlert{Labels: map[string]string{"alertname": "Down"}, Fingerprint: "f1"}
	a.Status.State = "active"
	if c.inhibited {
		a.Status.State, a.Status.InhibitedBy = "suppressed", []string{"f0"}
	}
	name := "team"
	if c.nowhere {
		name = "nobody"
	}
	a.Receivers = append(a.Receivers, struct {
		Name string `json:"name"`
	}{name})
	return []observe.SentAlert{a}, nil
}

func (c *chain) Notifying() ([]string, error) { return []string{"team"}, nil }

func (c *chain) Notifications(context.Context) ([]receiver.Notification, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	state, since := c.state()
	if c.unsent || c.inhibited || c.nowhere || c.deaf || c.broken.IsZero() {
		return nil, nil
	}
	alert := receiver.Alert{
		Status: "firing", Fingerprint: "f1", Labels: map[string]string{"alertname": "Down", Marker: c.marker},
		Annotations: map[string]string{"summary": "web is down"},
	}
	if c.unreadable {
		alert.Annotations["summary"] = "<no value> is down"
	}
	var list []receiver.Notification
	if state == "firing" || !c.mended.IsZero() {
		list = append(list, receiver.Notification{Receiver: "team", ReceivedAt: since.Add(c.holds + time.Second), Alerts: []receiver.Alert{alert}})
		if state == "" {
			list[0].ReceivedAt = c.mended.Add(-time.Second)
		}
	}
	if state == "" && !c.mended.IsZero() && !c.silentEnd {
		over := alert
		over.Status = "resolved"
		list = append(list, receiver.Notification{Receiver: "team", ReceivedAt: time.Now(), Alerts: []receiver.Alert{over}})
	}
	return list, nil
}

// The chain is also what is broken.

func (c *chain) Prepare(context.Context) (inject.Record, error) {
	return inject.Record{What: "scale web to 0"}, nil
}

func (c *chain) Inject(ctx context.Context, _ inject.Record) error {
	c.mu.Lock()
	c.broken = time.Now()
	c.mu.Unlock()
	if err := takes(ctx, c.injectTakes); err != nil {
		return err
	}
	return c.injectErr
}

// takes waits for as long as something takes.
func takes(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (c *chain) Sustain(ctx context.Context, _ inject.Record) error {
	if c.sustainErr != nil {
		return c.sustainErr
	}
	<-ctx.Done()
	return nil
}

func (c *chain) Undo(ctx context.Context, _ inject.Record) error {
	if err := takes(ctx, c.undoTakes); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mended = time.Now()
	c.undone++
	return c.undoErr
}

func (c *chain) drill(within time.Duration) (Runner, Drill) {
	c.marker = "scale-1"
	runner := Runner{
		Prometheus: c, Alertmanager: c, Receiver: c, Emit: func(event.DrillChanged) {},
		Keep: func(inject.Record) error { c.kept++; return nil },
		Undo: c.Undo,
	}
	return runner, Drill{
		Alert: "Down", Watched: []Watched{{Expr: "available == 0", For: c.holds}}, Marker: c.marker, Injector: c,
		Fault: inject.Record{What: "scale web to 0"}, Prepare: c.Prepare, Within: within, Resolves: 30 * time.Second, Settle: 20 * time.Second, Compress: 20,
	}
}

func TestADrillFollowsTheAlertToItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &chain{holds: 10 * time.Second}
		runner, d := c.drill(time.Minute)
		var told []string
		runner.Emit = func(d event.DrillChanged) {
			if at := d.Stage(); at.State == event.StageDone && !slices.Contains(told, string(at.Name)) {
				told = append(told, string(at.Name))
			}
		}
		d.Load = &Load{spec: stack.DrillLoad{Rate: 2, Path: "/orders"}, answers: map[string]int{}, send: func(context.Context) (int, error) { return 201, nil }}
		got := runner.Run(t.Context(), d)
		require.Equal(t, event.DrillPassed, got.State, "%+v", got.Error)
		assert.Nil(t, got.Error)
		injected := got.When(event.StageInjected)
		for _, s := range got.Stages {
			assert.Equal(t, event.StageDone, s.State, s.Name)
		}
		assert.Equal(t, 5*time.Second, got.When(event.StagePending).Sub(injected))
		assert.Equal(t, 15*time.Second, got.When(event.StageFiring).Sub(injected))
		assert.Regexp(t, `^; 3[01] requests to /orders were answered: 3[01] 201 Created$`, d.Load.note(), "15 s of two a second")
		assert.Equal(t, []int{1, 1}, []int{c.kept, c.undone})
		assert.Contains(t, told, string(event.StageFiring))
	})
}

func TestADrillNamesTheBrokenLink(t *testing.T) {
	for name, tc := range map[string]struct {
		chain *chain
		link  event.DrillLink
		says  string
	}{
		"metric absent":   {&chain{absent: true}, event.LinkMetric, "no target exposes available"},
		"expression":      {&chain{untrue: true}, event.LinkExpression, `available is {deployment="web"} 3, needs == 0`},
		"for":             {&chain{flaps: true, holds: time.Minute}, event.LinkFor, "has to hold for 1m,"},
		"alertmanager":    {&chain{unsent: true}, event.LinkAlertmanager, "Prometheus sends to http://alertmanager:9093"},
		"inhibition":      {&chain{inhibited: true}, event.LinkRoute, "inhibited by Outage"},
		"route":           {&chain{nowhere: true}, event.LinkRoute, "routed to nobody, which notifies nobody"},
		"receiver":        {&chain{deaf: true}, event.LinkReceiver, "the receiver was not told"},
		"payload":         {&chain{unreadable: true}, event.LinkPayload, "<no value> is down"},
		"it goes on":      {&chain{stays: true}, event.LinkResolve, "it still fires"},
		"already":         {&chain{already: true}, event.LinkBaseline, "before anything was broken"},
		"no end is told":  {&chain{silentEnd: true}, event.LinkReceiver, "the receiver was not told"},
		"not injected":    {&chain{injectErr: errors.New("no such pod")}, event.LinkFault, "no such pod"},
		"not kept up":     {&chain{sustainErr: errors.New("the node is gone")}, event.LinkFault, "the node is gone"},
		"not undone":      {&chain{undoErr: errors.New("no contact")}, event.LinkFault, "no contact"},
		"another one got": {&chain{}, event.LinkRoute, "routed to team, not to pager"},
		"got by nobody":   {&chain{nowhere: true}, event.LinkRoute, "routed to nobody, which notifies nobody"},
		"it stopped":      {&chain{deaf: true, stops: 8 * time.Second}, event.LinkExpression, `it does not fire any more; available is {deployment="web"} 3`},
		"it began anew":   {&chain{deaf: true, stops: 8 * time.Second, again: true}, event.LinkFor, "it is pending again: it has to hold for 10s, and did for 1s"},
		"held, stopped":   {&chain{inhibited: true, stops: 8 * time.Second}, event.LinkExpression, "Alertmanager said: it is inhibited by Outage"},
		"route, at times": {&chain{nowhere: true, forgets: true}, event.LinkRoute, "routed to nobody, which notifies nobody"},
		"deaf, at times":  {&chain{deaf: true, forgets: true}, event.LinkReceiver, "the receiver was not told"},
		"still pending":   {&chain{restless: true}, event.LinkResolve, "it is still pending"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := tc.chain
				if c.holds == 0 {
					c.holds = 10 * time.Second
				}
				runner, d := c.drill(time.Minute)
				switch name {
				case "another one got":
					d.Receiver = "pager"
				case "got by nobody":
					d.Receiver = "nobody"
				}
				got := runner.Run(t.Context(), d)
				assert.Equal(t, event.DrillFailed, got.State)
				assert.Equal(t, tc.link, got.Link)
				require.NotNil(t, got.Error)
				assert.Contains(t, got.Error.Why, tc.says)
				assert.NotEmpty(t, got.Error.What)
				assert.NotEmpty(t, got.Error.Try)
				assert.Equal(t, event.StageFailed, got.Stage().State, "the stage that it stopped at")
				if tc.link != event.LinkBaseline {
					assert.Equal(t, 1, c.undone, "the fault is undone whatever has failed")
				}
			})
		})
	}
}

func TestAnInterruptedDrillUndoesItsFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &chain{holds: time.Minute}
		runner, d := c.drill(5 * time.Minute)
		ctx, cancel := context.WithTimeoutCause(t.Context(), 30*time.Second, errors.New("stopped by the user"))
		defer cancel()
		got := runner.Run(ctx, d)
		assert.Equal(t, event.DrillInterrupted, got.State)
		assert.Empty(t, got.Link, "it says nothing about the alert")
		assert.Equal(t, []int{1, 1}, []int{c.kept, c.undone})
		assert.Equal(t, "its fault was undone", got.Error.Why)
	})
}

func TestAFaultThatIsNotUndoneComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &chain{untrue: true, undoErr: context.DeadlineExceeded}
		runner, d := c.drill(time.Minute)
		got := runner.Run(t.Context(), d)
		assert.Equal(t, event.LinkFault, got.Link)
		assert.Contains(t, got.Error.What, "is not undone")
		assert.Contains(t, got.Error.Why, "before that: expression false")
		assert.Equal(t, "sandbox alerts drill --undo", got.Error.Try)
	})
}

func TestAnInterruptedInjectionMayHaveBrokenSomething(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &chain{undoErr: errors.New("no contact")}
		runner, d := c.drill(time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		runner.Keep = func(inject.Record) error { cancel(); return nil }
		got := runner.Run(ctx, d)
		assert.Equal(t, event.DrillInterrupted, got.State)
		assert.Contains(t, got.Error.Why, "its fault is not undone")
		assert.Equal(t, "sandbox alerts drill --undo", got.Error.Try)
	})
}

func TestARestartOfPrometheusIsNotTheEnd(t *testing.T) {
	x := run{d: Drill{Watched: []Watched{{}}}, undone: time.Now()}
	assert.False(t, x.inactive(), "the rule is not loaded")
	x.seen.rules = []promv1.AlertingRule{{Health: promv1.RuleHealthGood, LastEvaluation: time.Now().Add(-time.Minute)}}
	assert.False(t, x.inactive(), "it was not evaluated since")
	x.seen.rules[0].LastEvaluation = time.Now().Add(time.Second)
	assert.True(t, x.inactive())
	x.seen.rules[0].Health = promv1.RuleHealthUnknown
	assert.False(t, x.inactive())
}

func TestEveryAlertThatFiredHasToEnd(t *testing.T) {
	now := time.Now()
	told := func(to, status, fingerprint string, at time.Duration) receiver.Notification {
		return receiver.Notification{Receiver: to, ReceivedAt: now.Add(at), Alerts: []receiver.Alert{{Status: status, Fingerprint: fingerprint}}}
	}
	x := run{broken: now}
	hears := func(n receiver.Notification) { x.seen.delivered = append(x.seen.delivered, n) }
	hears(told("team", "firing", "old", -time.Second))
	assert.False(t, x.untold(), "it fired before anything was broken")
	hears(told("team", "firing", "a", time.Second))
	hears(told("team", "firing", "b", 30*time.Second))
	hears(told("team", "resolved", "a", 40*time.Second))
	assert.True(t, x.untold(), "b goes on")
	hears(told("team", "resolved", "b", 3*time.Minute))
	assert.False(t, x.untold(), "a ended before, with its pod")
	hears(told("team", "firing", "a", 4*time.Minute))
	assert.True(t, x.untold(), "it came back")
	hears(told("slack", "resolved", "a", 5*time.Minute))
	assert.True(t, x.untold(), "another one was told")
	hears(told("team", "resolved", "a", 6*time.Minute))
	hears(told("slack", "firing", "a", 7*time.Minute))
	assert.True(t, x.untold(), "any receiver counts")
	x.d.Receiver = "team"
	assert.False(t, x.untold(), "the others do not count")
}

func TestWhatIsToldDuringTheInjectionCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &chain{holds: 10 * time.Second, injectTakes: 25 * time.Second}
		runner, d := c.drill(time.Minute)
		got := runner.Run(t.Context(), d)
		require.Equal(t, event.DrillPassed, got.State, "%+v", got.Error)

		c = &chain{holds: 10 * time.Second, injectTakes: 25 * time.Second, silentEnd: true}
		runner, d = c.drill(time.Minute)
		got = runner.Run(t.Context(), d)
		assert.Equal(t, event.DrillFailed, got.State, "nobody is told of the end")
		assert.Equal(t, event.LinkReceiver, got.Link)
	})
}

func TestTheEndIsNotToldWhileAlertmanagerHasTheAlert(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &chain{holds: 10 * time.Second, lingers: 15 * time.Second}
		runner, d := c.drill(time.Minute)
		got := runner.Run(t.Context(), d)
		require.Equal(t, event.DrillPassed, got.State, "%+v", got.Error)
		assert.Equal(t, 5*time.Second, got.When(event.StageResolved).Sub(c.mended))
		assert.Equal(t, 15*time.Second, got.When(event.StageNotified).Sub(c.mended))

		c = &chain{holds: 10 * time.Second, lingers: time.Hour}
		runner, d = c.drill(time.Minute)
		got = runner.Run(t.Context(), d)
		require.Equal(t, event.DrillFailed, got.State)
		assert.Equal(t, event.LinkAlertmanager, got.Link)
	})
}

func TestAnUndoMayTakeLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &chain{holds: 10 * time.Second, undoTakes: 6 * time.Minute}
		runner, d := c.drill(time.Minute)
		got := runner.Run(t.Context(), d)
		assert.Equal(t, event.DrillPassed, got.State, "%+v", got.Error)
		assert.Equal(t, 1, c.undone)
	})
}

func TestAFaultCanBeKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &chain{untrue: true}
		runner, d := c.drill(time.Minute)
		runner.KeepBroken = true
		got := runner.Run(t.Context(), d)
		assert.Equal(t, event.DrillFailed, got.State)
		assert.Zero(t, c.undone)
		assert.Contains(t, got.Error.Why, "the fault is left in place: ")
		assert.Equal(t, "sandbox alerts drill --undo", got.Error.Try)
	})
}

func TestADrillWaitsUntilTheStackIsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &chain{}
		runner, d := c.drill(time.Minute)
		runner.Ready = func(_ context.Context, note func(string)) error {
			note("waiting for release/web")
			return errors.New("release/web is failed")
		}
		got := runner.Run(t.Context(), d)
		assert.Equal(t, event.DrillFailed, got.State)
		assert.Equal(t, "release/web is failed", got.Error.What)
		assert.Zero(t, c.kept, "nothing was broken")
	})
}
