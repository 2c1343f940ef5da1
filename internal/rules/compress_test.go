package rules_test

import (
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	promql "github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sandbox-stack/sandbox/internal/rules"
)

func parse(t *testing.T, text string) *rulefmt.RuleGroups {
	t.Helper()
	groups, errs := rulefmt.Parse([]byte(text), false, model.LegacyValidation)
	require.Empty(t, errs)
	return groups
}

func options(alert string) rules.Options {
	return rules.Options{Alert: alert, Factor: 20, Scrape: scrape, Evaluation: evaluation, Label: rules.Label{Name: "sandbox_drill", Value: "x-1"}}
}

func TestCompressCopiesWhatAnAlertNeeds(t *testing.T) {
	c, err := rules.Compress(parse(t, `
groups:
  - name: recorded
    interval: 1m
    query_offset: 10s
    rules:
      - record: a:rate
        expr: rate(fast_a[10m])
      - record: unused
        expr: rate(fast_a[10m])
      - record: b:ratio
        expr: a:rate / {__name__="a:rate", job="x"} offset 5m
  - name: others
    rules:
      - alert: Other
        expr: fast_a > 1
  - name: web
    rules:
      - alert: Down
        expr: avg_over_time(b:ratio{job="x"}[1h:5m]) > 5m and rate(slow_a[2m] @ 100) > 1
        for: 5m
        keep_firing_for: 1h
        labels: {severity: page, sandbox_drill: ordinary}
        annotations: {summary: "{{ $value }}"}
      - alert: Down
        expr: fast_b == 0
        for: 9s
`), options("Down"))
	require.NoError(t, err)
	data, err := c.YAML()
	require.NoError(t, err)
	assert.Equal(t, `groups:
    - name: drill/recorded
      interval: 2s
      query_offset: 500ms
      rules:
        - record: a:rate:drill
          expr: rate(fast_a[30s])
        - record: b:ratio:drill
          expr: a:rate:drill / {__name__="a:rate:drill",job="x"} offset 15s
    - name: drill/web
      interval: 2s
      rules:
        - alert: Down
          expr: avg_over_time(b:ratio:drill{job="x"}[3m:15s]) > 5m and rate(slow_a[30s] @ 100.000) > 1
          for: 30s
          keep_firing_for: 3m
          labels:
            sandbox_drill: x-1
            severity: page
          annotations:
            summary: '{{ $value }}'
        - alert: Down
          expr: fast_b == 0
          for: 9s
          labels:
            sandbox_drill: x-1
`, string(data))

	assert.Equal(t, map[string]string{"a:rate": "a:rate:drill", "b:ratio": "b:ratio:drill"}, c.Recorded)
	require.Len(t, c.Alerts, 2)
	first := c.Alerts[0]
	assert.Equal(t, "drill/web", first.Group)
	assert.Equal(t, 30*time.Second, first.For)
	assert.Equal(t, 3*time.Minute, first.KeepFiringFor)
	assert.Equal(t, model.Duration(5*time.Minute), first.Original.For)
	assert.Equal(t, "ordinary", first.Original.Labels["sandbox_drill"], "the rule itself is left alone")
	// 3m of the subquery, 15s of the offset and 30s of the rate.
	assert.Equal(t, 3*time.Minute+45*time.Second, first.Range)
	assert.Zero(t, c.Alerts[1].Range)
}

func TestCompressWithAFactorOfOneLeavesRulesAsTheyAre(t *testing.T) {
	opt := options("Down")
	opt.Factor, opt.Label = 1, rules.Label{}
	c, err := rules.Compress(parse(t, `
groups:
  - name: web
    rules:
      - record: a:rate
        expr: rate(fast_a[10m])
      - alert: Down
        expr: a:rate offset 1s > 1
        for: 5m
`), opt)
	require.NoError(t, err)
	require.Len(t, c.Alerts, 1)
	assert.Equal(t, "a:rate offset 1s > 1", c.Alerts[0].Expr)
	assert.Equal(t, 5*time.Minute, c.Alerts[0].For)
	assert.Equal(t, 10*time.Minute+time.Second, c.Alerts[0].Range)
	assert.Nil(t, c.Alerts[0].Rule.Labels)
}

func TestCompressKeepsDurationsAboveTwoScrapes(t *testing.T) {
	for expr, want := range map[string]string{
		"rate(fast_a[5m])":                        "rate(fast_a[15s])",
		"rate(fast_a[2m])":                        "rate(fast_a[10s])",
		"rate(fast_a[8s])":                        "rate(fast_a[8s])",
		"rate(slow_a[5m])":                        "rate(slow_a[30s])",
		"rate(fast_a[300])":                       "rate(fast_a[15s])",
		"fast_a offset 1h":                        "fast_a offset 3m",
		"fast_a offset -1h":                       "fast_a offset -3m",
		"fast_a offset -1m":                       "fast_a offset -10s",
		"fast_a offset 3s":                        "fast_a offset 3s",
		"fast_a @ 1700000000":                     "fast_a @ 1700000000.000",
		"fast_a @ end() offset 1h":                "fast_a @ end() offset 3m",
		"rate(fast_a[5m] offset 10m)":             "rate(fast_a[15s] offset 30s)",
		"sum_over_time(fast_a[10m:1m])":           "sum_over_time(fast_a[30s:3s])",
		"sum_over_time(fast_a[2m:1m])":            "sum_over_time(fast_a[10s:5s])", // the same two points
		"sum_over_time(fast_a[1h:] offset 1h)":    "sum_over_time(fast_a[3m:] offset 3m)",
		"sum_over_time((fast_a / slow_a)[2m:1m])": "sum_over_time((fast_a / slow_a)[30s:15s])",
		"max_over_time(rate(fast_a[5m])[30m:1m])": "max_over_time(rate(fast_a[15s])[1m30s:3s])",
		"time() - fast_a > 1h":                    "time() - fast_a > 1h",
		"Inf ^ fast_a":                            "Inf ^ fast_a",
	} {
		c, err := rules.Compress(&rulefmt.RuleGroups{Groups: []rulefmt.RuleGroup{{Name: "a", Rules: []rulefmt.Rule{{Alert: "A", Expr: expr}}}}}, options("A"))
		require.NoError(t, err, expr)
		assert.Equal(t, want, c.Alerts[0].Expr)
	}
}

