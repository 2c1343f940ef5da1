package rules_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	promql "github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sandbox-stack/sandbox/internal/rules"
)

func TestSelectors(t *testing.T) {
	got, err := rules.Selectors(`rate(a{job="x",b!="y"}[5m] offset 1h) > on (job) {__name__="b",job="x"} or {__name__=~"c.*"} or a{b!="y",job="x"} @ 5 or {job="x"} or b`)
	require.NoError(t, err)
	assert.Equal(t, []rules.Selector{
		{Metric: "a", Matchers: `{b!="y",job="x"}`, Text: `a{b!="y",job="x"}`},
		{Metric: "b", Matchers: `{job="x"}`, Text: `{__name__="b",job="x"}`},
		{Matchers: `{__name__=~"c.*"}`, Text: `{__name__=~"c.*"}`},
		{Matchers: `{job="x"}`, Text: `{job="x"}`},
		{Metric: "b", Text: "b"},
	}, got)

	_, err = rules.Selectors("a >")
	assert.Error(t, err)
}

func TestCanFire(t *testing.T) {
	exists := func(metric string) (bool, error) { return metric == "here" || metric == "also", nil }
	for expr, want := range map[string][]string{
		"here > 0":                                  nil,
		"gone > 0":                                  {"gone"},
		"rate(gone[5m]) / rate(lost[5m]) > gone":    {"gone", "lost"},
		"gone > 0 or here > 0":                      nil,
		"gone > 0 or lost > 0":                      {"gone", "lost"},
		"here > 0 and gone > 0":                     {"gone"},
		"here unless gone":                          nil,
		"gone unless here":                          {"gone"},
		"here / gone":                               {"gone"},
		"here > bool gone":                          {"gone"},
		"here > scalar(gone)":                       {"gone"},
		"absent(gone)":                              nil,
		"absent_over_time(gone[5m]) and here":       nil,
		"absent(gone) and lost":                     {"lost"},
		"vector(1) > time() or gone":                nil,
		"sum by (a) (topk(scalar(gone), here)) > 1": {"gone"},
		"max_over_time((here > gone)[5m:1m])":       {"gone"},
		`{__name__=~"gone"} > 0`:                    nil,
		`{__name__="gone"} > 0`:                     {"gone"},
		`{job="x"} > 0`:                             nil,
		`ALERTS{alertname="A"} > 0`:                 nil,
		`label_replace(gone, "a", "b", "c", "d")`:   {"gone"},
		"(gone or here) + also":                     nil,
		"(gone or lost) + also":                     {"gone", "lost"},
	} {
		missing, err := rules.CanFire(expr, exists)
		require.NoError(t, err, expr)
		assert.Equal(t, want, missing, expr)
	}
}

func TestCanFireAsksOncePerMetricAndPassesErrorsOn(t *testing.T) {
	var asked []string
	_, err := rules.CanFire("a + b + a", func(metric string) (bool, error) {
		asked = append(asked, metric)
		return true, nil
	})
	require.NoError(t, err)
	assert.Equal(t, []string{"a", "b"}, asked)

	down := errors.New("down")
	_, err = rules.CanFire("a", func(string) (bool, error) { return false, down })
	assert.ErrorIs(t, err, down)
	_, err = rules.CanFire("a >", nil)
	assert.Error(t, err)
}

func TestExplain(t *testing.T) {
	for expr, want := range map[string][]rules.Condition{
		"rate(a[45s]) > 0": {{Expr: "rate(a[45s])", Op: ">", Threshold: "0", Whole: "rate(a[45s]) > 0"}},
		"0.9 <= (a / b)":   {{Expr: "a / b", Op: ">=", Threshold: "0.9", Whole: "0.9 <= (a / b)"}},
		"0 == a":           {{Expr: "a", Op: "==", Threshold: "0", Whole: "0 == a"}},
		"a < on (x) b":     {{Expr: "a", Op: "<", Threshold: "b", Whole: "a < on (x) b"}},
		"a > scalar(b)":    {{Expr: "a", Op: ">", Threshold: "scalar(b)", Whole: "a > scalar(b)"}},
		"a / (b > 0) > 1":  {{Expr: "a / (b > 0)", Op: ">", Threshold: "1", Whole: "a / (b > 0) > 1"}},
		"(a > 1 and (b != 2)) or c <= 3": {
			{Expr: "a", Op: ">", Threshold: "1", Whole: "a > 1"},
			{Expr: "b", Op: "!=", Threshold: "2", Whole: "b != 2"},
			{Expr: "c", Op: "<=", Threshold: "3", Whole: "c <= 3"},
		},
		"sum by (x) (a > 1)":      {{Expr: "a", Op: ">", Threshold: "1", Whole: "a > 1"}},
		"a * on (x) (b == 1)":     {{Expr: "b", Op: "==", Threshold: "1", Whole: "b == 1"}},
		"(a > bool 1) == 1":       {{Expr: "a > bool 1", Op: "==", Threshold: "1", Whole: "(a > bool 1) == 1"}},
		"a > 1 unless on (x) b":   {{Expr: "a", Op: ">", Threshold: "1", Whole: "a > 1"}, {Expr: "count(a > 1 and on (x) b) or vector(0)", Op: "==", Threshold: "0", Whole: "a > 1 unless on (x) b"}},
		`absent(up{job="x"})`:     {{Expr: `count(up{job="x"}) or vector(0)`, Op: "==", Threshold: "0", Whole: `absent(up{job="x"})`}},
		"absent_over_time(a[5m])": {{Expr: "count(present_over_time(a[5m])) or vector(0)", Op: "==", Threshold: "0", Whole: "absent_over_time(a[5m])"}},
		"a":                       nil,
		"a > bool 1":              nil,
		"vector(1)":               nil,
	} {
		got, err := rules.Explain(expr)
		require.NoError(t, err, expr)
		assert.Equal(t, want, got, expr)
	}
	_, err := rules.Explain("a >")
	assert.Error(t, err)
}

// What Explain and Selectors give can be asked of Prometheus, whatever they were
// given; and what exists in full can fire.
func TestWhatIsSaidOfAnExpressionCanBeAsked(t *testing.T) {
	const seed = 6
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 1)), recorded: []string{"r:a"}}
	for range iterations {
		expr := g.expr(4)
		conditions, err := rules.Explain(expr)
		require.NoError(t, err, expr)
		for _, c := range conditions {
			for _, part := range []string{c.Expr, c.Threshold, c.Whole} {
				_, err := promql.ParseExpr(part)
				require.NoError(t, err, "%s of %s", part, expr)
			}
		}
		selectors, err := rules.Selectors(expr)
		require.NoError(t, err)
		var metrics []string
		for _, s := range selectors {
			_, err := promql.ParseExpr("count(" + s.Text + ")")
			require.NoError(t, err, "%s of %s", s.Text, expr)
			metrics = append(metrics, s.Metric)
		}
		missing, err := rules.CanFire(expr, func(string) (bool, error) { return true, nil })
		require.NoError(t, err)
		require.Empty(t, missing)
		missing, err = rules.CanFire(expr, func(string) (bool, error) { return false, nil })
		require.NoError(t, err)
		for _, m := range missing {
			require.True(t, slices.Contains(metrics, m), "%s of %s", m, expr)
		}
	}
}
