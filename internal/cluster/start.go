package cluster

import (
	"context"
	"fmt"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
)

// Start starts the node containers of a complete cluster that do not run, the
// control plane first, so that engines which hand out addresses in order give
// the nodes those they had. The nodes adapt when an address has changed.
func (c *Cluster) Start(ctx context.Context, rep event.Reporter) error {
	nodes, err := c.nodes(ctx)
	if err != nil {
		return err
	}
	if len(nodes) == 0 {
		return c.down("no node to start")
	}
	// The nodes mount these; the state directory may have lost them.
	if err := c.writePatches(); err != nil {
		return err
	}
	for _, n := range nodes {
		if n.Running() {
			continue
		}
		rep.Progress(event.Progress{Text: "starting node " + n.Name})
		if err := c.rt.StartContainer(ctx, n.ID); err != nil {
			f := fault.Wrap(fault.Failed, err, "sandbox down, then sandbox up: the cluster is created anew",
				"start node %s", n.Name)
			f.Log = c.evidence(ctx)
			return f
		}
		rep.Log("sandbox", fmt.Sprintf("started node %s, which was %s", n.Name, n.State))
	}
	return nil
}
