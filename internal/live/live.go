// Package live turns a sandbox that runs into events, until it is told to end:
// the health of its components, what they use and say, what happens to their
// objects, its alerts and its Terraform resources.
//
// Each of these is a feed of its own. A feed that loses its source says so,
// tries again on its own and says when it is back; the others go on. What a
// user waits for follows from changes that the engine, the cluster and the
// emulator announce, so that looking at the clock again and again is left for
// what nobody announces, and an idle sandbox costs little to watch.
package live

import (
	"context"
	"io"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/health"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// Engine is what is needed of a container engine.
type Engine interface {
	Containers(ctx context.Context, labels map[string]string) ([]runtime.Container, error)
	Stats(ctx context.Context, ids []string) ([]runtime.Stats, error)
	Events(ctx context.Context, labels map[string]string) (<-chan runtime.Event, error)
	Logs(ctx context.Context, id string, opt runtime.LogOptions, w io.Writer) error
}

// Selector selects containers of the sandbox by their labels.
type Selector struct {
	Labels map[string]string
	// Logs and Usage are the components that the log lines and the resource
	// use of a container belong to. "" leaves them out.
	Logs, Usage func(runtime.Container) string
}

// Release is a Helm release of the sandbox.
type Release struct{ Name, Namespace string }

// Prometheus is what is asked of Prometheus.
type Prometheus interface {
	Alerts(ctx context.Context) ([]event.AlertChanged, error)
	// Usage returns the CPU in cores and the memory in bytes of each pod.
	Usage(ctx context.Context) (map[Pod]Usage, error)
}

// Pod names a pod.
type Pod struct{ Namespace, Name string }

// Usage is what a pod uses.
type Usage struct {
	CPU    float64 // cores
	Memory int64   // bytes
}

// Module is a Terraform module of the sandbox. Its methods are never called at
// the same time.
type Module interface {
	// Component is the module's path, such as "terraform/infra".
	Component() string
	// Look compares the module's state with the emulator by asking whether
	// the resources in it are there. It takes milliseconds.
	Look(ctx context.Context) (event.ModuleChanged, error)
	// Refresh compares every attribute, with Terraform itself. It takes
	// seconds of CPU.
	Refresh(ctx context.Context) (event.ModuleChanged, error)
}

// WatchedModule is a module and what says whether it is applied.
type WatchedModule struct {
	Module
	Health health.Probe
}

// Sources are where the events come from. What a sandbox does not have is nil.
type Sources struct {
	// Health is what to ask for the health of components, and Deadline how
	// long each may take for it. Needs is as in health.Watcher.
	Health   []health.Source
	Needs    health.Needs
	Deadline time.Duration

	Engine     Engine
	Containers []Selector

	// Kube returns a new client of the cluster. It is asked again whenever
	// contact was lost, as the address may have changed.
	Kube     func() (kubernetes.Interface, error)
	Releases []Release

	Prometheus Prometheus
	// Alertmanager returns the URL of Alertmanager.
	Alertmanager func(ctx context.Context) (string, error)

	// Drills returns the last drill of each alert; it is called every second.
	Drills func() (map[string]event.DrillChanged, error)

	Modules []WatchedModule
	// Refresh delivers the paths of modules to compare in full. As that is
	// costly, it is done only when asked for. "" stands for all of them, and
	// makes every source of health look as well.
	Refresh <-chan string
}

// live is what the feeds share.
type live struct {
	src  Sources
	emit func(event.Payload)

	sources []*paced
	modules []*module

	// Signals between the feeds, each of one element: what it says is true
	// until somebody has taken it.
	inventory   signal      // pods or containers have changed
	kubeLost    chan string // the cluster probe or the engine says why the API is gone
	kubeWatched flag        // the informers are in contact
	engineHeard flag        // the engine's events arrive

	pods       pods
	containers containers
}

// Run emits what happens until ctx ends, and returns when all feeds have ended.
// emit is called by several goroutines at the same time and should not block.
func Run(ctx context.Context, src Sources, emit func(event.Payload)) {
	l := newLive(src, emit)
	var feeds sync.WaitGroup
	feeds.Go(func() { l.watchHealth(ctx) })
	if src.Engine != nil {
		feeds.Go(func() { l.keep(ctx, "engine", l.followEngine) })
	}
	if src.Kube != nil {
		feeds.Go(func() { l.keep(ctx, "kubernetes", l.followKube) })
	}
	feeds.Go(func() { l.followLogs(ctx) })
	if src.Engine != nil {
		feeds.Go(func() { l.keep(ctx, "containers' use", l.poll(sampleInterval, l.sampleContainers)) })
	}
	if src.Prometheus != nil {
		feeds.Go(func() { l.keep(ctx, "pods' use", l.poll(sampleInterval, l.samplePods)) })
		feeds.Go(func() { l.keep(ctx, "alerts", l.poll(alertInterval, l.alerts())) })
	}
	if src.Alertmanager != nil {
		feeds.Go(func() { l.keep(ctx, "alertmanager", l.poll(alertmanagerInterval, l.alertmanager())) })
	}
	if src.Drills != nil {
		feeds.Go(func() { l.keep(ctx, "drills", l.poll(drillInterval, l.drills())) })
	}
	if src.Refresh != nil {
		feeds.Go(func() { l.refreshModules(ctx) })
	}
	feeds.Wait()
}

func newLive(src Sources, emit func(event.Payload)) *live {
	l := &live{src: src, emit: emit, inventory: newSignal(), kubeLost: make(chan string, 1)}
	for _, m := range src.Modules {
		l.modules = append(l.modules, &module{Module: m.Module, health: m.Health, emit: emit})
	}
	for _, s := range src.Health {
		l.sources = append(l.sources, l.pace(s))
	}
	return l
}
