package observe

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// Health returns the health of Prometheus and of its rules.
func (p *Prometheus) Health(ctx context.Context) []event.Health {
	h, base := p.svc.health(ctx)
	rules := event.Health{Component: ComponentRules, State: event.StateStale, Blames: ComponentPrometheus}
	if h.State != event.StateOK {
		rules.Reason = "prometheus is " + string(h.State)
		if h.State == event.StateWorking {
			rules.State = event.StateWaiting
		}
		return []event.Health{h, rules}
	}
	c, err := apiAt(base)
	if err != nil {
		h.State, h.Reason = event.StateFailed, err.Error()
		rules.Reason = "prometheus is failed"
		return []event.Health{h, rules}
	}
	h = p.targetHealth(ctx, c, h)
	if h.State != event.StateOK {
		h.Since = time.Time{} // Prometheus does not say since when
	}
	return []event.Health{h, rulesHealth(ctx, c, base)}
}

// targetHealth completes the health of a Prometheus that is ready with what it
// sees of its targets.
func (p *Prometheus) targetHealth(ctx context.Context, c promv1.API, h event.Health) event.Health {
	result, err := c.Targets(ctx)
	if err != nil {
		h.State, h.Reason = event.StateDegraded, "its targets are not known: "+shortError(err.Error())
		return h
	}
	access, err := p.clusterAccess()
	if err != nil {
		h.State, h.Reason = event.StateDegraded, err.Error()
		return h
	}
	var expected []string
	if access != nil {
		expected = []string{JobKubelet, JobCadvisor, JobKubeStateMetrics}
	}
	h.State, h.Reason = summarize(result.Active, expected)
	if h.State == event.StateDegraded {
		h.Try = "see " + h.URL + "/targets"
	}
	if h.State == event.StateOK && p.cfg.Alertmanager {
		if n, err := alertmanagers(ctx, c); err != nil || n == 0 {
			h.State, h.Reason = event.StateDegraded, "it has no Alertmanager to send alerts to"
			h.Blames = ComponentAlertmanager
		}
	}
	return h
}

// summarize judges the targets by job. The expected jobs must have some.
func summarize(targets []promv1.ActiveTarget, expected []string) (event.State, string) {
	type job struct {
		name             string
		up, down, unseen int
		reason           string
	}
	jobs := map[string]*job{}
	for _, name := range expected {
		jobs[name] = &job{name: name}
	}
	for _, t := range targets {
		j, ok := jobs[t.ScrapePool]
		if !ok {
			j = &job{name: t.ScrapePool}
			jobs[t.ScrapePool] = j
		}
		switch t.Health {
		case promv1.HealthGood:
			j.up++
		case promv1.HealthBad:
			j.down++
			if reason := shortError(t.LastError); j.reason == "" || reason < j.reason {
				j.reason = reason
			}
		default:
			j.unseen++
		}
	}
	var bad, working []string
	up, unseen := 0, 0
	for _, name := range slices.Sorted(maps.Keys(jobs)) {
		j := jobs[name]
		up, unseen = up+j.up, unseen+j.unseen
		total := j.up + j.down + j.unseen
		switch {
		case total == 0:
			bad = append(bad, name+": nothing found to scrape")
		case j.down > 0:
			bad = append(bad, fmt.Sprintf("%s %d of %d up: %s", name, j.up, total, j.reason))
		case j.up == 0 && slices.Contains(expected, name):
			working = append(working, fmt.Sprintf("%s %d of %d seen", name, j.up, total))
		}
	}
	switch {
	case len(bad) > 0:
		return event.StateDegraded, strings.Join(bad, "; ")
	case len(working) > 0:
		return event.StateWorking, "first scrape: " + strings.Join(working, "; ")
	default:
		// A pod that has just started is scraped within seconds; until then
		// nothing is known against it.
		reason := fmt.Sprintf("%d of %d targets up", up, up+unseen)
		if unseen > 0 {
			reason += ", the others are not scraped yet"
		}
		return event.StateOK, reason
	}
}

