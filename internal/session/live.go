package session

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/common/model"
	"k8s.io/client-go/kubernetes"

	"github.com/sandbox-stack/sandbox/internal/cluster"
	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/live"
	"github.com/sandbox-stack/sandbox/internal/live/existence"
	"github.com/sandbox-stack/sandbox/internal/observe"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/stack"
	"github.com/sandbox-stack/sandbox/internal/terraform"
)

// live emits what happens in the sandbox until ctx ends. emit is called by
// several goroutines at the same time.
func (s *Session) live(ctx context.Context, emit func(event.Payload), refresh <-chan string) {
	src := live.Sources{
		Health: s.sources(), Needs: s.needs(), Deadline: probeDeadline,
		Engine: s.engine, Containers: s.selectors(), Kube: s.kube, Refresh: refresh,
	}
	for _, r := range s.stack.Spec.Releases {
		src.Releases = append(src.Releases, live.Release{Name: r.Name, Namespace: r.Namespace})
	}
	if s.stack.Spec.Observability.On() {
		src.Prometheus, src.Alertmanager = livePrometheus{s}, func(ctx context.Context) (string, error) {
			a, err := s.alertmanager()
			if err != nil {
				return "", err
			}
			return a.URL(ctx)
		}
	}
	if len(s.stack.Spec.Drills) > 0 {
		src.Drills = s.LastDrills
	}
	for _, t := range s.stack.Spec.Terraform {
		src.Modules = append(src.Modules, live.WatchedModule{Module: &liveModule{s: s, spec: t}, Health: s.probeModule(t)})
	}
	live.Run(ctx, src, emit)
}

// selectors select the sandbox's containers: its own and the cluster's nodes.
func (s *Session) selectors() []live.Selector {
	own := func(c runtime.Container) string { return c.Labels[runtime.LabelComponent] }
	return []live.Selector{
		{Labels: map[string]string{runtime.LabelName: s.name}, Logs: own, Usage: own},
		{
			Labels: map[string]string{cluster.LabelKind: cluster.KindName(s.name)},
			Logs:   func(runtime.Container) string { return "cluster" },
			Usage:  func(c runtime.Container) string { return "cluster/node/" + c.Name },
		},
	}
}

func (s *Session) kube() (kubernetes.Interface, error) {
	c, err := s.cluster()
	if err != nil {
		return nil, err
	}
	return c.Client()
}

// livePrometheus is the sandbox's Prometheus.
type livePrometheus struct{ s *Session }

// Alerts returns the state of all alerts.
func (p livePrometheus) Alerts(ctx context.Context) ([]event.AlertChanged, error) {
	prom, err := p.s.prometheus()
	if err != nil {
		return nil, err
	}
	return prom.Alerts(ctx)
}

// What pods use, by cAdvisor. A container's own series have an image, those
// of the cgroups around it have none.
const (
	cpuByPod    = `sum by (namespace, pod) (rate(container_cpu_usage_seconds_total{pod!="",image!=""}[1m]))`
	memoryByPod = `sum by (namespace, pod) (container_memory_working_set_bytes{pod!="",image!=""})`
)

// Usage returns what each pod uses.
func (p livePrometheus) Usage(ctx context.Context) (map[live.Pod]live.Usage, error) {
	prom, err := p.s.prometheus()
	if err != nil {
		return nil, err
	}
	used := map[live.Pod]live.Usage{}
	err = byPod(ctx, prom, cpuByPod, func(pod live.Pod, v float64) {
		u := used[pod]
		u.CPU = v
		used[pod] = u
	})
	if err != nil {
		return nil, err
	}
	err = byPod(ctx, prom, memoryByPod, func(pod live.Pod, v float64) {
		u := used[pod]
		u.Memory = int64(v)
		used[pod] = u
	})
	return used, err
}

// byPod calls f with the value that a query has for each pod.
func byPod(ctx context.Context, prom *observe.Prometheus, query string, f func(live.Pod, float64)) error {
	value, err := prom.Query(ctx, query)
	if err != nil {
		return err
	}
	vector, ok := value.(model.Vector)
	if !ok {
		return fmt.Errorf("query %q: got a %s, not a vector", query, value.Type())
	}
	for _, sample := range vector {
		pod := live.Pod{Namespace: string(sample.Metric["namespace"]), Name: string(sample.Metric["pod"])}
		f(pod, float64(sample.Value))
	}
	return nil
}

