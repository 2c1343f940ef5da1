// Package rules treats Prometheus rules as data. It makes the copy of an alert
// that a drill evaluates, with shorter durations, and says what an expression
// needs in order to be true.
//
// Expressions are parsed and changed as trees, never as text. The package asks
// nobody anything: what has to be looked up, such as whether a metric exists, the
// caller hands in.
package rules

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	promql "github.com/prometheus/prometheus/promql/parser"
	"go.yaml.in/yaml/v3"
)

const (
	// GroupPrefix begins the names of a copy's groups.
	GroupPrefix = "drill/"
	// Suffix ends the names of a copy's recorded series.
	Suffix = ":drill"
)

// Options say what copy to make.
type Options struct {
	// Alert is the name of the alert. All rules of that name are in the copy.
	Alert string
	// Factor is what durations are divided by. 1 leaves the rules as they are
	// written: it shortens nothing and renames no series, so that the expressions
	// are those of the ordinary rules.
	Factor int
	// Scrape returns how often the samples of a metric come; the metric is "" for
	// a selector that names none.
	Scrape func(metric string) time.Duration
	// Evaluation is how often the groups of the copy are evaluated.
	Evaluation time.Duration
	// Label tells the alerts of the copy from those of the ordinary rule. It wins
	// over a label of that name. Without a name there is none.
	Label Label
}

// Label is a label of an alert.
type Label struct{ Name, Value string }

// Copy is a copy of an alert and of the recording rules it needs.
type Copy struct {
	// Groups are the groups, in the order of the rules they were made from. They
	// have names of their own.
	Groups rulefmt.RuleGroups
	// Alerts are the rules of the alert, in that order.
	Alerts []Alert
	// Recorded are the recorded series of the copy, by the name of the series
	// that each stands for.
	Recorded map[string]string
}

// Alert is an alerting rule of a copy.
type Alert struct {
	// Group is the name of its group in the copy.
	Group string
	// Rule is the rule in the copy, Original the rule it was made from.
	Rule, Original rulefmt.Rule
	// Expr, For and KeepFiringFor are those of Rule.
	Expr               string
	For, KeepFiringFor time.Duration
	// Range is how far the expression looks back, through recorded series as well.
	Range time.Duration
}

// YAML returns the copy as a rule file.
func (c *Copy) YAML() ([]byte, error) {
	data, err := yaml.Marshal(c.Groups)
	if err != nil {
		return nil, fmt.Errorf("write rules: %w", err)
	}
	return data, nil
}

// Compress makes a copy of an alert for a drill, and of the recording rules that
// it needs, each duration divided by the factor.
//
// Ranges, `for`, `keep_firing_for` and offsets are not made shorter than two
// intervals in which samples of their metrics come, as a rate needs two samples
// and an alert that is gone before the next sample says nothing; what was shorter
// stays as it is. The step of a subquery is divided by what its range is really
// divided by, so that it keeps its number of points. Numbers stay, also those
// that are written as durations (> 5m), and so do timestamps (@).
//
// The recorded series of the copy have names of their own, as the ordinary rules
// go on. What can't be compressed to mean the same is an error.
func Compress(groups *rulefmt.RuleGroups, opt Options) (*Copy, error) {
	switch {
	case opt.Factor < 1:
		return nil, fmt.Errorf("a factor of %d: it has to be 1 or more", opt.Factor)
	case opt.Evaluation <= 0:
		return nil, fmt.Errorf("an evaluation interval of %s: it has to be longer", opt.Evaluation)
	case opt.Scrape == nil:
		return nil, errors.New("no scrape intervals")
	}
	c := compression{opt: opt, recorders: map[string][]*source{}, names: map[string]string{}}
	if err := c.read(groups); err != nil {
		return nil, err
	}
	if err := c.choose(); err != nil {
		return nil, err
	}
	return c.copy(groups)
}

// source is a rule with its expression parsed.
type source struct {
	rule   rulefmt.Rule
	expr   promql.Expr
	chosen bool
}

// compression is one call of Compress.
type compression struct {
	opt Options
	// rules are the rules by group and place, recorders those that record a series.
	rules     [][]*source
	recorders map[string][]*source
	// names are the new names of the recorded series that the alert needs.
	names map[string]string
}

// read parses the expressions of all rules.
func (c *compression) read(groups *rulefmt.RuleGroups) error {
	for _, g := range groups.Groups {
		list := make([]*source, len(g.Rules))
		for i, rule := range g.Rules {
			expr, err := promql.ParseExpr(rule.Expr)
			if err != nil {
				return fmt.Errorf("rule %s of group %s: %w", rule.Alert+rule.Record, g.Name, err)
			}
			list[i] = &source{rule: rule, expr: expr}
			if rule.Record != "" {
				c.recorders[rule.Record] = append(c.recorders[rule.Record], list[i])
			}
		}
		c.rules = append(c.rules, list)
	}
	return nil
}

