package session

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sandbox-stack/sandbox/internal/cluster"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/release"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/stack"
)

// target is what a component consists of: exactly one of its fields is set.
type target struct {
	release    *release.Release
	part       string // of the release, as package release names it
	module     *stack.Terraform
	image      *stack.Image
	containers []runtime.Container
}

// target finds out what a component is. Components are named as status does.
func (s *Session) target(ctx context.Context, component string) (target, error) {
	kind, rest, _ := strings.Cut(component, "/")
	name, part, _ := strings.Cut(rest, "/")
	spec := s.stack.Spec
	switch kind {
	case "release":
		if i := slices.IndexFunc(spec.Releases, func(r stack.Release) bool { return r.Name == name }); i >= 0 {
			r := spec.Releases[i]
			return target{release: s.releases.Release(release.Spec{Name: r.Name, Namespace: r.Namespace}), part: part}, nil
		}
	case "terraform":
		if i := slices.IndexFunc(spec.Terraform, func(t stack.Terraform) bool { return t.Name == rest }); i >= 0 {
			return target{module: &spec.Terraform[i]}, nil
		}
	case "image":
		if i := slices.IndexFunc(spec.Images, func(i stack.Image) bool { return i.Name == rest }); i >= 0 {
			return target{image: &spec.Images[i]}, nil
		}
	case "cluster":
		return s.nodes(ctx, strings.TrimPrefix(rest, "node/"))
	case "aws":
		return s.containers(ctx, "aws")
	case "observe":
		if rest == "rules" {
			component = "observe/prometheus"
		}
		return s.containers(ctx, component)
	}
	return target{}, fault.New(fault.Invalid, fmt.Sprintf("no component %q", component), "there are "+strings.Join(s.components(), ", "), "sandbox status")
}

// components are what commands can be about: the parts of the stack that have a
// name of their own.
func (s *Session) components() []string {
	names := []string{"cluster"}
	if s.stack.Spec.AWS.On() {
		names = append(names, "aws")
	}
	for _, c := range s.stack.Components() {
		names = append(names, c.ID)
	}
	if s.stack.Spec.Observability.On() {
		names = append(names, "observe/alertmanager", componentExporter, "observe/grafana", "observe/prometheus")
	}
	return names
}

// nodes are the containers of the cluster's nodes, or of the one of that name.
func (s *Session) nodes(ctx context.Context, name string) (target, error) {
	list, err := s.engine.Containers(ctx, map[string]string{cluster.LabelKind: cluster.KindName(s.name)})
	if err != nil {
		return target{}, fmt.Errorf("list the nodes: %w", err)
	}
	if name != "" {
		list = slices.DeleteFunc(list, func(c runtime.Container) bool { return c.Name != name })
	}
	return found("cluster", list)
}

func (s *Session) containers(ctx context.Context, component string) (target, error) {
	list, err := s.engine.Containers(ctx, map[string]string{runtime.LabelName: s.name, runtime.LabelComponent: component})
	if err != nil {
		return target{}, fmt.Errorf("list the containers of %s: %w", component, err)
	}
	return found(component, list)
}

func found(component string, list []runtime.Container) (target, error) {
	if len(list) == 0 {
		return target{}, fault.New(fault.Unavailable, component+" has no container", "it is not there", "sandbox up")
	}
	return target{containers: list}, nil
}
