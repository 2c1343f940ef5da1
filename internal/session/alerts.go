package session

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"go.yaml.in/yaml/v3"

	"github.com/sandbox-stack/sandbox/internal/drill"
	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/observe"
	"github.com/sandbox-stack/sandbox/internal/rules"
	"github.com/sandbox-stack/sandbox/internal/stack"
)

// DefaultCompress is what a drill divides the durations of rules by.
const DefaultCompress = stack.DefaultCompress

// Alert is an alerting rule of the stack and what is known of it.
type Alert struct {
	Alert    string `json:"alert"`
	Group    string `json:"group"`
	File     string `json:"file"`
	Severity string `json:"severity,omitempty"`
	Expr     string `json:"expr"`
	For      string `json:"for"`
	// State is inactive, pending or firing, and unknown where Prometheus does not say.
	State string `json:"state"`
	// Tested says that a unit test of the stack is about it.
	Tested bool `json:"tested"`
	// Fired says that it has fired while Prometheus has kept its data, for whatever reason.
	Fired bool `json:"fired"`
	// Drill is what its drill breaks, "" where none is declared, and LastDrill how
	// the last one went.
	Drill     string              `json:"drill,omitempty"`
	LastDrill *event.DrillChanged `json:"lastDrill,omitempty"`
	// Missing are metrics that no target exposes, for which it can never fire.
	Missing []string `json:"missing,omitempty"`
}

// Proof says what proves that the alert works.
func (a Alert) Proof() []string {
	var proof []string
	if a.Tested {
		proof = append(proof, "test")
	}
	if a.LastDrill != nil && !a.LastDrill.Passed.IsZero() {
		proof = append(proof, "drill")
	}
	if a.Fired {
		proof = append(proof, "has fired")
	}
	return proof
}

// Note says what there is to do about the alert, or "".
func (a Alert) Note() string {
	switch {
	case len(a.Missing) > 0:
		return "can never fire: no target exposes " + strings.Join(a.Missing, ", ")
	case !a.Tested && a.Drill == "":
		return "neither test nor drill"
	case a.LastDrill != nil && a.LastDrill.Link != "":
		return "broken link: " + string(a.LastDrill.Link)
	case a.LastDrill != nil && a.LastDrill.Error != nil:
		first, _, _ := strings.Cut(cmp.Or(a.LastDrill.Error.Why, a.LastDrill.Error.What), "\n")
		return first
	case !a.Fired:
		return "never fired"
	}
	return ""
}

// DrillWord says how the last drill of the alert went, and when.
func (a Alert) DrillWord() string {
	switch {
	case a.LastDrill != nil && a.LastDrill.State == event.DrillRunning:
		return "running"
	case a.LastDrill != nil:
		return fmt.Sprintf("%s %s ago", a.LastDrill.State, ago(time.Since(a.LastDrill.Finished)))
	case a.Drill != "":
		return "never"
	}
	return "none declared"
}

// ago is a time in one figure.
func ago(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// Alerts returns the alerting rules of the stack, in the order of their files.
func (s *Session) Alerts(ctx context.Context) ([]Alert, error) {
	if !s.stack.Spec.Observability.On() {
		return nil, fault.New(fault.Unavailable, "sandbox "+s.name+" has no alerts", "observability is off in its stack", "set observability.enabled, then sandbox up")
	}
	list, err := s.declaredAlerts()
	if err != nil {
		return nil, err
	}
	prom, err := s.prometheus()
	if err != nil {
		return nil, err
	}
	states, err := prom.Alerts(ctx)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "sandbox status", "Prometheus does not say how the alerts are")
	}
	fired, err := firedAlerts(ctx, prom)
	if err != nil {
		return nil, err
	}
	exists, err := exposed(ctx, prom)
	if err != nil {
		return nil, err
	}
	for i := range list {
		a := &list[i]
		a.State, a.Fired = stateOf(states, a.Alert), fired[a.Alert]
		if a.Missing, err = rules.CanFire(a.Expr, exists); err != nil {
			return nil, fmt.Errorf("alert %s: %w", a.Alert, err)
		}
	}
	return list, nil
}

// declaredAlerts returns what the stack and the record say of the alerts.
func (s *Session) declaredAlerts() ([]Alert, error) {
	last, err := s.LastDrills()
	if err != nil {
		return nil, err
	}
	tested, err := s.testedAlerts()
	if err != nil {
		return nil, err
	}
	drills := s.Drills()
	var list []Alert
	for _, file := range s.stack.Spec.Observability.Rules {
		groups, err := stack.ParseRules(s.stack.Path(file))
		if err != nil {
			return nil, err
		}
		eachAlert(groups, func(group string, r rulefmt.Rule) {
			a := Alert{
				Alert: r.Alert, Group: group, File: file, Severity: r.Labels["severity"], Expr: r.Expr, For: r.For.String(),
				State: "unknown", Tested: tested[r.Alert], Drill: drills[r.Alert],
			}
			if d, ok := last[r.Alert]; ok {
				a.LastDrill = &d
			}
			list = append(list, a)
		})
	}
	return list, nil
}

