package observe

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// client returns a client for Prometheus' API.
func (p *Prometheus) client(ctx context.Context) (promv1.API, error) {
	base, err := p.svc.url(ctx)
	if err != nil {
		return nil, err
	}
	return apiAt(base)
}

func apiAt(base string) (promv1.API, error) {
	c, err := api.NewClient(api.Config{Address: base, Client: local})
	if err != nil {
		return nil, fmt.Errorf("prometheus client for %s: %w", base, err)
	}
	return promv1.NewAPI(c), nil
}

// Query evaluates PromQL now.
func (p *Prometheus) Query(ctx context.Context, promql string) (model.Value, error) {
	c, err := p.client(ctx)
	if err != nil {
		return nil, err
	}
	value, warnings, _, err := c.Query(ctx, promql, time.Now())
	if err != nil {
		return nil, fmt.Errorf("query %q: %w", promql, err)
	}
	if len(warnings) > 0 && isEmpty(value) {
		return nil, fmt.Errorf("query %q: no data: %s", promql, warnings[0])
	}
	return value, nil
}

// isEmpty reports whether a query found no data.
func isEmpty(v model.Value) bool {
	switch v := v.(type) {
	case model.Vector:
		return len(v) == 0
	case model.Matrix:
		return len(v) == 0
	default:
		return v == nil
	}
}

// Targets returns what Prometheus scrapes now.
func (p *Prometheus) Targets(ctx context.Context) ([]promv1.ActiveTarget, error) {
	c, err := p.client(ctx)
	if err != nil {
		return nil, err
	}
	result, err := c.Targets(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask Prometheus for its targets: %w", err)
	}
	return result.Active, nil
}

// Rules returns the loaded rule groups with the state of their rules.
func (p *Prometheus) Rules(ctx context.Context) ([]promv1.RuleGroup, error) {
	c, err := p.client(ctx)
	if err != nil {
		return nil, err
	}
	result, err := c.Rules(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("ask Prometheus for its rules: %w", err)
	}
	return result.Groups, nil
}

// Alerts returns the state of every alerting rule: one entry for each pending
// or firing alert, and one for each rule that has none.
func (p *Prometheus) Alerts(ctx context.Context) ([]event.AlertChanged, error) {
	groups, err := p.Rules(ctx)
	if err != nil {
		return nil, err
	}
	return alertsOf(groups), nil
}

func alertsOf(groups []promv1.RuleGroup) []event.AlertChanged {
	var all []event.AlertChanged
	for _, g := range groups {
		for _, r := range g.Rules {
			rule, ok := r.(promv1.AlertingRule)
			if !ok {
				continue
			}
			if len(rule.Alerts) == 0 {
				all = append(all, event.AlertChanged{
					Rule: rule.Name, State: string(promv1.AlertStateInactive), Labels: labelMap(rule.Labels), Expr: rule.Query,
				})
			}
			for _, a := range rule.Alerts {
				all = append(all, event.AlertChanged{
					Rule: rule.Name, State: string(a.State), Labels: labelMap(a.Labels), Value: a.Value, Since: a.ActiveAt,
					Summary: summary(a.Annotations), Expr: rule.Query,
				})
			}
		}
	}
	return all
}

// summary is what the annotations, which Prometheus has filled in, say of an alert,
// under the names that most rules use.
func summary(annotations model.LabelSet) string {
	var parts []string
	for _, name := range []model.LabelName{"summary", "message", "description"} {
		if text := strings.TrimSpace(string(annotations[name])); text != "" {
			parts = append(parts, text)
		}
	}
	return strings.Join(parts, "\n")
}

// labelMap copies labels without the alert's own name, which AlertChanged has
// in Rule.
func labelMap(set model.LabelSet) map[string]string {
	m := map[string]string{}
	for name, value := range set {
		if name != model.AlertNameLabel {
			m[string(name)] = string(value)
		}
	}
	return m
}

// alertmanagers returns how many Alertmanagers Prometheus sends alerts to.
func alertmanagers(ctx context.Context, c promv1.API) (int, error) {
	result, err := c.AlertManagers(ctx)
	if err != nil {
		return 0, fmt.Errorf("ask Prometheus for its Alertmanagers: %w", err)
	}
	return len(result.Active), nil
}

// Alertmanagers returns the URLs that Prometheus sends alerts to.
func (p *Prometheus) Alertmanagers(ctx context.Context) ([]string, error) {
	c, err := p.client(ctx)
	if err != nil {
		return nil, err
	}
	result, err := c.AlertManagers(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask Prometheus for its Alertmanagers: %w", err)
	}
	var urls []string
	for _, a := range result.Active {
		urls = append(urls, a.URL)
	}
	return urls, nil
}

// Metrics returns the names of the metrics that targets describe, whether they
// have series or not.
func (p *Prometheus) Metrics(ctx context.Context) (map[string]bool, error) {
	c, err := p.client(ctx)
	if err != nil {
		return nil, err
	}
	described, err := c.Metadata(ctx, "", "")
	if err != nil {
		return nil, fmt.Errorf("ask Prometheus for the metrics of its targets: %w", err)
	}
	names := map[string]bool{}
	for name := range described {
		names[name] = true
	}
	return names, nil
}
