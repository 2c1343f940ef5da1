// Package plan turns a stack into the steps that make it real. It is pure:
// which items there are and what each waits for follows from the stack alone.
// What an item does to the world is a Part, which the caller supplies.
package plan

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/stack"
	"github.com/sandbox-stack/sandbox/internal/steps"
)

// Part makes one thing that a stack needs be as it should be. It looks first:
// its Result says whether there was anything to do.
type Part func(ctx context.Context, rep event.Reporter) (steps.Result, error)

// Kind says what an item is, for the caller to find its Part.
type Kind string

// The kinds of items.
const (
	Network      Kind = "network"              // the sandbox's private network
	Platform     Kind = "platform"             // Name: a platform image, in the engine's store
	Cluster      Kind = "cluster"              // a cluster whose API server answers
	ClusterReady Kind = "cluster/ready"        // the cluster's own workloads, available
	Emulator     Kind = "aws"                  // the AWS emulator, answering
	Binding      Kind = "aws/binding"          // what lets pods reach the emulator
	BuildImage   Kind = "build"                // Name: an image of the stack's own
	Load         Kind = "load"                 // Name: that image, in every node
	Toolchain    Kind = "toolchain"            // the Terraform binary and its providers
	Init         Kind = "terraform-init"       // Name: an initialized Terraform module
	Module       Kind = "terraform"            // Name: an applied Terraform module
	Prune        Kind = "prune"                // releases that the stack has no more, gone
	Release      Kind = "release"              // Name: a Helm release, ready
	Prometheus   Kind = "observe/prometheus"   // the container, ready
	Alertmanager Kind = "observe/alertmanager" // the container, ready
	Grafana      Kind = "observe/grafana"      // the container, ready
	Exporter     Kind = "observe/exporter"     // the container, ready
	Discovery    Kind = "observe/discovery"    // Prometheus seeing into the cluster
	Healthy      Kind = "health"               // every component ok, or off
)

// The platform images, by the name of their recipe.
const (
	NodeImage         = "node"
	LocalStackImage   = "localstack"
	PrometheusImage   = "prometheus"
	AlertmanagerImage = "alertmanager"
	GrafanaImage      = "grafana"
)

// Item is one step as data. Items of a kind that occurs more than once have a
// Name, and their ID is kind/name.
type Item struct {
	Kind  Kind
	Name  string
	ID    string
	Title string
	After []string
}

// Build returns the items of the stack. Everything starts at once; only real
// dependencies wait: what an item takes from another, or can't start without.
func Build(st *stack.Stack) []Item {
	var b builder
	spec := st.Spec

	b.add(Network, "", "network")
	b.platform(NodeImage)
	b.add(Cluster, "", "cluster", id(Network, ""), id(Platform, NodeImage))
	b.add(ClusterReady, "", "cluster ready", id(Cluster, ""))
	b.add(Prune, "", "removed releases", id(Cluster, ""))

	emulated := spec.AWS.On()
	if emulated {
		b.platform(LocalStackImage)
		b.add(Emulator, "", "aws emulator", id(Network, ""), id(Platform, LocalStackImage))
		b.add(Binding, "", "aws for pods", id(Emulator, ""), id(Cluster, ""))
	}

	for _, img := range spec.Images {
		var after []string
		if img.Base != nil {
			b.platform(img.Base.Image)
			after = append(after, id(Platform, img.Base.Image))
		}
		b.add(BuildImage, img.Name, "build "+img.Name, after...)
		b.add(Load, img.Name, "load "+img.Name, id(BuildImage, img.Name), id(Cluster, ""))
	}

	if len(spec.Terraform) > 0 {
		b.add(Toolchain, "", "terraform providers")
	}
	needs := map[string][]string{}
	for _, c := range st.Components() {
		needs[c.ID] = stepsOf(c.DependsOn)
	}
	for _, m := range spec.Terraform {
		before := []string{id(Toolchain, "")}
		if emulated { // what is applied already is known by the emulator that it was applied to
			before = append(before, id(Platform, LocalStackImage))
		}
		b.add(Init, m.Name, "terraform init "+m.Name, before...)
		after := slices.Concat(needs[id(Module, m.Name)], []string{id(Init, m.Name)})
		if emulated {
			after = append(after, id(Emulator, ""))
		}
		b.add(Module, m.Name, "terraform "+m.Name, after...)
	}

	if spec.Observability.On() {
		for _, c := range []struct {
			kind         Kind
			image, title string
		}{
			{Prometheus, PrometheusImage, "prometheus"},
			{Alertmanager, AlertmanagerImage, "alertmanager"},
			{Grafana, GrafanaImage, "grafana"},
		} {
			b.platform(c.image)
			b.add(c.kind, "", c.title, id(Network, ""), id(Platform, c.image))
		}
		b.add(Exporter, "", "exporter", id(Network, ""), id(Platform, PrometheusImage)) // of that image
		b.add(Discovery, "", "cluster metrics", id(Prometheus, ""), id(Cluster, ""))
	}

	for _, r := range spec.Releases {
		// After Prune: a release that moved to another namespace may hold what
		// a cluster has only once.
		after := slices.Concat(needs[id(Release, r.Name)], []string{id(Prune, "")})
		if emulated {
			after = append(after, id(Binding, ""))
		}
		b.add(Release, r.Name, "release "+r.Name, after...)
	}

	var all []string
	for _, it := range b.items {
		all = append(all, it.ID)
	}
	b.add(Healthy, "", "health", all...)
	return b.items
}

// Steps joins the items with the parts that make them real.
func Steps(items []Item, part func(Item) Part) []steps.Step {
	out := make([]steps.Step, len(items))
	for i, it := range items {
		out[i] = steps.Step{ID: it.ID, Title: it.Title, After: it.After, Apply: part(it)}
	}
	return out
}

// PlatformImages returns the names of the platform images among the items.
func PlatformImages(items []Item) []string {
	var names []string
	for _, it := range items {
		if it.Kind == Platform {
			names = append(names, it.Name)
		}
	}
	return names
}

// Format returns the items as text, one a line with what it waits for, for
// `up --dry-run` and for tests.
func Format(items []Item) string {
	var b strings.Builder
	for i, it := range items {
		after := "at once"
		switch {
		case it.Kind == Healthy:
			after = "after everything"
		case len(it.After) > 0:
			after = "after " + strings.Join(it.After, ", ")
		}
		fmt.Fprintf(&b, "%2d  %-24s %s\n", i+1, it.ID, after)
	}
	return b.String()
}

type builder struct{ items []Item }

func (b *builder) add(kind Kind, name, title string, after ...string) {
	slices.Sort(after)
	b.items = append(b.items, Item{
		Kind: kind, Name: name, ID: id(kind, name), Title: title, After: slices.Compact(after),
	})
}

// platform adds a platform image, once however many need it.
func (b *builder) platform(name string) {
	if !slices.ContainsFunc(b.items, func(it Item) bool { return it.ID == id(Platform, name) }) {
		b.add(Platform, name, "image "+name)
	}
}

func id(kind Kind, name string) string {
	if name == "" {
		return string(kind)
	}
	return string(kind) + "/" + name
}

// stepsOf maps components to the steps after which they are there: an image is
// there when it is loaded.
func stepsOf(components []string) []string {
	out := make([]string, len(components))
	for i, c := range components {
		if name, ok := strings.CutPrefix(c, stack.KindImage+"/"); ok {
			c = id(Load, name)
		}
		out[i] = c
	}
	return out
}
