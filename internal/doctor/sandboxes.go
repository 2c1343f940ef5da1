package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sandbox-stack/sandbox/internal/runtime"
)

var sandboxChecks = []Check{
	{ID: "sandboxes/others", Title: "other sandboxes", engine: true, run: checkOthers},
	{ID: "sandboxes/leftovers", Title: "what sandboxes left behind", engine: true, run: checkLeftovers},
}

// containers returns the containers of all sandboxes.
func (e *exam) containers(ctx context.Context) ([]runtime.Container, error) {
	engine, err := e.engine(ctx)
	if err != nil {
		return nil, err
	}
	all, err := engine.Containers(ctx, nil)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(c runtime.Container) bool { return e.Owner(c) == "" }), nil
}

func checkOthers(ctx context.Context, e *exam) Finding {
	list, err := e.containers(ctx)
	if err != nil {
		return unknown("which sandboxes there are", err)
	}
	running := map[string]int{}
	for _, c := range list {
		if name := e.Owner(c); c.Running() && name != e.need.Name {
			running[name]++
		}
	}
	if len(running) == 0 {
		return ok("none runs")
	}
	var names []string
	for _, name := range slices.Sorted(maps.Keys(running)) {
		names = append(names, fmt.Sprintf("%s (%s)", name, count(running[name], "container")))
	}
	return ok("running: %s", strings.Join(names, ", "))
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// checkLeftovers compares what is in the engine with the state folders. What
// has no state folder here may be another user's of the same engine, so it is
// named and never removed by itself.
func checkLeftovers(ctx context.Context, e *exam) Finding {
	if e.Sandboxes == nil {
		return skip("unknown", "no state folder was looked at")
	}
	live, err := e.live(ctx)
	if err != nil {
		return unknown("what is in the engine", err)
	}
	recorded, err := e.Sandboxes()
	if err != nil {
		return unknown("which state folders there are", err)
	}
	there := map[string]bool{}
	var empty, orphans []string
	for _, s := range recorded {
		there[s.Name] = true
		elsewhere := s.Engine != "" && !e.uses(s.Engine)
		if len(live[s.Name]) == 0 && s.Recorded && !s.Busy && !elsewhere {
			empty = append(empty, s.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(live)) {
		if !there[name] {
			orphans = append(orphans, fmt.Sprintf("%s (%s)", name, strings.Join(live[name], ", ")))
		}
	}
	switch {
	case len(orphans) > 0:
		name, _, _ := strings.Cut(orphans[0], " ")
		return warn("no state folder here has: "+strings.Join(orphans, "; "),
			"it is left over, or it belongs to somebody with another state folder", "sandbox down --name "+name)
	case len(empty) > 0:
		return warn("nothing is left of: "+strings.Join(empty, ", "), "there is a state folder, and nothing in the engine",
			"sandbox up, to have it again, or sandbox down --name "+empty[0])
	}
	return ok("none")
}

// live maps sandboxes to what they have in the engine.
func (e *exam) live(ctx context.Context) (map[string][]string, error) {
	containers, err := e.containers(ctx)
	if err != nil {
		return nil, err
	}
	engine, err := e.engine(ctx)
	if err != nil {
		return nil, err
	}
	ours := map[string]string{runtime.LabelName: ""}
	networks, netErr := engine.Networks(ctx, ours)
	volumes, volErr := engine.Volumes(ctx, ours)
	if err := errors.Join(netErr, volErr); err != nil {
		return nil, err
	}
	live := map[string][]string{}
	for kind, names := range map[string][]string{
		"container": namesOf(containers, e.Owner),
		"network":   namesOf(networks, func(n runtime.Network) string { return n.Labels[runtime.LabelName] }),
		"volume":    namesOf(volumes, func(v runtime.Volume) string { return v.Labels[runtime.LabelName] }),
	} {
		tally := map[string]int{}
		for _, name := range names {
			tally[name]++
		}
		for name, n := range tally {
			live[name] = append(live[name], count(n, kind))
		}
	}
	for _, parts := range live {
		slices.SortFunc(parts, func(a, b string) int { return strings.Compare(kindOf(a), kindOf(b)) })
	}
	return live, nil
}

func kindOf(counted string) string {
	_, kind, _ := strings.Cut(counted, " ")
	return kind
}

func namesOf[T any](list []T, name func(T) string) []string {
	names := make([]string, len(list))
	for i, item := range list {
		names[i] = name(item)
	}
	return names
}

// checkPorts looks for who holds the ports of the stack. It works without an
// engine too; with one, it knows sandboxes' own.
func checkPorts(ctx context.Context, e *exam) Finding {
	if len(e.need.Ports) == 0 {
		return skip("the stack publishes none", "there is nothing to look for")
	}
	holders := map[int]string{}
	if list, err := e.containers(ctx); err == nil { // else engine/running says so
		for _, c := range list {
			for _, p := range c.Ports {
				if c.Running() {
					holders[p.HostPort] = e.Owner(c)
				}
			}
		}
	}
	var free, taken, fix []string
	for _, p := range e.need.Ports {
		holder, ours := holders[p.Number]
		switch {
		case ours && (holder == e.need.Name || e.need.Name == ""):
			free = append(free, fmt.Sprintf("%d (sandbox %s)", p.Number, holder))
		case ours:
			taken = append(taken, fmt.Sprintf("%d for %s by sandbox %s", p.Number, p.Component, holder))
		case e.PortFree(p.Number):
			free = append(free, fmt.Sprint(p.Number))
			continue
		default:
			taken = append(taken, fmt.Sprintf("%d for %s by %s", p.Number, p.Component, e.holder(p.Number)))
		}
		if len(taken) > 0 && len(fix) == 0 {
			fix = append(fix, "sandbox up --ports auto, or another port in the stack file under spec.ports."+p.Key)
		}
	}
	if len(taken) == 0 {
		return ok("%s", strings.Join(free, ", "))
	}
	found := warn("taken: "+strings.Join(taken, "; "), "every published port binds 127.0.0.1, and only one process can have it", fix[0])
	if e.need.Strict {
		found.State = Fail
	}
	return found
}

// holder names the process that listens on a port.
func (e *exam) holder(number int) string {
	owner, err := e.PortOwner(number)
	switch {
	case err != nil:
		return "another process (" + err.Error() + ")"
	case owner == nil:
		return "another process"
	}
	return owner.String()
}