// liveModule is a Terraform module of the sandbox.
type liveModule struct {
	s    *Session
	spec stack.Terraform
}

// Component is the module's path.
func (m *liveModule) Component() string { return "terraform/" + m.spec.Name }

// stateFileName is the state in a module's workspace.
const stateFileName = "terraform.tfstate"

// Look asks the emulator whether it holds the resources of the module's state.
func (m *liveModule) Look(ctx context.Context) (event.ModuleChanged, error) {
	ws, err := m.s.dir.Workspace(m.spec.Name)
	if err != nil {
		return event.ModuleChanged{}, err
	}
	list, err := existence.ReadState(filepath.Join(ws, stateFileName))
	if err != nil {
		return event.ModuleChanged{}, err
	}
	checker, err := m.s.checker(ctx)
	if err != nil {
		return event.ModuleChanged{}, err
	}
	verdicts, err := checker.Check(ctx, list)
	if err != nil {
		return event.ModuleChanged{}, err
	}
	out := event.ModuleChanged{Module: m.spec.Name}
	for i, r := range list {
		found := event.Resource{Address: r.Address, Type: r.Type, State: event.ResourceOK}
		switch verdicts[i] {
		case existence.Missing:
			found.State, found.Detail = event.ResourceMissing, "deleted in the emulator, outside of Terraform"
		case existence.Unknown:
			found.Detail = "as the last apply left it; a refresh compares it"
		case existence.Held:
		}
		out.Resources = append(out.Resources, found)
	}
	return out, nil
}

func (s *Session) region() string {
	if s.stack.Spec.AWS.Region != "" {
		return s.stack.Spec.AWS.Region
	}
	return terraform.DefaultRegion
}

// Refresh compares the module with the emulator in full. It takes the sandbox's
// lock, so that no other command works in the module's workspace meanwhile.
func (m *liveModule) Refresh(ctx context.Context) (out event.ModuleChanged, err error) {
	err = m.s.locked(ctx, "a comparison by the dashboard, which takes some seconds", func() error {
		out, err = m.compare(ctx)
		return err
	})
	return out, err
}

func (m *liveModule) compare(ctx context.Context) (event.ModuleChanged, error) {
	mod, err := m.s.module(ctx, m.spec)
	if err != nil {
		return event.ModuleChanged{}, err
	}
	differ, err := mod.Drift(ctx, event.Discard)
	if err != nil {
		return event.ModuleChanged{}, err
	}
	out, err := m.Look(ctx)
	if err != nil {
		return event.ModuleChanged{}, err
	}
	out.Refreshed = time.Now()
	for i, r := range out.Resources {
		out.Resources[i] = compared(r, differ)
	}
	for _, c := range differ.Planned {
		known := func(r event.Resource) bool { return r.Address == c.Address }
		if c.Action == "create" && !slices.ContainsFunc(out.Resources, known) {
			out.Resources = append(out.Resources, event.Resource{
				Address: c.Address, Type: c.Type, State: event.ResourcePlanned, Detail: "apply would create it",
			})
		}
	}
	return out, nil
}

// compared is a resource after a full comparison.
func compared(r event.Resource, differ terraform.Comparison) event.Resource {
	at := func(list []terraform.Change) int {
		return slices.IndexFunc(list, func(c terraform.Change) bool { return c.Address == r.Address })
	}
	drift, planned := at(differ.Drift), at(differ.Planned)
	switch {
	case drift >= 0 && differ.Drift[drift].Action == "delete":
		r.State, r.Detail = event.ResourceMissing, "deleted in the emulator, outside of Terraform"
	case drift >= 0:
		r.State, r.Detail = event.ResourceDrift, "changed in the emulator, outside of Terraform"
		for _, name := range differ.Drift[drift].Attributes {
			r.Detail += "\n" + name
		}
	case r.State != event.ResourceOK:
	case planned >= 0:
		r.State, r.Detail = event.ResourcePlanned, "apply would "+differ.Planned[planned].Action+" it"
	default:
		r.Detail = ""
	}
	return r
}
