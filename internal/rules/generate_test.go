package rules_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	promql "github.com/prometheus/prometheus/promql/parser"
)

// generator makes rules at random, all of them valid.
type generator struct {
	*rand.Rand
	// recorded are the series that expressions may use beside scraped metrics.
	recorded []string
	// extended lets it use what Prometheus only has behind a flag.
	extended bool
}

func (g *generator) one(of ...string) string { return of[g.IntN(len(of))] }

func (g *generator) duration() string {
	d := []time.Duration{
		time.Millisecond, 37 * time.Millisecond, time.Second, 4 * time.Second, 10 * time.Second, 30 * time.Second,
		time.Minute, 2*time.Minute + 3*time.Second, 5 * time.Minute, time.Hour + time.Second, 24 * time.Hour, 7 * 24 * time.Hour,
	}[g.IntN(12)]
	return model.Duration(d).String()
}

func (g *generator) matchers() string {
	var m []string
	for range g.IntN(3) {
		m = append(m, g.one("job", "b", "a")+g.one("=", "!=", "=~", "!~")+g.one(`"x"`, `"a|b"`, `""`, `"\"q\\\\"`))
	}
	return strings.Join(m, ",")
}

// when is what a selector may have behind it: offset and timestamp.
func (g *generator) when() string {
	s := ""
	if g.IntN(3) == 0 {
		s += " offset " + g.one("", "-") + g.duration()
	}
	if g.IntN(5) == 0 {
		s += " @ " + g.one("1700000000.123", "-5", "start()", "end()")
	}
	return s
}

func (g *generator) selector() string {
	name := g.one("fast_a", "fast_b", "slow_a", "slow_b")
	if len(g.recorded) > 0 && g.IntN(3) == 0 {
		name = g.one(g.recorded...)
	}
	switch g.IntN(6) {
	case 0:
		return fmt.Sprintf(`{__name__=%q,%s}`, name, g.matchers())
	case 1:
		return fmt.Sprintf(`{__name__=~"fast_.*|up",%s}`, g.matchers())
	case 2:
		return `{job="x"}`
	}
	return name + "{" + g.matchers() + "}"
}

func (g *generator) matrix(depth int) string {
	if depth > 0 && g.IntN(3) == 0 {
		step := ""
		if g.IntN(2) == 0 {
			step = g.duration()
		}
		return "(" + g.vector(depth-1) + ")[" + g.duration() + ":" + step + "]" + g.when()
	}
	extended := ""
	if g.extended && g.IntN(4) == 0 {
		extended = g.one(" anchored", " smoothed")
	}
	return g.selector() + "[" + g.duration() + "]" + extended + g.when()
}

func (g *generator) scalar(depth int) string {
	if depth > 0 && g.IntN(4) == 0 {
		return "scalar(" + g.vector(depth-1) + ")"
	}
	return g.one("0", "0.9", "-1", "1e9", "Inf", "-Inf", "NaN", "5m", "-1h30m", "0x1f", "time()", "(1 + 2 ^ -3)", "3 > bool 2")
}

func (g *generator) vector(depth int) string {
	if depth <= 0 {
		return g.selector() + g.when()
	}
	depth--
	switch g.IntN(12) {
	case 0:
		return g.one("rate", "increase", "delta", "deriv", "changes", "resets", "avg_over_time", "count_over_time", "absent_over_time", "present_over_time") + "(" + g.matrix(depth) + ")"
	case 1:
		return fmt.Sprintf("%s(%s)", g.one("abs", "ceil", "-abs", "+abs", "absent", "sort", "histogram_count", "timestamp"), g.vector(depth))
	case 2:
		return fmt.Sprintf("%s %s (%s)", g.one("sum", "min", "count", "group"), g.one("", "by (job)", "by ()", "without (a, b)", "without ()"), g.vector(depth))
	case 3:
		return fmt.Sprintf("%s %s (%s, %s)", g.one("topk", "quantile"), g.one("", "by (job)", "without (a)"), g.scalar(depth), g.vector(depth))
	case 4:
		return fmt.Sprintf(`label_replace(%s, "a", "$1", "b", "(.*)")`, g.vector(depth))
	case 5:
		return fmt.Sprintf("predict_linear(%s, 4 * 3600)", g.matrix(depth))
	case 6:
		return fmt.Sprintf("histogram_quantile(%s, %s)", g.scalar(depth), g.vector(depth))
	case 7:
		return fmt.Sprintf("(%s) %s (%s)", g.vector(depth), g.one("and", "or", "unless", "and on (job)", "unless ignoring (a)"), g.vector(depth))
	case 8:
		op := g.one("+", "-", "*", "/", "%", "^", "atan2", ">", "< bool", "==", "!=", ">=", "<=")
		return fmt.Sprintf("%s %s %s %s", g.vector(depth), op, g.one("", "on (job)", "ignoring (a)", "on (a) group_left (b)", "on () group_right ()", "ignoring (a, b) group_right (job)"), g.vector(depth))
	case 9:
		return fmt.Sprintf("%s %s %s", g.vector(depth), g.one("+", "-", "*", "/", "^", ">", "==", "<", "> bool"), g.scalar(depth))
	case 10:
		return fmt.Sprintf("%s %s %s", g.scalar(depth), g.one("+", "/", ">", "!=", "<="), g.vector(depth))
	}
	return g.selector() + g.when()
}

func (g *generator) modelDuration() model.Duration {
	if g.IntN(3) == 0 {
		return 0
	}
	d, err := model.ParseDuration(g.duration())
	if err != nil {
		panic(err)
	}
	return d
}

// expr makes an expression that is the value of a rule. Some of the texts are not
// valid, as operators bind otherwise than they were put together.
func (g *generator) expr(depth int) string {
	for {
		text := g.vector(depth)
		if expr, err := promql.ParseExpr(text); err == nil && expr.Type() == promql.ValueTypeVector {
			return text
		}
	}
}

// groups makes groups with recording rules, which refer to each other and to
// themselves, and some rules for one alert.
func (g *generator) groups(alert string) *rulefmt.RuleGroups {
	g.recorded = []string{"job:a:rate5m", "job:b:sum", "c:ratio", "d:unused"}
	groups := &rulefmt.RuleGroups{}
	for n := range 1 + g.IntN(3) {
		group := rulefmt.RuleGroup{Name: fmt.Sprintf("group %d", n), Interval: g.modelDuration(), Limit: g.IntN(3)}
		if g.IntN(3) == 0 {
			offset := g.modelDuration()
			group.QueryOffset = &offset
			group.Labels = map[string]string{"team": "a"}
		}
		for range 1 + g.IntN(4) {
			rule := rulefmt.Rule{Expr: g.expr(3), Labels: map[string]string{"severity": "page"}}
			switch g.IntN(3) {
			case 0:
				rule.Record = g.one(g.recorded...)
			case 1:
				rule.Alert = "Other"
			default:
				rule.Alert = alert
			}
			if rule.Alert != "" {
				rule.For, rule.KeepFiringFor = g.modelDuration(), g.modelDuration()
				rule.Annotations = map[string]string{"summary": "{{ $value }}"}
			}
			group.Rules = append(group.Rules, rule)
		}
		groups.Groups = append(groups.Groups, group)
	}
	last := len(groups.Groups) - 1
	groups.Groups[last].Rules = append(groups.Groups[last].Rules, rulefmt.Rule{Alert: alert, Expr: g.expr(4), For: g.modelDuration()})
	return groups
}
