package rules

import (
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	promql "github.com/prometheus/prometheus/promql/parser"
)

// Selector is a selector of an expression.
type Selector struct {
	// Metric is the name of the metric, "" where the selector names none or
	// several, by a pattern.
	Metric string
	// Matchers are the other matchers, as in {job="web"}, or "".
	Matchers string
	// Text is the selector without range, offset and timestamp: a query for its
	// series as they are now.
	Text string
}

// Selectors returns the selectors of an expression in their order, each once.
func Selectors(expr string) ([]Selector, error) {
	root, err := promql.ParseExpr(expr)
	if err != nil {
		return nil, err
	}
	var all []Selector
	for _, v := range vectorSelectors(root) {
		s := Selector{Metric: metricOf(v), Text: bare(v)}
		var matchers []string
		for _, m := range v.LabelMatchers {
			if m.Name != labels.MetricName || m.Value != s.Metric || m.Type != labels.MatchEqual {
				matchers = append(matchers, m.String())
			}
		}
		slices.Sort(matchers)
		if len(matchers) > 0 {
			s.Matchers = "{" + strings.Join(matchers, ",") + "}"
		}
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all, nil
}

// bare prints a selector without what says when it looks.
func bare(v *promql.VectorSelector) string {
	return (&promql.VectorSelector{Name: v.Name, LabelMatchers: v.LabelMatchers}).String()
}

// CanFire returns the metrics that have to exist for an expression ever to be
// true, and do not: with none of them, it can be. exists says whether there is a
// metric. A selector that names no metric counts as existing, and so do the
// series that Prometheus itself makes of alerts.
func CanFire(expr string, exists func(metric string) (bool, error)) (missing []string, err error) {
	root, err := promql.ParseExpr(expr)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{"": true, "ALERTS": true, "ALERTS_FOR_STATE": true}
	for _, v := range vectorSelectors(root) {
		metric := metricOf(v)
		if _, asked := known[metric]; asked {
			continue
		}
		if known[metric], err = exists(metric); err != nil {
			return nil, err
		}
	}
	for _, metric := range needs(root, known) {
		if !slices.Contains(missing, metric) {
			missing = append(missing, metric)
		}
	}
	return missing, nil
}

// needs returns the metrics that a node needs to have a value and that do not exist.
func needs(n promql.Node, exists map[string]bool) []string {
	switch n := n.(type) {
	case *promql.VectorSelector:
		if metric := metricOf(n); !exists[metric] {
			return []string{metric}
		}
		return nil
	case *promql.BinaryExpr:
		left, right := needs(n.LHS, exists), needs(n.RHS, exists)
		switch {
		case n.Op == promql.LUNLESS:
			return left
		case n.Op == promql.LOR && (len(left) == 0 || len(right) == 0):
			return nil
		}
		return append(left, right...)
	case *promql.Call:
		if isAbsent(n) {
			return nil
		}
		if n.Func.Name == "info" { // the second argument only adds labels
			return needs(n.Args[0], exists)
		}
	}
	var all []string
	for child := range promql.ChildrenIter(n) {
		all = append(all, needs(child, exists)...)
	}
	return all
}

func isAbsent(c *promql.Call) bool {
	return c.Func.Name == "absent" || c.Func.Name == "absent_over_time"
}

// Condition is a part of an expression that has to hold: the value of Expr is
// compared with Threshold.
type Condition struct {
	// Expr is the side that varies, as a query.
	Expr string
	// Op is the comparison, as in > or ==, with Expr on its left.
	Op string
	// Threshold is the text of the other side: a number, or an expression.
	Threshold string
	// Whole is the part of the expression that the condition stands for.
	Whole string
}

// Explain returns the comparisons that decide whether an expression is true, from
// the left: those on the top level and, over `and`, `or`, arithmetic, aggregations
// and functions, those below. It does not look into the sides of a comparison.
//
// What has to be absent is a comparison too: of a number of series with 0. For
// absent(up) the Expr is count(up) or vector(0), and for a unless b, after the
// comparisons of a, count(a and b) or vector(0). An expression that is true
// whenever it has a value has no conditions.
func Explain(expr string) (parts []Condition, err error) {
	root, err := promql.ParseExpr(expr)
	if err != nil {
		return nil, err
	}
	explain(root, &parts)
	return parts, nil
}

func explain(n promql.Node, parts *[]Condition) {
	switch n := n.(type) {
	case *promql.BinaryExpr:
		switch {
		case n.Op.IsComparisonOperator():
			if !n.ReturnBool { // with bool it is a value: 0 or 1
				*parts = append(*parts, compare(n))
			}
			return
		case n.Op == promql.LUNLESS:
			explain(n.LHS, parts)
			both := *n
			both.Op = promql.LAND
			*parts = append(*parts, none(both.String(), n))
			return
		}
	case *promql.Call:
		if isAbsent(n) {
			*parts = append(*parts, none(present(n.Args[0]), n))
			return
		}
	}
	for child := range promql.ChildrenIter(n) {
		explain(child, parts)
	}
}

// compare returns the condition of a comparison. The side that varies is the one
// that is not a number; of two vectors, the left one.
func compare(n *promql.BinaryExpr) Condition {
	left, right, op := n.LHS, n.RHS, n.Op.String()
	if left.Type() == promql.ValueTypeScalar && right.Type() != promql.ValueTypeScalar {
		left, right = right, left
		if turned, ok := mirrored[n.Op]; ok {
			op = turned
		}
	}
	return Condition{Expr: unwrap(left).String(), Op: op, Threshold: unwrap(right).String(), Whole: n.String()}
}

// mirrored are the comparisons that change when their sides are swapped.
var mirrored = map[promql.ItemType]string{
	promql.GTR: "<", promql.LSS: ">", promql.GTE: "<=", promql.LTE: ">=",
}

func unwrap(e promql.Expr) promql.Expr {
	for {
		p, ok := e.(*promql.ParenExpr)
		if !ok {
			return e
		}
		e = p.Expr
	}
}

// none is the condition that a query has no result.
func none(query string, whole promql.Node) Condition {
	return Condition{Expr: fmt.Sprintf("count(%s) or vector(0)", query), Op: "==", Threshold: "0", Whole: whole.String()}
}

// present returns a query for the series of an argument of absent.
func present(arg promql.Expr) string {
	if arg.Type() == promql.ValueTypeMatrix {
		return "present_over_time(" + arg.String() + ")"
	}
	return unwrap(arg).String()
}