// rulesHealth is the health of the rules in a Prometheus that is ready. An
// alert that fires is not a fault of the rules: it is named, the state is ok.
func rulesHealth(ctx context.Context, c promv1.API, base string) event.Health {
	h := event.Health{Component: ComponentRules, State: event.StateOK, URL: base + "/alerts"}
	result, err := c.Rules(ctx, nil)
	if err != nil {
		h.State, h.Reason = event.StateStale, "not known: "+shortError(err.Error())
		h.Blames = ComponentPrometheus
		return h
	}
	count, broken := 0, []string{}
	for _, g := range result.Groups {
		for _, r := range g.Rules {
			count++
			name, health, lastError := ruleOutcome(r)
			if health == promv1.RuleHealthBad {
				broken = append(broken, name+": "+shortError(lastError))
			}
		}
	}
	firing := []string{}
	for _, a := range alertsOf(result.Groups) {
		if a.State == string(promv1.AlertStateFiring) && !slices.Contains(firing, a.Rule) {
			firing = append(firing, a.Rule)
		}
	}
	if len(broken) > 0 {
		h.State = event.StateDegraded
		h.Reason = fmt.Sprintf("%d of %d can't be evaluated: %s", len(broken), count, strings.Join(broken, "; "))
		h.Try = "see " + base + "/rules"
		return h
	}
	h.Reason = fmt.Sprintf("%d loaded", count)
	if len(firing) > 0 {
		h.Reason += ", firing: " + strings.Join(firing, ", ")
	}
	return h
}

func ruleOutcome(rule any) (name string, health promv1.RuleHealth, lastError string) {
	switch r := rule.(type) {
	case promv1.AlertingRule:
		return r.Name, r.Health, r.LastError
	case promv1.RecordingRule:
		return r.Name, r.Health, r.LastError
	default:
		return fmt.Sprintf("%T", rule), promv1.RuleHealthUnknown, ""
	}
}

// Health returns the health of Alertmanager.
func (a *Alertmanager) Health(ctx context.Context) []event.Health {
	h, _ := a.svc.health(ctx)
	return []event.Health{h}
}

// Health returns the health of Grafana: off, with the reason, where its image
// can't be had.
func (g *Grafana) Health(ctx context.Context) []event.Health {
	if g.cfg.Image == "" {
		return []event.Health{{
			Component: ComponentGrafana, State: event.StateOff,
			Reason: cmp.Or(g.cfg.Unavailable, "its image can't be had"),
		}}
	}
	h, _ := g.svc.health(ctx)
	return []event.Health{h}
}

// health looks at the container and asks the service whether it is ready. base
// is where it answers; it is empty unless the container runs.
func (s *service) health(ctx context.Context) (h event.Health, base string) {
	h = event.Health{Component: s.component, State: event.StateFailed}
	c, err := s.find(ctx)
	var known *fault.Error
	switch {
	case errors.Is(err, runtime.ErrNotFound):
		h.Reason, h.Try = "its container is not there", "sandbox up"
		return h, ""
	case errors.As(err, &known):
		h.Reason, h.Try = known.What, known.Try
		return h, ""
	case err != nil:
		h.State, h.Reason = event.StateStale, "the engine does not say: "+err.Error()
		return h, ""
	case !c.Running():
		h.Reason, h.Try = exitReason(c), "sandbox logs "+s.component
		if tail := s.tail(ctx, c.ID); len(tail) > 0 {
			h.Reason += ": " + tail[len(tail)-1]
		}
		h.Since = c.Finished
		return h, ""
	}
	base, err = baseURL(c, s.port)
	if err != nil {
		h.Reason = err.Error()
		return h, ""
	}
	h.URL = base
	if err := s.probe(ctx, c); err != nil {
		h.Reason, h.Try = "not ready: "+shortError(err.Error()), "sandbox logs "+s.component
		if time.Since(c.Started) < graceStarted {
			h.State, h.Try = event.StateWorking, ""
		}
		return h, base
	}
	h.State, h.Since = event.StateOK, c.Started
	return h, base
}

// shortError keeps what a reader needs of an error of Go's HTTP client, whose
// text begins with the URL and the addresses: the cause at its end.
func shortError(text string) string {
	if !strings.HasPrefix(text, "Get ") && !strings.HasPrefix(text, "Post ") {
		return text
	}
	if i := strings.LastIndex(text, ": "); i >= 0 {
		return text[i+2:]
	}
	return text
}
