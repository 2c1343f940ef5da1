package rules

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	promql "github.com/prometheus/prometheus/promql/parser"
)

// shorten divides a duration and does not go below the floor; what is below it
// already stays. Prometheus counts in milliseconds: the result is whole ones, and
// no duration becomes 0. Those of offsets may be negative.
func shorten(d time.Duration, factor int, floor time.Duration) time.Duration {
	if d < 0 {
		return -shorten(-d, factor, floor)
	}
	if d <= floor || d == 0 || factor == 1 {
		return d
	}
	return max((d / time.Duration(factor)).Truncate(time.Millisecond), floor, time.Millisecond)
}

// vectorSelectors returns the selectors of an expression in their order.
func vectorSelectors(expr promql.Node) []*promql.VectorSelector {
	var all []*promql.VectorSelector
	promql.Inspect(expr, func(n promql.Node, _ []promql.Node) error {
		if v, ok := n.(*promql.VectorSelector); ok {
			all = append(all, v)
		}
		return nil
	})
	return all
}

// metricOf returns the metric that a selector names, "" where it names none.
func metricOf(v *promql.VectorSelector) string {
	if v.Name != "" {
		return v.Name
	}
	for _, m := range v.LabelMatchers {
		if m.Name == labels.MetricName && m.Type == labels.MatchEqual {
			return m.Value
		}
	}
	return ""
}

// recordedBy returns the recorded series that a selector names, "" where it names
// none. A pattern can't be renamed, so one that matches recorded series is an
// error. A selector without any name is taken for one of scraped metrics.
func (c *compression) recordedBy(v *promql.VectorSelector) (string, error) {
	for _, m := range v.LabelMatchers {
		if m.Name != labels.MetricName || m.Type != labels.MatchRegexp {
			continue
		}
		for name := range c.recorders {
			if m.Matches(name) {
				return "", fmt.Errorf("%s selects the recorded series %s by a pattern: a drill's copy of it has another name, so name it", v, name)
			}
		}
	}
	name := metricOf(v)
	if _, recorded := c.recorders[name]; !recorded {
		return "", nil
	}
	return name, nil
}

// interval returns how often there are new samples of all metrics of an
// expression: a recorded series changes no more often than what it is made of.
func (c *compression) interval(expr promql.Node) time.Duration {
	return c.intervalOf(expr, map[string]bool{})
}

func (c *compression) intervalOf(expr promql.Node, seen map[string]bool) time.Duration {
	var longest time.Duration
	for _, v := range vectorSelectors(expr) {
		name := c.original(metricOf(v))
		recorders, recorded := c.recorders[name]
		if !recorded {
			longest = max(longest, c.opt.Scrape(name))
			continue
		}
		longest = max(longest, c.opt.Evaluation)
		if seen[name] {
			continue
		}
		seen[name] = true
		for _, r := range recorders {
			longest = max(longest, c.intervalOf(r.expr, seen))
		}
	}
	return longest
}

// original returns the name that a series of the copy stands for.
func (c *compression) original(name string) string {
	for old, renamed := range c.names {
		if renamed == name {
			return old
		}
	}
	return name
}

// expression shortens the durations of an expression and renames the recorded
// series, in place.
func (c *compression) expression(expr promql.Expr) error {
	var err error
	promql.Inspect(expr, func(n promql.Node, _ []promql.Node) error {
		switch n := n.(type) {
		case *promql.MatrixSelector:
			if n.RangeExpr != nil {
				err = errComputed(n)
				break
			}
			n.Range = shorten(n.Range, c.opt.Factor, 2*c.interval(n))
		case *promql.SubqueryExpr:
			if n.RangeExpr != nil || n.StepExpr != nil || n.OriginalOffsetExpr != nil {
				err = errComputed(n)
				break
			}
			c.subquery(n)
		case *promql.VectorSelector:
			if n.OriginalOffsetExpr != nil {
				err = errComputed(n)
				break
			}
			n.OriginalOffset = shorten(n.OriginalOffset, c.opt.Factor, 2*c.interval(n))
			c.rename(n)
		}
		return err
	})
	return err
}