// choose marks the rules of the alert, and the recording rules that it needs.
func (c *compression) choose() error {
	var next []*source
	for _, group := range c.rules {
		for _, s := range group {
			if s.rule.Alert != "" && s.rule.Alert == c.opt.Alert {
				s.chosen = true
				next = append(next, s)
			}
		}
	}
	if len(next) == 0 {
		return fmt.Errorf("no rule has the alert %q", c.opt.Alert)
	}
	for len(next) > 0 {
		s := next[0]
		next = next[1:]
		for _, v := range vectorSelectors(s.expr) {
			if name, err := c.recordedBy(v); err != nil {
				return fmt.Errorf("rule %s: %w", s.rule.Alert+s.rule.Record, err)
			} else if name != "" {
				renamed := name
				if c.opt.Factor > 1 {
					renamed += Suffix
				}
				if _, taken := c.recorders[renamed]; taken && renamed != name {
					return fmt.Errorf("rule %s: the copy of %s would be %s, which the rules record themselves", s.rule.Alert+s.rule.Record, name, renamed)
				}
				c.names[name] = renamed
				for _, r := range c.recorders[name] {
					if !r.chosen {
						r.chosen = true
						next = append(next, r)
					}
				}
			}
		}
	}
	return nil
}

// copy builds the groups of the copy.
func (c *compression) copy(groups *rulefmt.RuleGroups) (*Copy, error) {
	out := &Copy{Recorded: c.names}
	// The expressions are changed in place: first look at all of them.
	intervals := map[*source]time.Duration{}
	for _, list := range c.rules {
		for _, s := range list {
			if s.chosen {
				intervals[s] = c.interval(s.expr)
			}
		}
	}
	for i, g := range groups.Groups {
		group := rulefmt.RuleGroup{
			Name: groupName(out, g.Name), Interval: model.Duration(c.opt.Evaluation),
			Limit: g.Limit, Labels: g.Labels, QueryOffset: c.queryOffset(g.QueryOffset),
		}
		for _, s := range c.rules[i] {
			if !s.chosen {
				continue
			}
			rule, err := c.rule(s, intervals[s])
			if err != nil {
				return nil, fmt.Errorf("rule %s of group %s: %w", s.rule.Alert+s.rule.Record, g.Name, err)
			}
			group.Rules = append(group.Rules, rule)
			if rule.Alert != "" {
				out.Alerts = append(out.Alerts, Alert{
					Group: group.Name, Rule: rule, Original: s.rule, Expr: rule.Expr,
					For: time.Duration(rule.For), KeepFiringFor: time.Duration(rule.KeepFiringFor),
				})
			}
		}
		if len(group.Rules) > 0 {
			out.Groups.Groups = append(out.Groups.Groups, group)
		}
	}
	return out, ranges(out)
}

// groupName returns a name that no group of the copy has: in several files,
// groups may have the same one.
func groupName(out *Copy, name string) string {
	unique := GroupPrefix + name
	for n := 2; slices.ContainsFunc(out.Groups.Groups, func(g rulefmt.RuleGroup) bool { return g.Name == unique }); n++ {
		unique = fmt.Sprintf("%s%s (%d)", GroupPrefix, name, n)
	}
	return unique
}

func (c *compression) queryOffset(d *model.Duration) *model.Duration {
	if d == nil {
		return nil
	}
	short := model.Duration(shorten(time.Duration(*d), c.opt.Factor, 0))
	return &short
}

// rule returns the copy of a rule whose metrics have samples at an interval.
func (c *compression) rule(s *source, interval time.Duration) (rulefmt.Rule, error) {
	rule := s.rule
	if err := c.expression(s.expr); err != nil {
		return rule, err
	}
	signless(s.expr)
	rule.Expr = s.expr.String()
	// What is printed has to be what was meant.
	again, err := promql.ParseExpr(rule.Expr)
	if err != nil {
		return rule, fmt.Errorf("the expression %s can't be written down: %w", rule.Expr, err)
	}
	signless(again)
	if text := again.String(); text != rule.Expr {
		return rule, fmt.Errorf("the expression %s can't be written down: it would be read as %s", rule.Expr, text)
	}
	if rule.Record != "" {
		rule.Record = c.names[rule.Record]
		return rule, nil
	}
	rule.For = model.Duration(shorten(time.Duration(rule.For), c.opt.Factor, 2*interval))
	rule.KeepFiringFor = model.Duration(shorten(time.Duration(rule.KeepFiringFor), c.opt.Factor, 2*interval))
	if c.opt.Label.Name != "" {
		labels := map[string]string{}
		for k, v := range rule.Labels {
			labels[k] = v
		}
		labels[c.opt.Label.Name] = c.opt.Label.Value
		rule.Labels = labels
	}
	return rule, nil
}

// Shortest returns the shortest time in which a rule can fire after a fault has
// begun: a scrape that sees the fault, an evaluation of the rule that sees the
// samples, and the rule's `for`, which ends with an evaluation and so is rounded
// up to whole ones. It is what has to be allowed for where both the scrape and
// the evaluation come as late as they can; ranges that have to fill, and chains
// of recording rules, are not counted.
func Shortest(rule rulefmt.Rule, scrape, evaluation time.Duration) time.Duration {
	hold := time.Duration(rule.For)
	if evaluation > 0 {
		if over := hold % evaluation; over > 0 {
			hold += evaluation - over
		}
	}
	return scrape + evaluation + hold
}
