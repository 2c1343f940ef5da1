package event

import "time"

// State is the health of a component.
type State string

// The states a component can be in. Losing contact makes a component stale;
// it never stays ok unseen.
const (
	StateOK       State = "ok"
	StateDegraded State = "degraded"
	StateFailed   State = "failed"
	StateWorking  State = "working"
	StateWaiting  State = "waiting"
	StateOff      State = "off"
	StateStale    State = "stale"
)

// ReasonGone is the reason of a component that is off because it is no longer
// there: a pod that another has replaced, or a workload that a chart has no
// more. A View forgets it.
const ReasonGone = "no longer there"

// Healthy reports whether a stack with a component in this state can still
// count as healthy: the component is ok, or off on purpose.
func (s State) Healthy() bool { return s == StateOK || s == StateOff }

// Health is what is known of one component.
type Health struct {
	// Component is a stable path such as "cluster", "cluster/node/NAME",
	// "aws", "aws/s3", "terraform/infra", "image/web-app",
	// "release/web-app", "release/web-app/Deployment/web-app" and below
	// that ".../Pod/NAME", "observe/prometheus" or "observe/rules".
	Component string `json:"component"`
	State     State  `json:"state"`
	// Reason says why a state is not ok, naming the object that blocks it
	// ("Deployment/web-app 1 of 3: ImagePullBackOff"). With ok it may hold
	// a short figure ("3 of 3 ready").
	Reason string `json:"reason,omitempty"`
	// Blames is the component that causes this state, where another one does.
	Blames string `json:"blames,omitempty"`
	// Try is a command that helps with a state that is not ok.
	Try string `json:"try,omitempty"`
	// URL is where the component answers on this host.
	URL string `json:"url,omitempty"`
	// Since is when the component entered the state, where that is known.
	Since time.Time `json:"since,omitzero"`
}

// Progress is what a running step is doing.
type Progress struct {
	// Text is a short present-tense line: "importing images".
	Text string `json:"text"`
	// Done of Total, in Unit ("bytes", "objects", "packages"); Total 0
	// means that the amount is unknown.
	Done  int64  `json:"done,omitempty"`
	Total int64  `json:"total,omitempty"`
	Unit  string `json:"unit,omitempty"`
	// Blockers name what a wait waits for, each with its reason.
	Blockers []string `json:"blockers,omitempty"`
}

// Reporter takes what a running piece of work has to say. Implementations are
// safe for concurrent use and never block for long.
type Reporter interface {
	// Progress replaces what the work last said it was doing.
	Progress(Progress)
	// Log passes on one line of output; source names the tool it came from.
	Log(source, line string)
}

// Discard is a Reporter for callers that do not listen.
var Discard Reporter = discard{}

type discard struct{}

func (discard) Progress(Progress)  {}
func (discard) Log(string, string) {}
