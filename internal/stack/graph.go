package stack

import (
	"slices"
	"strings"
)

// The kinds of a component's ID, which is KIND/NAME.
const (
	KindImage     = "image"
	KindTerraform = "terraform"
	KindRelease   = "release"
)

// Component is a part of a stack that other parts can depend on.
type Component struct {
	// ID is KIND/NAME, such as release/web-app.
	ID string
	// DependsOn are the IDs of the components that have to be there first,
	// sorted: those that the file names, and those whose values it uses.
	DependsOn []string

	pointer string
}

// Components returns the images, Terraform modules and releases of the stack,
// in this order and within it in that of the file.
func (s *Stack) Components() []Component {
	var all []Component
	for i, image := range s.Spec.Images {
		all = append(all, Component{ID: KindImage + "/" + image.Name, pointer: pointer("spec", "images", i)})
	}
	for i, module := range s.Spec.Terraform {
		all = append(all, Component{
			ID:        KindTerraform + "/" + module.Name,
			DependsOn: sortedSet(module.DependsOn),
			pointer:   pointer("spec", "terraform", i),
		})
	}
	for i, release := range s.Spec.Releases {
		needs := slices.Clone(release.DependsOn)
		for _, from := range release.ValuesFrom {
			switch {
			case from.Terraform != "":
				needs = append(needs, KindTerraform+"/"+from.Terraform)
			case from.Image != "":
				needs = append(needs, KindImage+"/"+from.Image)
			}
		}
		all = append(all, Component{
			ID:        KindRelease + "/" + release.Name,
			DependsOn: sortedSet(needs),
			pointer:   pointer("spec", "releases", i),
		})
	}
	return all
}

func sortedSet(ids []string) []string {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	return slices.Compact(ids)
}

// findCycle returns the IDs along a cycle, the first of them again at the end,
// or nil where there is none.
func findCycle(components []Component) []string {
	needs := make(map[string][]string, len(components))
	for _, c := range components {
		needs[c.ID] = c.DependsOn
	}
	const (
		open = 1
		done = 2
	)
	state := map[string]int{}
	var path []string
	var visit func(id string) []string
	visit = func(id string) []string {
		switch state[id] {
		case done:
			return nil
		case open:
			return append(slices.Clone(path[slices.Index(path, id):]), id)
		}
		state[id] = open
		path = append(path, id)
		for _, next := range needs[id] {
			if cycle := visit(next); cycle != nil {
				return cycle
			}
		}
		path = path[:len(path)-1]
		state[id] = done
		return nil
	}
	for _, c := range components {
		if cycle := visit(c.ID); cycle != nil {
			return cycle
		}
	}
	return nil
}

// formatCycle prints a cycle as a → b → a.
func formatCycle(cycle []string) string { return strings.Join(cycle, " → ") }
