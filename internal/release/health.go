package release

import (
	"context"
	"fmt"

	"helm.sh/helm/v3/pkg/release"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// Health says how the release is, and how each of its objects that can be
// anything but ready, with its pods, is. Without an answer of the cluster the release is
// stale, with the cluster to blame.
func (r *Release) Health(ctx context.Context) []event.Health {
	h := event.Health{Component: r.spec.Component(), Try: "sandbox logs " + r.spec.Component()}
	objects, rel, err := r.observe(ctx)
	switch {
	case err != nil:
		h.State, h.Blames, h.Try = event.StateStale, "cluster", "sandbox status"
		h.Reason = "the cluster does not answer: " + short(err.Error())
		return []event.Health{h}
	case rel == nil:
		h.State, h.Reason, h.Try = event.StateFailed, "is not installed", "sandbox up"
		return []event.Health{h}
	}
	all := []event.Health{h}
	for _, o := range objects {
		one := event.Health{Component: r.spec.Component() + "/" + o.ref.String(), State: o.state, Reason: o.health()}
		if !o.ok() {
			one.Try = h.Try
		}
		all = append(all, one)
		for _, p := range o.pods {
			all = append(all, event.Health{
				Component: one.Component + "/Pod/" + p.name, State: p.state, Reason: p.reason, Since: p.since,
			})
		}
	}
	all[0].State, all[0].Reason = overall(rel, objects)
	if all[0].State == event.StateOK {
		all[0].Try, all[0].Since = "", rel.Info.LastDeployed.Time
	}
	return all
}

func (r *Release) observe(ctx context.Context) ([]object, *release.Release, error) {
	c, err := r.m.connect()
	if err != nil {
		return nil, nil, err
	}
	hc, err := c.helm(r.spec.Namespace, event.Discard)
	if err != nil {
		return nil, nil, err
	}
	rel, err := lastRevision(hc, r.spec.Name)
	if err != nil || rel == nil {
		return nil, rel, err
	}
	objects, err := c.inspect(ctx, r.spec, rel.Manifest)
	return objects, rel, err
}

// overall is the state of a whole release: that of the object that is worst
// off, unless Helm itself has not come to an end with it.
func overall(rel *release.Release, objects []object) (event.State, string) {
	switch status := rel.Info.Status; {
	case status.IsPending() || status == release.StatusUninstalling:
		return event.StateWorking, fmt.Sprintf("revision %d is %s", rel.Version, status)
	case status != release.StatusDeployed:
		return event.StateFailed, fmt.Sprintf("revision %d %s: %s", rel.Version, status, short(rel.Info.Description))
	}
	blockers := blocking(objects)
	if len(blockers) == 0 {
		return event.StateOK, readyText(objects)
	}
	worst := blockers[0]
	for _, o := range blockers[1:] {
		if rank[o.state] > rank[worst.state] {
			worst = o
		}
	}
	reason := worst.String()
	if more := len(blockers) - 1; more > 0 {
		reason += fmt.Sprintf(" (and %d more)", more)
	}
	return worst.state, reason
}

// rank orders the states of objects by how bad they are.
var rank = map[event.State]int{event.StateWorking: 1, event.StateDegraded: 2, event.StateFailed: 3}