// errComputed refuses a duration that is an expression, [5m * 2]: what of it is a
// duration and what is a mere number can't be told.
func errComputed(n promql.Node) error {
	return fmt.Errorf("%s has a computed duration, which can't be compressed: write it out", n)
}

func (c *compression) subquery(n *promql.SubqueryExpr) {
	floor := 2 * c.interval(n)
	before := n.Range
	n.Range = shorten(before, c.opt.Factor, floor)
	n.OriginalOffset = shorten(n.OriginalOffset, c.opt.Factor, floor)
	n.Step = scale(n.Step, n.Range, before)
}

// scale multiplies a duration by a fraction, to whole milliseconds. No duration
// becomes 0.
func scale(d, num, den time.Duration) time.Duration {
	if d == 0 || num == den {
		return d
	}
	return max(time.Duration(math.Round(float64(d)*float64(num)/float64(den))).Truncate(time.Millisecond), time.Millisecond)
}

// rename gives a selector the new name of its recorded series.
func (c *compression) rename(v *promql.VectorSelector) {
	old := metricOf(v)
	renamed, ok := c.names[old]
	if !ok {
		return
	}
	if v.Name != "" {
		v.Name = renamed
	}
	for i, m := range v.LabelMatchers {
		if m.Name == labels.MetricName && m.Type == labels.MatchEqual && m.Value == old {
			v.LabelMatchers[i] = labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, renamed)
		}
	}
}

// signless makes an expression print as what it is. The printer writes +Inf for
// Inf; before ^, which binds more closely, that would be read as +(Inf ^ …). A
// selector of that name prints as Inf, and is read as the number again.
func signless(expr promql.Expr) {
	promql.Inspect(expr, func(n promql.Node, _ []promql.Node) error {
		if b, ok := n.(*promql.BinaryExpr); ok && b.Op == promql.POW {
			if l, ok := b.LHS.(*promql.NumberLiteral); ok && math.IsInf(l.Val, 1) {
				b.LHS = &promql.VectorSelector{Name: "Inf", PosRange: l.PosRange}
			}
		}
		return nil
	})
}

// ranges fills in how far the alerts of a copy look back.
func ranges(out *Copy) error {
	recorders := map[string][]promql.Expr{}
	each := func(r rulefmt.Rule, do func(promql.Expr)) error {
		expr, err := promql.ParseExpr(r.Expr)
		if err != nil {
			return errors.Join(errors.New("read the copy"), err)
		}
		do(expr)
		return nil
	}
	for _, g := range out.Groups.Groups {
		for _, r := range g.Rules {
			if r.Record == "" {
				continue
			}
			if err := each(r, func(e promql.Expr) { recorders[r.Record] = append(recorders[r.Record], e) }); err != nil {
				return err
			}
		}
	}
	for i := range out.Alerts {
		a := &out.Alerts[i]
		if err := each(a.Rule, func(e promql.Expr) { a.Range = lookBack(e, recorders, map[string]bool{}) }); err != nil {
			return err
		}
	}
	return nil
}

// lookBack returns how far an expression looks back. Timestamps are not counted.
func lookBack(expr promql.Node, recorders map[string][]promql.Expr, within map[string]bool) time.Duration {
	var longest time.Duration
	promql.Inspect(expr, func(n promql.Node, path []promql.Node) error {
		v, ok := n.(*promql.VectorSelector)
		if !ok {
			return nil
		}
		back := v.OriginalOffset
		for _, above := range path {
			switch above := above.(type) {
			case *promql.MatrixSelector:
				back += above.Range
			case *promql.SubqueryExpr:
				back += above.Range + above.OriginalOffset
			}
		}
		if name := metricOf(v); !within[name] {
			within[name] = true
			var inner time.Duration
			for _, r := range recorders[name] {
				inner = max(inner, lookBack(r, recorders, within))
			}
			delete(within, name)
			back += inner
		}
		longest = max(longest, back)
		return nil
	})
	return longest
}
