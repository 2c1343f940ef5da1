package session

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/health"
	"github.com/sandbox-stack/sandbox/internal/live"
	"github.com/sandbox-stack/sandbox/internal/plan"
	"github.com/sandbox-stack/sandbox/internal/release"
	"github.com/sandbox-stack/sandbox/internal/render"
	"github.com/sandbox-stack/sandbox/internal/stack"
	"github.com/sandbox-stack/sandbox/internal/steps"
)

const (
	// probeDeadline bounds one look at a component: what does not answer in
	// this time is stale.
	probeDeadline = 3 * time.Second
	// healthyTimeout is how long up waits, after all steps, until everything
	// is ok: the first scrapes and rule evaluations take some seconds.
	healthyTimeout = 2 * time.Minute
)

// Status is the sandbox as it is now.
func (s *Session) Status(ctx context.Context) render.Status {
	rec, err := s.dir.Record()
	st := render.Status{Name: s.name, Stack: s.stack.File, Engine: s.info.Engine + " " + s.info.Version}
	if err == nil {
		st.Since = rec.Created
	}
	st.Components = s.health(ctx)
	st.State = health.Overall(st.Components)
	return st
}

func (s *Session) health(ctx context.Context) []event.Health {
	return health.Collect(ctx, s.sources(), probeDeadline, s.needs())
}

// sources lists what to ask, by what the stack consists of.
func (s *Session) sources() []health.Source {
	list := []health.Source{{Name: "cluster", Components: []string{"cluster"}, Probe: s.probeCluster}}
	if s.stack.Spec.AWS.On() {
		list = append(list, health.Source{Name: "aws", Components: []string{"aws"}, Probe: func(ctx context.Context) []event.Health {
			e, err := s.emulator()
			if err != nil {
				return failed("aws", err)
			}
			return e.Health(ctx)
		}})
	}
	for _, img := range s.stack.Spec.Images {
		id := "image/" + img.Name
		list = append(list, health.Source{Name: id, Components: []string{id}, Probe: func(ctx context.Context) []event.Health {
			return s.probeImage(ctx, id)
		}})
	}
	for _, t := range s.stack.Spec.Terraform {
		id := "terraform/" + t.Name
		list = append(list, health.Source{Name: id, Components: []string{id}, Probe: func(ctx context.Context) []event.Health {
			return live.WithResources(&liveModule{s: s, spec: t}, s.probeModule(t))(ctx)
		}})
	}
	for _, r := range s.stack.Spec.Releases {
		id := "release/" + r.Name
		list = append(list, health.Source{Name: id, Components: []string{id}, Probe: func(ctx context.Context) []event.Health {
			return s.releases.Release(release.Spec{Name: r.Name, Namespace: r.Namespace}).Health(ctx)
		}})
	}
	if s.stack.Spec.Observability.On() {
		list = append(list, s.observers()...)
	}
	return append(list, health.Source{Name: "drills", Probe: s.probeFaults})
}

// probeFaults names what drills have broken and not mended yet.
func (s *Session) probeFaults(context.Context) []event.Health {
	list, err := s.Faults()
	if err != nil {
		return failed("drill", err)
	}
	_, running, err := s.dir.Holder()
	if err != nil {
		return failed("drill", err)
	}
	var all []event.Health
	for _, rec := range list {
		if !rec.Breaks() {
			continue
		}
		h := event.Health{Component: drillStep(rec.Alert), State: event.StateDegraded, Since: rec.Since, Reason: "its fault is left: " + rec.What, Try: "sandbox alerts drill --undo"}
		if running {
			h.Reason, h.Try = "breaks the stack on purpose: "+rec.What, ""
		}
		all = append(all, h)
	}
	return all
}