func TestCompressTakesExtendedSelectors(t *testing.T) {
	promql.EnableExtendedRangeSelectors = true
	t.Cleanup(func() { promql.EnableExtendedRangeSelectors = false })
	c, err := rules.Compress(parse(t, `{groups: [{name: a, rules: [{alert: A, expr: "rate(fast_a[5m] smoothed offset 1h) > increase(fast_a[5m] anchored)"}]}]}`), options("A"))
	require.NoError(t, err)
	assert.Equal(t, "rate(fast_a[15s] smoothed offset 3m) > increase(fast_a[15s] anchored)", c.Alerts[0].Expr)
}

func TestCompressRefusesWhatItCannotCompress(t *testing.T) {
	promql.ExperimentalDurationExpr = true
	t.Cleanup(func() { promql.ExperimentalDurationExpr = false })
	for text, want := range map[string]string{
		`{groups: [{name: a, rules: [{alert: A, expr: "rate(fast_a[5m * 2])"}]}]}`:                                                "computed duration",
		`{groups: [{name: a, rules: [{alert: A, expr: "fast_a offset (5m * 2)"}]}]}`:                                              "computed duration",
		`{groups: [{name: a, rules: [{alert: A, expr: "sum_over_time(fast_a[5m:step()])"}]}]}`:                                    "computed duration",
		`{groups: [{name: a, rules: [{record: r, expr: fast_a}, {alert: A, expr: "{__name__=~\"r|fast_a\"}"}]}]}`:                 "recorded series r by a pattern",
		`{groups: [{name: a, rules: [{record: r, expr: fast_a}, {record: "r:drill", expr: fast_a}, {alert: A, expr: "r > 1"}]}]}`: "would be r:drill",
		`{groups: [{name: a, rules: [{alert: B, expr: fast_a}]}]}`:                                                                `no rule has the alert "A"`,
		`{groups: [{name: a, rules: [{record: A, expr: fast_a}]}]}`:                                                               `no rule has the alert "A"`,
	} {
		_, err := rules.Compress(parse(t, text), options("A"))
		assert.ErrorContains(t, err, want, text)
	}

	groups := &rulefmt.RuleGroups{Groups: []rulefmt.RuleGroup{{Name: "a", Rules: []rulefmt.Rule{{Alert: "A", Expr: "fast_a >"}}}}}
	_, err := rules.Compress(groups, options("A"))
	assert.ErrorContains(t, err, "rule A of group a")
	for _, change := range []func(*rules.Options){
		func(o *rules.Options) { o.Factor = 0 },
		func(o *rules.Options) { o.Evaluation = 0 },
		func(o *rules.Options) { o.Scrape = nil },
	} {
		opt := options("A")
		change(&opt)
		_, err := rules.Compress(groups, opt)
		assert.Error(t, err)
	}
}

// Rules of several files may be in groups of one name.
func TestCompressTellsGroupsOfOneNameApart(t *testing.T) {
	group := rulefmt.RuleGroup{Name: "a", Rules: []rulefmt.Rule{{Alert: "A", Expr: "fast_a"}}}
	c, err := rules.Compress(&rulefmt.RuleGroups{Groups: []rulefmt.RuleGroup{group, group}}, options("A"))
	require.NoError(t, err)
	require.Len(t, c.Groups.Groups, 2)
	assert.Equal(t, "drill/a", c.Groups.Groups[0].Name)
	assert.Equal(t, "drill/a (2)", c.Alerts[1].Group)
}

func TestCompressTakesSeriesThatAreMadeOfThemselves(t *testing.T) {
	c, err := rules.Compress(parse(t, `
groups:
  - name: a
    rules:
      - record: r
        expr: fast_a > 5 or r offset 1m > 3
      - record: r
        expr: slow_a
      - alert: A
        expr: min_over_time(r[5m]) > 0
`), options("A"))
	require.NoError(t, err)
	require.Len(t, c.Groups.Groups[0].Rules, 3)
	assert.Equal(t, "fast_a > 5 or r:drill offset 30s > 3", c.Groups.Groups[0].Rules[0].Expr)
	assert.Equal(t, "min_over_time(r:drill[30s]) > 0", c.Alerts[0].Expr)
}

func TestShortest(t *testing.T) {
	rule := func(hold time.Duration) rulefmt.Rule { return rulefmt.Rule{Alert: "A", For: model.Duration(hold)} }
	assert.Equal(t, 7*time.Second, rules.Shortest(rule(0), 5*time.Second, 2*time.Second))
	assert.Equal(t, 17*time.Second, rules.Shortest(rule(10*time.Second), 5*time.Second, 2*time.Second))
	assert.Equal(t, 19*time.Second, rules.Shortest(rule(11*time.Second), 5*time.Second, 2*time.Second))
	assert.Equal(t, 16*time.Second, rules.Shortest(rule(11*time.Second), 5*time.Second, 0))
}
