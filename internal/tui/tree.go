package tui

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// node is one row of the tree of components.
type node struct {
	path   string
	label  string
	depth  int
	health event.Health
	// group says that the node is no component, but holds those below it. Its
	// health is the worst of theirs.
	group  bool
	parent int // index in the tree, -1 at the top
	below  int // how many nodes are below it, at any depth
	// worst is the worst health at and below the node.
	worst event.Health
}

// topOrder is the order of the first parts of paths: what a stack stands on
// comes first.
var topOrder = []string{"cluster", "aws", "terraform", "image", "release", "observe"}

func topRank(path string) int {
	first, _, _ := strings.Cut(path, "/")
	if i := slices.Index(topOrder, first); i >= 0 {
		return i
	}
	return len(topOrder)
}

// growTree arranges components by their paths: each below the nearest one that
// is there. Where several share a first part that is no component itself, a
// group holds them.
func growTree(health map[string]event.Health) []node {
	paths := slices.Collect(maps.Keys(health))
	members := map[string]int{}
	for _, p := range paths {
		first, rest, _ := strings.Cut(p, "/")
		if _, ok := health[first]; ok || rest == "" || hasAncestor(health, p) {
			continue
		}
		members[first]++
	}
	for first, n := range members {
		if n > 1 {
			paths = append(paths, first)
		}
	}
	slices.SortFunc(paths, func(a, b string) int {
		return cmp.Or(cmp.Compare(topRank(a), topRank(b)),
			slices.Compare(strings.Split(a, "/"), strings.Split(b, "/")))
	})

	tree := make([]node, 0, len(paths))
	var above []int // the nodes above, outermost first
	for _, p := range paths {
		for len(above) > 0 && !strings.HasPrefix(p, tree[above[len(above)-1]].path+"/") {
			above = above[:len(above)-1]
		}
		h, ok := health[p]
		n := node{path: p, label: p, depth: len(above), health: h, group: !ok, parent: -1}
		if len(above) > 0 {
			n.parent = above[len(above)-1]
			n.label = strings.TrimPrefix(p, tree[n.parent].path+"/")
		}
		tree = append(tree, n)
		above = append(above, len(tree)-1)
	}
	for i := len(tree) - 1; i >= 0; i-- {
		n := &tree[i]
		if n.group {
			n.health = event.Health{Component: n.path, State: n.worst.State}
			if !n.worst.State.Healthy() {
				n.health.Reason = shortName(strings.TrimPrefix(n.worst.Component, n.path+"/")) + ": " + n.worst.Reason
				n.health.Since = n.worst.Since
			}
		} else if n.worst.Component == "" || bad(n.health.State) >= bad(n.worst.State) {
			n.worst = n.health
		}
		if n.parent < 0 {
			continue
		}
		up := &tree[n.parent]
		up.below += 1 + n.below
		if up.worst.Component == "" || bad(n.worst.State) >= bad(up.worst.State) {
			up.worst = n.worst
		}
	}
	return tree
}

// shortKinds are the short names of kinds that people know from kubectl.
var shortKinds = strings.NewReplacer("Deployment/", "deploy/", "StatefulSet/", "sts/", "DaemonSet/", "ds/",
	"ReplicaSet/", "rs/", "Service/", "svc/", "Ingress/", "ing/", "CronJob/", "cj/", "Job/", "job/", "Pod/", "pod/")

// shortName is a name as short as it stays clear.
func shortName(name string) string { return shortKinds.Replace(name) }

// hasAncestor says whether a component above the path is there.
func hasAncestor(health map[string]event.Health, path string) bool {
	for {
		i := strings.LastIndexByte(path, '/')
		if i < 0 {
			return false
		}
		path = path[:i]
		if _, ok := health[path]; ok {
			return true
		}
	}
}

// related says whether an object of an event is the component, or one that
// belongs to it: the objects of a Deployment are named after it. Paths end in
// kind and name ("release/web/Deployment/web"), objects are just these.
func related(object, component string) bool {
	object, component = strings.ToLower(object), strings.ToLower(component)
	if object == component || strings.HasSuffix(component, "/"+object) || strings.HasPrefix(object, component+"/") {
		return true
	}
	_, name, ok := strings.Cut(object, "/")
	last := component[strings.LastIndexByte(component, '/')+1:]
	return ok && last != "" && (name == last || strings.HasPrefix(name, last+"-"))
}

// inside says whether a path is the component or below it.
func inside(path, component string) bool {
	return path == component || strings.HasPrefix(path, component+"/")
}
