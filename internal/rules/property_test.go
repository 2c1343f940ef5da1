package rules_test

import (
	"cmp"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	promql "github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sandbox-stack/sandbox/internal/rules"
)

const (
	evaluation = 2 * time.Second
	iterations = 400
)

func scrape(metric string) time.Duration {
	if strings.HasPrefix(metric, "slow_") || strings.HasPrefix(metric, "container_") {
		return 15 * time.Second
	}
	return 5 * time.Second
}

// The copy of an alert has the same shape as what it is made from: only the
// durations change, and they as Compress documents it.
func TestACopyHasTheShapeOfItsRules(t *testing.T) {
	promql.EnableExtendedRangeSelectors = true
	t.Cleanup(func() { promql.EnableExtendedRangeSelectors = false })
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("RULES_SEED"); s != "" {
		_, err := fmt.Sscan(s, &seed)
		require.NoError(t, err)
	}
	t.Logf("to repeat: RULES_SEED=%d", seed)
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 1)), extended: true}
	for range iterations {
		groups := g.groups("Down")
		checkCopy(t, groups, rules.Options{
			Alert: "Down", Factor: []int{1, 2, 7, 20, 1000}[g.IntN(5)], Scrape: scrape, Evaluation: evaluation,
			Label: rules.Label{Name: "sandbox_drill", Value: "Down-1a2b"},
		})
		if t.Failed() {
			return
		}
	}
}

// incompressible is the folder of the one rule file that is to be refused.
const incompressible = "drill-rule-not-compressible"

// The same over every rule file of the repository.
func TestACopyOfEveryRuleFileHasItsShape(t *testing.T) {
	alerts := 0
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == incompressible):
			return fs.SkipDir
		case d.IsDir() || (filepath.Ext(path) != ".yaml" && filepath.Ext(path) != ".yml"):
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		groups, errs := rulefmt.Parse(data, false, model.LegacyValidation)
		if len(errs) > 0 {
			return nil
		}
		for _, group := range groups.Groups {
			for _, r := range group.Rules {
				if r.Alert == "" {
					continue
				}
				alerts++
				t.Run(filepath.ToSlash(path)+"/"+r.Alert, func(t *testing.T) {
					checkCopy(t, groups, rules.Options{Alert: r.Alert, Factor: 20, Scrape: scrape, Evaluation: evaluation, Label: rules.Label{Name: "sandbox_drill", Value: "x"}})
				})
			}
		}
		return nil
	})
	require.NoError(t, err)
	assert.GreaterOrEqual(t, alerts, 8, "are the rule files of the repository all there?")
}

// oracle works out what a copy has to be, in its own way.
type oracle struct {
	t   *testing.T
	opt rules.Options
	// recorders are the expressions of each recorded series.
	recorders map[string][]string
}

// checkCopy makes a copy and walks it beside its original.
func checkCopy(t *testing.T, groups *rulefmt.RuleGroups, opt rules.Options) {
	t.Helper()
	o := oracle{t: t, opt: opt, recorders: map[string][]string{}}
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			if r.Record != "" {
				o.recorders[r.Record] = append(o.recorders[r.Record], r.Expr)
			}
		}
	}
	c, err := rules.Compress(groups, opt)
	require.NoError(t, err, "%+v", groups)

	// It is a valid rule file, and reading it gives the same again.
	data, err := c.YAML()
	require.NoError(t, err)
	again, errs := rulefmt.Parse(data, false, model.LegacyValidation)
	require.Empty(t, errs, "%s", data)
	require.Equal(t, &c.Groups, again, "%s", data)

	// It has the rules that are needed, no more and no less, in their order.
	needed := o.needed(groups)
	var alerts []string
	next := 0
	for _, g := range groups.Groups {
		var want []rulefmt.Rule
		for _, r := range g.Rules {
			if r.Alert == opt.Alert || (r.Record != "" && needed[r.Record]) {
				want = append(want, r)
			}
		}
		if len(want) == 0 {
			continue
		}
		require.Less(t, next, len(c.Groups.Groups))
		copied := c.Groups.Groups[next]
		next++
		require.Equal(t, "drill/"+g.Name, copied.Name)
		require.Equal(t, model.Duration(opt.Evaluation), copied.Interval)
		require.Equal(t, g.Limit, copied.Limit)
		require.Equal(t, g.Labels, copied.Labels)
		if g.QueryOffset != nil {
			require.Equal(t, o.short(time.Duration(*g.QueryOffset), 0), time.Duration(*copied.QueryOffset))
		}
		require.Len(t, copied.Rules, len(want))
		for i, r := range want {
			o.rule(r, copied.Rules[i])
			if r.Alert != "" {
				alerts = append(alerts, copied.Rules[i].Expr)
			}
		}
	}
	require.Len(t, c.Groups.Groups, next)
	require.Len(t, c.Alerts, len(alerts))
	for i, a := range c.Alerts {
		require.Equal(t, alerts[i], a.Expr)
		require.Equal(t, a.Rule.Expr, a.Expr)
		require.Equal(t, time.Duration(a.Rule.For), a.For)
		require.Equal(t, time.Duration(a.Rule.KeepFiringFor), a.KeepFiringFor)
	}
}

