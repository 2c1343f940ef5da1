package fake

import (
	"context"
	"fmt"
	"net"
	"slices"

	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// PauseContainer marks a running container as paused. Its program goes on,
// since a function can't be frozen.
func (r *Runtime) PauseContainer(ctx context.Context, id string) error {
	if err := r.enter(ctx, "PauseContainer", id); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.find(id)
	switch {
	case c == nil:
		return notFound("container", id)
	case c.state.State == "paused":
		return nil
	case !c.state.Running():
		return fmt.Errorf("pause container %s: it is %s", c.state.Name, c.state.State)
	}
	c.state.State = "paused"
	r.emit("pause", c)
	return nil
}

// UnpauseContainer goes on with a paused container.
func (r *Runtime) UnpauseContainer(ctx context.Context, id string) error {
	if err := r.enter(ctx, "UnpauseContainer", id); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.find(id)
	if c == nil {
		return notFound("container", id)
	}
	if c.state.State == "paused" {
		c.state.State = "running"
		r.emit("unpause", c)
	}
	return nil
}

// DisconnectNetwork takes a container off a network.
func (r *Runtime) DisconnectNetwork(ctx context.Context, network, id string) error {
	if err := r.enter(ctx, "DisconnectNetwork", network+" "+id); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.find(id)
	if c == nil {
		return notFound("container", id)
	}
	delete(c.state.Aliases, network)
	delete(c.state.IPs, network)
	delete(c.fixed, network)
	return nil
}

// ConnectNetwork puts a container on a network.
func (r *Runtime) ConnectNetwork(ctx context.Context, network, id string, opt runtime.Endpoint) error {
	if err := r.enter(ctx, "ConnectNetwork", network+" "+id); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.find(id)
	if c == nil {
		return notFound("container", id)
	}
	if c.state.Attached(network, opt) {
		return nil
	}
	if c.state.PID != 0 {
		if err := r.assign(c, network, opt.IP); err != nil {
			return err
		}
	}
	c.fixed[network] = opt.IP
	c.state.Aliases[network] = slices.Clone(opt.Aliases)
	return nil
}

// assign gives the container the address on the network, or one that is free;
// mu is held.
func (r *Runtime) assign(c *container, network, ip string) error {
	if !slices.ContainsFunc(r.networks, func(n runtime.Network) bool { return n.Name == network }) {
		return notFound("network", network)
	}
	if ip != "" && r.taken(c, network, ip) {
		return fmt.Errorf("address %s is another container's", ip)
	}
	for last := byte(2 + slices.Index(r.containers, c)); ip == ""; last++ {
		if free := net.IPv4(10, 89, 0, last).String(); !r.taken(c, network, free) {
			ip = free
		}
	}
	c.state.IPs[network] = ip
	return nil
}

// taken reports whether another container has the address; mu is held.
func (r *Runtime) taken(c *container, network, ip string) bool {
	return slices.ContainsFunc(r.containers, func(o *container) bool {
		return o != c && o.state.PID != 0 && o.state.IPs[network] == ip
	})
}
