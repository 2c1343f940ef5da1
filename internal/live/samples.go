package live

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// sampleInterval is the time between samples of resource use. cAdvisor, which
// Prometheus has them from, looks every 10 to 15 seconds itself.
const sampleInterval = 10 * time.Second

// sampleContainers reports what the sandbox's containers use, by the engine.
func (l *live) sampleContainers(ctx context.Context) error {
	usage := map[string]string{} // by ID
	var ids []string
	for _, c := range l.containers.all() {
		if c.usage != "" && c.Running() {
			usage[c.ID] = c.usage
			ids = append(ids, c.ID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	stats, err := l.src.Engine.Stats(ctx, ids)
	if err != nil {
		return fmt.Errorf("ask the engine what containers use: %w", err)
	}
	for _, s := range stats {
		l.emit(event.ResourceSample{Component: usage[s.ID], CPU: s.CPU, Memory: s.Memory})
	}
	return nil
}

// samplePods reports what releases, their workloads and pods use, by Prometheus.
func (l *live) samplePods(ctx context.Context) error {
	used, err := l.src.Prometheus.Usage(ctx)
	if err != nil {
		return err
	}
	sums := map[string]event.ResourceSample{}
	for _, p := range l.pods.list() {
		release, ours := l.releaseOf(p)
		u, seen := used[Pod{Namespace: p.Namespace, Name: p.Name}]
		if !ours || !seen {
			continue
		}
		workload := release + "/" + workloadOf(p)
		for _, component := range []string{release, workload, workload + "/Pod/" + p.Name} {
			s := sums[component]
			s.Component, s.CPU, s.Memory = component, s.CPU+u.CPU, s.Memory+u.Memory
			sums[component] = s
		}
	}
	for _, component := range slices.Sorted(maps.Keys(sums)) {
		l.emit(sums[component])
	}
	return nil
}