// needed returns the recorded series that the alert is made of.
func (o *oracle) needed(groups *rulefmt.RuleGroups) map[string]bool {
	needed := map[string]bool{}
	var look func(expr string)
	look = func(expr string) {
		for name := range o.metrics(expr) {
			if _, recorded := o.recorders[name]; recorded && !needed[name] {
				needed[name] = true
				for _, e := range o.recorders[name] {
					look(e)
				}
			}
		}
	}
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			if r.Alert == o.opt.Alert {
				look(r.Expr)
			}
		}
	}
	return needed
}

// metrics returns the names that the selectors of an expression have.
func (o *oracle) metrics(expr string) map[string]bool {
	parsed, err := promql.ParseExpr(expr)
	require.NoError(o.t, err)
	names := map[string]bool{}
	for _, matchers := range promql.ExtractSelectors(parsed) {
		name := ""
		for _, m := range matchers {
			if m.Name == labels.MetricName && m.Type == labels.MatchEqual {
				name = m.Value
			}
		}
		names[name] = true
	}
	return names
}

// floor is the shortest that a duration of an expression may become.
func (o *oracle) floor(expr string) time.Duration {
	all, longest := map[string]bool{}, time.Duration(0)
	var look func(expr string)
	look = func(expr string) {
		for name := range o.metrics(expr) {
			if all[name] {
				continue
			}
			all[name] = true
			exprs, recorded := o.recorders[name]
			if !recorded {
				longest = max(longest, o.opt.Scrape(name))
				continue
			}
			longest = max(longest, o.opt.Evaluation)
			for _, e := range exprs {
				look(e)
			}
		}
	}
	look(expr)
	return 2 * longest
}

// short is what has to become of a duration.
func (o *oracle) short(d, floor time.Duration) time.Duration {
	if d < 0 {
		return -o.short(-d, floor)
	}
	ms := d.Milliseconds() / int64(o.opt.Factor)
	switch {
	case o.opt.Factor == 1, d == 0, d < floor:
		return d
	case time.Duration(ms)*time.Millisecond < floor:
		return floor
	}
	return time.Duration(max(ms, 1)) * time.Millisecond
}

func (o *oracle) renamed(name string) string {
	if _, recorded := o.recorders[name]; recorded && o.opt.Factor > 1 {
		return name + ":drill"
	}
	return name
}

func (o *oracle) rule(old, copied rulefmt.Rule) {
	floor := o.floor(old.Expr)
	require.Equal(o.t, old.Alert, copied.Alert)
	require.Equal(o.t, o.renamed(old.Record), copied.Record)
	require.Equal(o.t, o.short(time.Duration(old.For), floor), time.Duration(copied.For), old.Expr)
	require.Equal(o.t, o.short(time.Duration(old.KeepFiringFor), floor), time.Duration(copied.KeepFiringFor))
	require.Equal(o.t, old.Annotations, copied.Annotations)
	want := map[string]string{}
	for k, v := range old.Labels {
		want[k] = v
	}
	if old.Alert != "" {
		want[o.opt.Label.Name] = o.opt.Label.Value
	}
	if len(want) > 0 {
		require.Equal(o.t, want, copied.Labels)
	}
	a, err := promql.ParseExpr(old.Expr)
	require.NoError(o.t, err)
	b, err := promql.ParseExpr(copied.Expr)
	require.NoError(o.t, err)
	o.same(a, b, old.Expr+"  →  "+copied.Expr)
}

