package cluster

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// Phase is how far a cluster has come.
type Phase string

// The phases of a cluster.
const (
	// Absent means that the engine holds nothing of the cluster.
	Absent Phase = "absent"
	// Partial means that an earlier create did not finish. Ensure removes
	// what there is and starts over.
	Partial Phase = "partial"
	// Stopped means that the cluster is complete but at least one of its
	// nodes does not run, as after a restart of the machine.
	Stopped Phase = "stopped"
	// Running means that all node containers run. It says nothing about
	// whether Kubernetes in them is ready.
	Running Phase = "running"
)

// Status is what the engine knows of the cluster.
type Status struct {
	Phase Phase
	// Nodes are the node containers, the control plane first.
	Nodes []runtime.Container
	// Drift says in what the cluster differs from its Config in a way that
	// only creating it anew can change. Empty means in nothing.
	Drift string
}

// Inspect looks at the engine and the kubeconfig file, not at Kubernetes.
func (c *Cluster) Inspect(ctx context.Context) (Status, error) {
	nodes, err := c.nodes(ctx)
	if err != nil {
		return Status{}, err
	}
	st := Status{Phase: Absent, Nodes: nodes}
	if len(nodes) == 0 {
		return st, nil
	}
	// kind writes the kubeconfig last, and Create removes an old one first:
	// with nodes, it says that a create ran to its end.
	if !c.hasKubeconfig() {
		st.Phase = Partial
		return st, nil
	}
	st.Phase = Running
	for _, n := range nodes {
		if !n.Running() {
			st.Phase = Stopped
		}
	}
	st.Drift = c.drift(ctx, nodes)
	return st, nil
}

// Exists reports whether the cluster was created to its end, running or not.
func (c *Cluster) Exists(ctx context.Context) (bool, error) {
	st, err := c.Inspect(ctx)
	return st.Phase == Stopped || st.Phase == Running, err
}

// nodes returns the cluster's node containers, the control plane first.
func (c *Cluster) nodes(ctx context.Context) ([]runtime.Container, error) {
	nodes, err := c.rt.Containers(ctx, map[string]string{LabelKind: c.Name()})
	if err != nil {
		return nil, fmt.Errorf("list nodes of cluster %q: %w", c.Name(), err)
	}
	for _, n := range nodes {
		if err := c.own(n); err != nil {
			return nil, err
		}
	}
	rank := func(n runtime.Container) int {
		if n.Name == c.ControlPlane() {
			return 0
		}
		return 1
	}
	slices.SortFunc(nodes, func(a, b runtime.Container) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Name, b.Name))
	})
	return nodes, nil
}

// own makes sure that a node belongs to the sandbox and not to a cluster of the
// same name that somebody made with kind: the sandbox's nodes are on its
// network, which kind by itself would not use.
func (c *Cluster) own(n runtime.Container) error {
	if _, ours := n.IPs[c.cfg.Network]; ours || len(n.IPs) == 0 {
		return nil
	}
	return fault.New(fault.Conflict, fmt.Sprintf("container %s is in the way", n.Name),
		fmt.Sprintf("it is a node of a kind cluster %q that sandbox did not make", c.Name()),
		"kind delete cluster --name "+c.Name()+", or give the stack another name")
}

// Sandboxes returns the names of all sandboxes that have nodes on the engine,
// sorted, so that a cluster is found although its record is lost.
func Sandboxes(ctx context.Context, rt runtime.Runtime) ([]string, error) {
	nodes, err := rt.Containers(ctx, map[string]string{LabelKind: ""})
	if err != nil {
		return nil, fmt.Errorf("list nodes of all clusters: %w", err)
	}
	var names []string
	for _, n := range nodes {
		name, ours := strings.CutPrefix(n.Labels[LabelKind], KindName(""))
		if _, onNet := n.IPs[KindName(name)]; ours && (onNet || len(n.IPs) == 0) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// hasKubeconfig reports whether the private kubeconfig names the cluster.
func (c *Cluster) hasKubeconfig() bool {
	if _, err := os.Stat(c.cfg.Kubeconfig); err != nil {
		return false
	}
	cfg, err := clientcmd.LoadFromFile(c.cfg.Kubeconfig)
	if err != nil {
		return false
	}
	_, ok := cfg.Contexts["kind-"+c.Name()]
	return ok
}

// drift compares what runs with what is wanted. An image that the engine no
// longer knows is no drift: the running node does not need it.
func (c *Cluster) drift(ctx context.Context, nodes []runtime.Container) string {
	if len(nodes) != c.cfg.Nodes {
		return fmt.Sprintf("it has %d of the %d nodes wanted", len(nodes), c.cfg.Nodes)
	}
	img, err := c.rt.Image(ctx, c.cfg.NodeImage)
	if err != nil {
		return ""
	}
	for _, n := range nodes {
		if n.ImageID != "" && img.ID != n.ImageID {
			return fmt.Sprintf("node %s was made from image %s, not from %s", n.Name, n.Image, c.cfg.NodeImage)
		}
	}
	return ""
}
