// Package drill proves that alerts work. A drill breaks something real and follows
// the alert through every link of the chain: Prometheus sees the fault, the alert
// is pending, it fires, Alertmanager gets it, a receiver is notified; and once
// the fault is undone, all of that again for the end of the alert. What does not
// happen in its time is a failure that names the link that is broken.
package drill

import (
	"context"
	"time"

	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/sandbox-stack/sandbox/internal/agent/receiver"
	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/inject"
	"github.com/sandbox-stack/sandbox/internal/observe"
)

// Marker is the label by which the alerts of a drill's copy of the rules are told
// from those of the rules themselves.
const Marker = "sandbox_drill"

// Drill is one drill, ready to run.
type Drill struct {
	// Alert is the name of the rule that is to fire.
	Alert string
	// Watched are the rules of that name, as Prometheus evaluates them for the drill.
	Watched []Watched
	// Marker is the value of the label Marker of the watched rules, "" where these
	// are the stack's own rules and not a copy.
	Marker string
	// Injector breaks what Fault, which it has prepared, describes. Prepare does so
	// anew right before that, as the sandbox may have changed since.
	Injector inject.Injector
	Fault    inject.Record
	Prepare  func(ctx context.Context) (inject.Record, error)
	// Load sends requests once the fault is there, until the alert is delivered; nil
	// where none are needed. It ends before the fault is undone: what it leaves is
	// cleaned up with the fault, and may itself be what the alert is about.
	Load *Load
	// Within and Resolves are the times for the two halves.
	Within, Resolves time.Duration
	// Settle is how long the alert may take to be inactive before the fault: what
	// happened earlier is in the rule's range for that long.
	Settle time.Duration
	// Compress is what the rules' durations were divided by, 1 for nothing.
	Compress int
	// Receiver has to get the alert; "" stands for any. Unrouted says that the
	// stack has no Alertmanager configuration, and so nobody to notify.
	Receiver string
	Unrouted bool
}

// Watched is a rule as it is evaluated.
type Watched struct {
	Expr string
	For  time.Duration
}

// Prometheus is what is asked of Prometheus.
type Prometheus interface {
	Rules(ctx context.Context) ([]promv1.RuleGroup, error)
	Query(ctx context.Context, promql string) (model.Value, error)
	// Alertmanagers returns the URLs that alerts are sent to.
	Alertmanagers(ctx context.Context) ([]string, error)
}

// Alertmanager is what is asked of Alertmanager.
type Alertmanager interface {
	// Alerts returns the alerts that match, such as `alertname="Down"`.
	Alerts(ctx context.Context, matcher string) ([]observe.SentAlert, error)
	// Notifying returns the receivers that notify somebody.
	Notifying() ([]string, error)
}

// Receiver is the drill's own receiver of notifications.
type Receiver interface {
	Notifications(ctx context.Context) ([]receiver.Notification, error)
}

// Runner runs drills in one sandbox, one after the other.
type Runner struct {
	Prometheus   Prometheus
	Alertmanager Alertmanager
	Receiver     Receiver
	// Keep records a fault before it is injected.
	Keep func(inject.Record) error
	// Undo undoes a fault, with all that belongs to it, and forgets it.
	Undo func(context.Context, inject.Record) error
	// Ready waits until the stack is healthy, so that a drill does not take what
	// the one before it has left behind for its own doing. note says what it
	// waits for. Nil does not wait.
	Ready func(ctx context.Context, note func(string)) error
	// Emit gets the drill anew whenever something of it has changed.
	Emit func(event.DrillChanged)
	// KeepBroken leaves the fault of a drill that failed in place.
	KeepBroken bool
}

const (
	// poll is the time between two looks.
	poll = 500 * time.Millisecond
	// askTimeout bounds one question.
	askTimeout = 5 * time.Second
	// injectTimeout bounds the injection.
	injectTimeout = time.Minute
	// undoTimeout bounds its end, which may wait for a cluster to be ready, or for
	// the emulator and all Terraform modules.
	undoTimeout = 10 * time.Minute
)

// broken is the link at which a drill failed.
type broken struct {
	link event.DrillLink
	what string // without it, it follows from the link
	why  string
	try  string
}

func (b *broken) Error() string { return string(b.link) + ": " + b.why }