func eachAlert(groups *rulefmt.RuleGroups, f func(group string, r rulefmt.Rule)) {
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			if r.Alert != "" {
				f(g.Name, r)
			}
		}
	}
}

// stateOf is the worst state of a rule's alerts, without those of a drill's copy.
func stateOf(states []event.AlertChanged, alert string) string {
	rank := []string{"inactive", "pending", "firing"}
	state := "unknown"
	for _, a := range states {
		if a.Rule == alert && a.Labels[drill.Marker] == "" && slices.Index(rank, a.State) > slices.Index(rank, state) {
			state = a.State
		}
	}
	return state
}

// firedAlerts returns the names of the alerts that have fired, by Prometheus' own
// record of alerts; those of drills' copies count.
func firedAlerts(ctx context.Context, prom *observe.Prometheus) (map[string]bool, error) {
	value, err := prom.Query(ctx, `count by (alertname) (last_over_time(ALERTS{alertstate="firing"}[1d]))`)
	if err != nil {
		return nil, err
	}
	fired := map[string]bool{}
	vector, _ := value.(model.Vector)
	for _, sample := range vector {
		fired[string(sample.Metric[model.AlertNameLabel])] = true
	}
	return fired, nil
}

// exposed says of a metric whether a target exposes it, or a rule records it. A
// counter with labels has no series before it was first counted: that a target
// describes it is enough.
func exposed(ctx context.Context, prom *observe.Prometheus) (func(metric string) (bool, error), error) {
	described, err := prom.Metrics(ctx)
	if err != nil {
		return nil, err
	}
	return func(metric string) (bool, error) {
		if described[metric] {
			return true, nil
		}
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if name, ok := strings.CutSuffix(metric, suffix); ok && described[name] {
				return true, nil
			}
		}
		// What was there within the hour may be about to be found again.
		value, err := prom.Query(ctx, fmt.Sprintf("count(last_over_time({__name__=%q}[1h]))", metric))
		vector, _ := value.(model.Vector)
		return len(vector) > 0, err
	}, nil
}

// testFile is what matters here of promtool's test files.
type testFile struct {
	RuleFiles []string `yaml:"rule_files"`
	Tests     []struct {
		AlertRuleTest []struct {
			Alertname string `yaml:"alertname"`
		} `yaml:"alert_rule_test"`
	} `yaml:"tests"`
}

func readTestFile(path string) (testFile, error) {
	var f testFile
	data, err := os.ReadFile(path)
	if err != nil {
		return f, fault.Wrap(fault.Invalid, err, "check observability.tests of the stack file", "a test of rules can't be read")
	}
	if err := yaml.Unmarshal(data, &f); err != nil {
		return f, fault.Wrap(fault.Invalid, err, "correct "+path, "a test of rules is not valid")
	}
	return f, nil
}

// testedAlerts returns the alerts that a unit test is about.
func (s *Session) testedAlerts() (map[string]bool, error) {
	tested := map[string]bool{}
	for _, file := range s.stack.Spec.Observability.Tests {
		f, err := readTestFile(s.stack.Path(file))
		if err != nil {
			return nil, err
		}
		for _, t := range f.Tests {
			for _, a := range t.AlertRuleTest {
				tested[a.Alertname] = true
			}
		}
	}
	return tested, nil
}

// unproven are the events by which up warns of rules that nothing proves, or that
// can never fire.
func (s *Session) unproven(ctx context.Context) ([]event.ObjectEvent, error) {
	if !s.stack.Spec.Observability.On() || len(s.stack.Spec.Observability.Rules) == 0 {
		return nil, nil
	}
	list, err := s.Alerts(ctx)
	if err != nil {
		return nil, err
	}
	var warnings []event.ObjectEvent
	for _, a := range list {
		e := event.ObjectEvent{Type: event.Warning, Source: "sandbox", Object: "rule/" + a.Alert}
		switch {
		case len(a.Missing) > 0:
			e.Reason = "CanNeverFire"
			e.Message = "this can never fire: no target exposes " + strings.Join(a.Missing, ", ")
		case !a.Tested && a.Drill == "":
			e.Reason, e.Message = "NotProven", "it has neither a test nor a drill"
		default:
			continue
		}
		warnings = append(warnings, e)
	}
	return warnings, nil
}

// DrillNames returns the alerts of a sandbox that have a drill, for completion.
func DrillNames(name string) []string {
	return complete(name, func(s *Session) []string {
		var names []string
		for _, d := range s.stack.Spec.Drills {
			names = append(names, d.Alert)
		}
		return names
	})
}
