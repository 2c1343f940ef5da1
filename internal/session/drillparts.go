package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"

	"github.com/sandbox-stack/sandbox/internal/drill"
	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/observe"
	"github.com/sandbox-stack/sandbox/internal/rules"
	"github.com/sandbox-stack/sandbox/internal/stack"
	"github.com/sandbox-stack/sandbox/internal/steps"
)

// settleTime is what an alert gets, beyond the range that its rule looks back, to
// be inactive before anything is broken.
const settleTime = time.Minute

// ruleGroups returns the rules of the stack.
func (s *Session) ruleGroups() (*rulefmt.RuleGroups, error) {
	all := &rulefmt.RuleGroups{}
	for i, file := range s.stack.Spec.Observability.Rules {
		groups, err := stack.ParseRules(s.stack.Path(file))
		if err != nil {
			return nil, err
		}
		for _, g := range groups.Groups {
			// Names of groups are unique in a file only.
			if slices.ContainsFunc(all.Groups, func(o rulefmt.RuleGroup) bool { return o.Name == g.Name }) {
				g.Name = fmt.Sprintf("%s (%d)", g.Name, i+1)
			}
			all.Groups = append(all.Groups, g)
		}
	}
	return all, nil
}

// alertNames returns the names of the stack's alerts.
func (s *Session) alertNames() ([]string, error) {
	groups, err := s.ruleGroups()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			if r.Alert != "" && !slices.Contains(names, r.Alert) {
				names = append(names, r.Alert)
			}
		}
	}
	return names, nil
}

// watch completes a drill with the rules that it watches: a compressed copy, or
// the rules themselves. In real time these get the time that they need.
func (s *Session) watch(ctx context.Context, p *prepared, realTime bool) error {
	groups, err := s.ruleGroups()
	if err != nil {
		return err
	}
	scrape, err := s.scrapeIntervals(ctx)
	if err != nil {
		return err
	}
	opt := rules.Options{Alert: p.Alert, Factor: p.Compress, Scrape: scrape, Evaluation: stack.DrillEvaluation}
	if p.Compress > 1 {
		p.Marker = p.Fault.ID
		opt.Label = rules.Label{Name: drill.Marker, Value: p.Marker}
	}
	c, err := rules.Compress(groups, opt)
	if err != nil {
		return fault.Wrap(fault.Failed, err, "sandbox alerts drill "+p.Alert+" --real-time", "the rule %s can't be compressed", p.Alert)
	}
	var longest time.Duration
	for _, a := range c.Alerts {
		p.Watched = append(p.Watched, drill.Watched{Expr: a.Expr, For: a.For})
		longest = max(longest, a.Range)
	}
	p.Settle = settleTime + longest
	if p.Compress > 1 {
		p.rules, err = c.YAML()
	}
	if err != nil {
		return err
	}
	if realTime {
		return s.realTimes(p, c, longest)
	}
	return checkWithin(p, c, scrape)
}

// realTimes gives a drill of rules as they are written the time that these take:
// the times of the stack file are those of compressed rules.
func (s *Session) realTimes(p *prepared, c *rules.Copy, longest time.Duration) error {
	am, err := s.alertmanager()
	if err != nil {
		return err
	}
	wait, interval, err := am.RouteTimes()
	if err != nil {
		return err
	}
	var hold, keep time.Duration
	for _, a := range c.Alerts {
		hold, keep = max(hold, a.For), max(keep, a.KeepFiringFor)
	}
	p.Within += hold + longest + wait
	p.Resolves += keep + longest + interval
	return nil
}

// checkWithin refuses a drill whose alert can't fire in its time, whatever is
// broken: the command may compress less than the stack file reckons with, and some
// metrics are scraped less often than others.
func checkWithin(p *prepared, c *rules.Copy, scrape func(string) time.Duration) error {
	evaluation := stack.DrillEvaluation
	if p.Compress <= 1 {
		evaluation = observe.DefaultInterval
	}
	for _, a := range c.Alerts {
		selectors, err := rules.Selectors(a.Expr)
		if err != nil {
			return err
		}
		var interval time.Duration
		for _, sel := range selectors {
			interval = max(interval, scrape(sel.Metric))
		}
		if least := rules.Shortest(a.Rule, interval, evaluation); p.Within < least {
			return fault.New(fault.Invalid, fmt.Sprintf("drill %s: within %s is too short", p.Alert, model.Duration(p.Within)),
				fmt.Sprintf("with durations divided by %d the alert can fire after %s at the earliest: a scrape of %s, an evaluation of %s, and for %s",
					p.Compress, model.Duration(least), model.Duration(interval), model.Duration(evaluation), model.Duration(a.For)),
				"a longer within: in the stack file, or a larger --compress")
		}
	}
	return nil
}