func (s *Session) observers() []health.Source {
	return []health.Source{
		{Name: "prometheus", Components: []string{"observe/prometheus", "observe/rules"}, Probe: func(ctx context.Context) []event.Health {
			p, err := s.prometheus()
			if err != nil {
				return failed("observe/prometheus", err)
			}
			return p.Health(ctx)
		}},
		{Name: "alertmanager", Components: []string{"observe/alertmanager"}, Probe: func(ctx context.Context) []event.Health {
			a, err := s.alertmanager()
			if err != nil {
				return failed("observe/alertmanager", err)
			}
			return a.Health(ctx)
		}},
		{Name: "grafana", Components: []string{"observe/grafana"}, Probe: func(ctx context.Context) []event.Health {
			if s.ref(plan.GrafanaImage) == "" {
				return []event.Health{{Component: "observe/grafana", State: event.StateOff, Reason: s.ref(offFact + plan.GrafanaImage)}}
			}
			g, err := s.grafana()
			if err != nil {
				return failed("observe/grafana", err)
			}
			return g.Health(ctx)
		}},
		{Name: exporterAlias, Components: []string{componentExporter}, Probe: s.probeExporter},
	}
}

func (s *Session) probeCluster(ctx context.Context) []event.Health {
	c, err := s.cluster()
	if err != nil {
		return failed("cluster", err)
	}
	return c.Health(ctx)
}

// probeModule says whether a module is applied, to this emulator.
func (s *Session) probeModule(t stack.Terraform) health.Probe {
	return func(ctx context.Context) []event.Health {
		m, err := s.module(ctx, t)
		if err != nil {
			return failed("terraform/"+t.Name, err)
		}
		return m.Health(ctx)
	}
}

// probeImage says whether the stack's image is in the engine's store.
func (s *Session) probeImage(ctx context.Context, id string) []event.Health {
	ref := s.ref(id)
	if ref == "" {
		return []event.Health{{Component: id, State: event.StateWaiting, Reason: "not built yet", Try: "sandbox up"}}
	}
	if _, err := s.engine.Image(ctx, ref); err != nil {
		return failed(id, err)
	}
	return []event.Health{{Component: id, State: event.StateOK, Reason: ref}}
}

func failed(component string, err error) []event.Health {
	return []event.Health{{Component: component, State: event.StateFailed, Reason: reason(err), Try: steps.Problem(err).Try}}
}

// reason is an error in one line, as far as its own text is.
func reason(err error) string {
	p := steps.Problem(err)
	if p.Why == "" {
		return p.What
	}
	return p.What + ": " + p.Why
}

// needs tells which components each component works with, for finding the one
// to blame.
func (s *Session) needs() health.Needs {
	needs := health.Needs{}
	for _, c := range s.stack.Components() {
		needs[c.ID] = c.DependsOn
		if s.stack.Spec.AWS.On() && strings.HasPrefix(c.ID, "release/") {
			needs[c.ID] = append([]string{"aws"}, c.DependsOn...)
		}
	}
	return needs
}

// ensureHealthy waits until every component is ok, or off.
func (s *Session) ensureHealthy(ctx context.Context, rep event.Reporter) (steps.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, healthyTimeout)
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for first := true; ; first = false {
		all := s.health(ctx)
		var blockers []string
		var worst event.Health
		ok, off := 0, 0
		for _, h := range all {
			switch h.State {
			case event.StateOK:
				ok++
				continue
			case event.StateOff:
				off++
				continue
			}
			if worst.Component == "" {
				worst = h
			}
			blockers = append(blockers, fmt.Sprintf("%s %s: %s", h.Component, h.State, h.Reason))
		}
		if len(blockers) == 0 {
			note := fmt.Sprintf("%d components ok", ok)
			if off > 0 {
				note += fmt.Sprintf(", %d off", off)
			}
			return steps.Result{Done: first, Note: note}, nil
		}
		rep.Progress(event.Progress{
			Text: "waiting for health", Done: int64(ok), Total: int64(len(all) - off), Unit: "components", Blockers: blockers,
		})
		select {
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
				return steps.Result{}, &fault.Error{
					Code: fault.Unhealthy, What: worst.Component + " is " + string(worst.State), Why: worst.Reason,
					Try: "sandbox status, sandbox logs " + worst.Component, Log: blockers,
				}
			}
			return steps.Result{}, ctx.Err()
		case <-tick.C:
		}
	}
}