// same walks two trees in lockstep.
func (o *oracle) same(a, b promql.Node, where string) {
	o.t.Helper()
	require.IsType(o.t, a, b, where)
	switch a := a.(type) {
	case *promql.AggregateExpr:
		b := b.(*promql.AggregateExpr)
		require.Equal(o.t, []any{a.Op, a.Without}, []any{b.Op, b.Without}, where)
		require.ElementsMatch(o.t, a.Grouping, b.Grouping, where)
	case *promql.BinaryExpr:
		b := b.(*promql.BinaryExpr)
		require.Equal(o.t, []any{a.Op, a.ReturnBool}, []any{b.Op, b.ReturnBool}, where)
		require.Equal(o.t, a.VectorMatching == nil, b.VectorMatching == nil, where)
		if x, y := a.VectorMatching, b.VectorMatching; x != nil {
			require.Equal(o.t, []any{x.Card, x.On}, []any{y.Card, y.On}, where)
			require.ElementsMatch(o.t, x.MatchingLabels, y.MatchingLabels, where)
			require.ElementsMatch(o.t, x.Include, y.Include, where)
		}
	case *promql.Call:
		require.Equal(o.t, a.Func, b.(*promql.Call).Func, where)
	case *promql.NumberLiteral:
		b := b.(*promql.NumberLiteral)
		require.Equal(o.t, a.Duration, b.Duration, where)
		require.Equal(o.t, math.Float64bits(a.Val), math.Float64bits(b.Val), where)
	case *promql.StringLiteral:
		require.Equal(o.t, a.Val, b.(*promql.StringLiteral).Val, where)
	case *promql.UnaryExpr:
		require.Equal(o.t, a.Op, b.(*promql.UnaryExpr).Op, where)
	case *promql.MatrixSelector:
		require.Equal(o.t, o.short(a.Range, o.floor(a.String())), b.(*promql.MatrixSelector).Range, where)
	case *promql.SubqueryExpr:
		b := b.(*promql.SubqueryExpr)
		floor := o.floor(a.String())
		require.Equal(o.t, o.short(a.Range, floor), b.Range, where)
		require.Equal(o.t, o.short(a.OriginalOffset, floor), b.OriginalOffset, where)
		require.Equal(o.t, []any{a.Timestamp, a.StartOrEnd}, []any{b.Timestamp, b.StartOrEnd}, where)
		step := float64(a.Step.Milliseconds()) * b.Range.Seconds() / a.Range.Seconds()
		if a.Step > 0 {
			step = max(step, 1)
		}
		require.InDelta(o.t, step, b.Step.Milliseconds(), 1, where)
	case *promql.VectorSelector:
		o.sameSelector(a, b.(*promql.VectorSelector), where)
	case *promql.ParenExpr:
	default:
		require.Fail(o.t, "unknown node", "%T in %s", a, where)
	}
	x, y := promql.Children(a), promql.Children(b)
	require.Len(o.t, y, len(x), where)
	for i := range x {
		o.same(x[i], y[i], where)
	}
}

func (o *oracle) sameSelector(a, b *promql.VectorSelector, where string) {
	o.t.Helper()
	require.Equal(o.t, o.renamed(a.Name), b.Name, where)
	require.Equal(o.t, o.short(a.OriginalOffset, o.floor(a.String())), b.OriginalOffset, where)
	require.Equal(o.t, []any{a.Timestamp, a.StartOrEnd, a.Anchored, a.Smoothed}, []any{b.Timestamp, b.StartOrEnd, b.Anchored, b.Smoothed}, where)
	text := func(ms []*labels.Matcher, rename bool) []string {
		var all []string
		for _, m := range ms {
			value := m.Value
			if rename && m.Name == labels.MetricName && m.Type == labels.MatchEqual {
				value = o.renamed(value)
			}
			all = append(all, fmt.Sprintf("%s%s%q", m.Name, m.Type, value))
		}
		slices.SortFunc(all, cmp.Compare[string])
		return all
	}
	require.Equal(o.t, text(a.LabelMatchers, true), text(b.LabelMatchers, false), where)
}