// scrapeIntervals returns how often the samples of a metric come.
func (s *Session) scrapeIntervals(ctx context.Context) (func(metric string) time.Duration, error) {
	prom, err := s.prometheus()
	if err != nil {
		return nil, err
	}
	return func(metric string) time.Duration {
		interval := observe.DefaultInterval
		value, err := prom.Query(ctx, fmt.Sprintf("count by (job) ({__name__=%q})", metric))
		if err != nil {
			return interval // what is not there, the drill will say
		}
		vector, _ := value.(model.Vector)
		for _, sample := range vector {
			interval = max(interval, observe.ScrapeInterval(string(sample.Metric["job"])))
		}
		return interval
	}, nil
}

// drillConfig is what Prometheus and Alertmanager are configured with while this
// session runs a drill, whatever else is changed of them meanwhile.
type drillConfig struct {
	rules    []byte
	receiver *observe.DrillReceiver
}

func (s *Session) drilling() drillConfig {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.drill
}

func (s *Session) setDrilling(c drillConfig) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drill = c
}

// observeDrill makes Prometheus evaluate the drill's copy of the rules, and
// Alertmanager notify its receiver.
func (s *Session) observeDrill(ctx context.Context, p prepared) error {
	s.setDrilling(drillConfig{rules: p.rules, receiver: &observe.DrillReceiver{URL: receiverURL, Compress: p.Compress}})
	return s.ensureAlerting(ctx)
}

// ensureAlerting configures Prometheus and Alertmanager as they should be now.
func (s *Session) ensureAlerting(ctx context.Context) error {
	var errs []error
	for _, ensure := range []func(context.Context, event.Reporter) (steps.Result, error){s.ensurePrometheus, s.ensureAlertmanager} {
		_, err := ensure(ctx, event.Discard)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// endTimeout bounds how long it takes to remove what lives for a drill only.
const endTimeout = time.Minute

// endDrills removes what lives for a drill only, whatever has become of ctx.
func (s *Session) endDrills(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	s.setDrilling(drillConfig{})
	var errs []error
	if s.stack.Spec.Observability.On() {
		errs = append(errs, s.ensureAlerting(ctx))
	}
	_, err := s.removeDrillContainers(ctx)
	errs = append(errs, err)
	if s.stack.Spec.Observability.On() && errors.Join(errs...) == nil {
		errs = append(errs, s.alertmanagerFound(ctx))
	}
	return errors.Join(errs...)
}

// alertmanagerFound waits until Prometheus has found its Alertmanager again, which
// takes some seconds after its rules have changed.
func (s *Session) alertmanagerFound(ctx context.Context) error {
	prom, err := s.prometheus()
	if err != nil {
		return err
	}
	_, err = backoff.Retry(ctx, func() (struct{}, error) {
		to, err := prom.Alertmanagers(ctx)
		if err == nil && len(to) == 0 {
			err = fault.New(fault.Timeout, "Prometheus does not find its Alertmanager again", "after the rules of the drill were removed", "sandbox status")
		}
		return struct{}{}, err
	}, backoff.WithBackOff(backoff.NewConstantBackOff(300*time.Millisecond)))
	return err
}

// describeFault says what a drill breaks, by the stack file.
func describeFault(i stack.Inject) string {
	data, err := json.Marshal(i)
	if err != nil {
		return strings.Join(i.Kinds(), ", ")
	}
	text := strings.NewReplacer(`"`, "", ":{", " ", ",", ", ", ":", ": ").Replace(string(data))
	text = strings.Trim(text, "{}")
	if i.Scale != nil && i.Scale.Replicas == 0 {
		text += ", replicas: 0"
	}
	return text
}

// load returns the requests of a drill.
func (s *Session) load(ctx context.Context, spec stack.DrillLoad) (*drill.Load, error) {
	client, err := s.kube()
	if err != nil {
		return nil, err
	}
	return drill.NewLoad(ctx, client, spec, s.namespaces())
}
