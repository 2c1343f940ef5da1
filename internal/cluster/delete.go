package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// Delete removes the cluster's node containers and their volumes, its private
// kubeconfig and the files its nodes mounted. It needs no kind and no working
// Kubernetes, so it also removes what a killed create left. Removing what is
// not there is no error. The user's own kubeconfig is never opened.
func (c *Cluster) Delete(ctx context.Context, rep event.Reporter) error {
	rep.Progress(event.Progress{Text: fmt.Sprintf("removing cluster %s", c.Name())})
	if err := c.remove(ctx); err != nil {
		return fault.Wrap(fault.Failed, err, "sandbox down", "remove cluster %q", c.Name())
	}
	return nil
}

func (c *Cluster) remove(ctx context.Context) error {
	nodes, err := c.nodes(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range nodes {
		if err := c.rt.RemoveContainer(ctx, n.ID); err != nil {
			errs = append(errs, fmt.Errorf("remove node %s: %w", n.Name, err))
		}
	}
	if len(errs) == 0 {
		errs = append(errs, c.removeVolumes(ctx))
	}
	for _, file := range []string{c.cfg.Kubeconfig, c.cfg.Kubeconfig + ".lock"} {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove kubeconfig: %w", err))
		}
	}
	if err := os.RemoveAll(c.patchDir()); err != nil {
		errs = append(errs, fmt.Errorf("remove kubeadm patches: %w", err))
	}
	return errors.Join(errs...)
}

// removeVolumes removes the volumes that kind makes for nodes on Podman. Each
// is labelled with the name of its node as the key, and may exist without the
// node where a create was killed in between.
func (c *Cluster) removeVolumes(ctx context.Context) error {
	volumes, err := c.rt.Volumes(ctx, nil)
	if err != nil {
		return fmt.Errorf("list volumes: %w", err)
	}
	var errs []error
	for _, v := range volumes {
		for key, value := range v.Labels {
			if value != "true" || !c.nodeName.MatchString(key) {
				continue
			}
			if err := c.rt.RemoveVolume(ctx, v.Name); err != nil && !errors.Is(err, runtime.ErrNotFound) {
				errs = append(errs, fmt.Errorf("remove volume %s of node %s: %w", v.Name, key, err))
			}
		}
	}
	return errors.Join(errs...)
}
