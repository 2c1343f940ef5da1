package aws

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// startPeriod is how long an emulator that does not answer counts as starting.
const startPeriod = time.Minute

// Health looks at the emulator once and returns its health as component "aws"
// and that of each service of the Config as "aws/NAME". It takes less than a
// second.
func (e *Emulator) Health(ctx context.Context) []event.Health {
	all := event.Health{Component: component}
	c, err := e.rt.Container(ctx, e.ContainerName())
	switch {
	case errors.Is(err, runtime.ErrNotFound):
		all.State, all.Reason, all.Try = event.StateFailed, "its container does not exist", "sandbox up"
		return e.withServices(all)
	case err != nil:
		all.State, all.Reason = event.StateStale, err.Error()
		return e.withServices(all)
	case !c.Running():
		all.State, all.Reason, all.Try, all.Since = event.StateFailed, exitReason(c), "sandbox up", c.Finished
		return e.withServices(all)
	}
	url, err := endpoint(c)
	if err != nil {
		all.State, all.Reason = event.StateFailed, err.Error()
		return e.withServices(all)
	}
	all.URL = url
	r, err := ask(ctx, url)
	if err != nil {
		switch {
		case time.Since(c.Started) < startPeriod:
			all.State, all.Reason = event.StateWorking, "starting"
		case errors.Is(err, context.DeadlineExceeded):
			all.State, all.Reason = event.StateStale, fmt.Sprintf("has not answered within %s", answerTimeout)
		default:
			all.State, all.Reason, all.Try = event.StateFailed, err.Error(), "sandbox logs aws"
		}
		return e.withServices(all)
	}
	all.Since = c.Started // it loads its services before it answers
	return e.health(all, r)
}

// withServices is the health of an emulator that says nothing of its services.
func (e *Emulator) withServices(all event.Health) []event.Health {
	hs := []event.Health{all}
	for _, s := range e.cfg.Services {
		hs = append(hs, event.Health{
			Component: component + "/" + s, State: event.StateStale,
			Reason: "the AWS emulator does not answer", Blames: component,
		})
	}
	return hs
}

// health turns a report into the health of the emulator and its services.
func (e *Emulator) health(all event.Health, r *report) []event.Health {
	all.State, all.Reason = event.StateOK, r.Version
	hs := []event.Health{all}
	for _, s := range e.cfg.Services {
		h := serviceHealth(s, r)
		if h.State != event.StateOK && hs[0].State == event.StateOK {
			hs[0].State, hs[0].Reason, hs[0].Blames = event.StateDegraded, s+": "+h.Reason, h.Component
			hs[0].Since = time.Time{}
		}
		hs = append(hs, h)
	}
	return hs
}

// serviceHealth is the health of one service by the emulator's report.
func serviceHealth(service string, r *report) event.Health {
	h := event.Health{Component: component + "/" + service}
	state, known := r.Services[service]
	switch {
	case !known:
		h.State, h.Reason = event.StateFailed, "this emulator has no such service"
	case state == "running":
		h.State = event.StateOK
	case state == "available":
		h.State, h.Reason = event.StateOK, "loads when it is first called"
	case state == "starting":
		h.State, h.Reason = event.StateWorking, "starting"
	case state == "disabled":
		h.State, h.Reason = event.StateOff, "disabled in the emulator"
	case state == "error":
		h.State, h.Reason, h.Try = event.StateFailed, "could not be loaded", "sandbox logs aws"
	default:
		h.State, h.Reason = event.StateDegraded, "is "+state
	}
	return h
}
