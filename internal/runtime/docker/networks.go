package docker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// CreateNetwork creates a bridge network with name resolution, or returns the
// one that is there if it carries the same labels.
func (r *Runtime) CreateNetwork(ctx context.Context, name string, labels map[string]string) (runtime.Network, error) {
	existing, err := r.reuseNetwork(ctx, name, labels)
	if !errors.Is(err, runtime.ErrNotFound) {
		return existing, err
	}
	created, err := r.createNetwork(ctx, name, client.NetworkCreateOptions{Driver: "bridge", Labels: labels})
	if err == nil {
		// Docker gives fixed addresses only in a subnet that it was told. Which
		// ones are free, it knows best: take the one that it chose.
		if err := r.RemoveNetwork(ctx, created.ID); err != nil {
			return runtime.Network{}, err
		}
		created, err = r.createNetwork(ctx, name, client.NetworkCreateOptions{
			Driver: "bridge", Labels: labels, IPAM: &network.IPAM{Config: created.IPAM.Config},
		})
	}
	if err != nil {
		// Another process may have been faster.
		if existing, reuseErr := r.reuseNetwork(ctx, name, labels); reuseErr == nil {
			return existing, nil
		}
		return runtime.Network{}, fmt.Errorf("create network %q: %w", name, err)
	}
	return inspectedNetwork(created), nil
}

func (r *Runtime) createNetwork(ctx context.Context, name string, opt client.NetworkCreateOptions) (network.Network, error) {
	created, err := r.api.NetworkCreate(ctx, name, opt)
	if err != nil {
		return network.Network{}, apiError(ctx, err)
	}
	found, err := r.api.NetworkInspect(ctx, created.ID, client.NetworkInspectOptions{})
	return found.Network.Network, apiError(ctx, err)
}

// reuseNetwork returns the network if it carries the labels, a conflict if it
// does not, and ErrNotFound if there is none.
func (r *Runtime) reuseNetwork(ctx context.Context, name string, labels map[string]string) (runtime.Network, error) {
	found, err := r.api.NetworkInspect(ctx, name, client.NetworkInspectOptions{})
	if err != nil {
		return runtime.Network{}, fmt.Errorf("inspect network %q: %w", name, apiError(ctx, err))
	}
	for key, value := range labels {
		if found.Network.Labels[key] != value {
			return runtime.Network{}, fault.New(fault.Conflict,
				fmt.Sprintf("a network named %s is in the way", name),
				fmt.Sprintf("it does not carry the label %s=%s, so it is not this sandbox's", key, value),
				"docker network rm "+name)
		}
	}
	return inspectedNetwork(found.Network.Network), nil
}

// Networks lists the networks with the labels, by name.
func (r *Runtime) Networks(ctx context.Context, labels map[string]string) ([]runtime.Network, error) {
	listed, err := r.api.NetworkList(ctx, client.NetworkListOptions{Filters: labelFilter(labels)})
	if err != nil {
		return nil, fmt.Errorf("list networks: %w", apiError(ctx, err))
	}
	networks := make([]runtime.Network, 0, len(listed.Items))
	for _, l := range listed.Items {
		networks = append(networks, inspectedNetwork(l.Network))
	}
	byName(networks, func(n runtime.Network) string { return n.Name })
	return networks, nil
}

// RemoveNetwork removes the network, which no container may use.
func (r *Runtime) RemoveNetwork(ctx context.Context, name string) error {
	_, err := r.api.NetworkRemove(ctx, name, client.NetworkRemoveOptions{})
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove network %q: %w", name, apiError(ctx, err))
	}
	return nil
}

// DisconnectNetwork takes a running container off a network.
func (r *Runtime) DisconnectNetwork(ctx context.Context, network, id string) error {
	c, err := r.Container(ctx, id)
	if err == nil {
		if _, on := c.Aliases[network]; !on {
			return nil
		}
		err = r.disconnect(ctx, network, id)
	}
	if err != nil {
		return fmt.Errorf("disconnect container %s from network %q: %w", id, network, err)
	}
	return nil
}

func (r *Runtime) disconnect(ctx context.Context, network, id string) error {
	_, err := r.api.NetworkDisconnect(ctx, network, client.NetworkDisconnectOptions{Container: id})
	return apiError(ctx, err)
}

// ConnectNetwork puts a container on a network, or on it as the endpoint says.
func (r *Runtime) ConnectNetwork(ctx context.Context, name, id string, opt runtime.Endpoint) error {
	fail := func(err error) error { return fmt.Errorf("connect container %s to network %q: %w", id, name, err) }
	c, err := r.Container(ctx, id)
	if err != nil {
		return fail(err)
	}
	if c.Attached(name, opt) {
		return nil
	}
	settings := &network.EndpointSettings{Aliases: opt.Aliases}
	if opt.IP != "" {
		ip, err := netip.ParseAddr(opt.IP)
		if err != nil {
			return fail(err)
		}
		settings.IPAMConfig = &network.EndpointIPAMConfig{IPv4Address: ip}
	}
	if opt.MAC != "" {
		mac, err := net.ParseMAC(opt.MAC)
		if err != nil {
			return fail(err)
		}
		settings.MacAddress = network.HardwareAddr(mac)
	}
	if _, on := c.Aliases[name]; on { // in another way
		if err := r.disconnect(ctx, name, id); err != nil {
			return fail(err)
		}
	}
	_, err = r.api.NetworkConnect(ctx, name, client.NetworkConnectOptions{Container: id, EndpointConfig: settings})
	if err != nil {
		return fail(apiError(ctx, err))
	}
	return nil
}

// freeAddresses gives a container that does not run free addresses at its next
// start, where one of its fixed ones is taken. It reports whether one was.
func (r *Runtime) freeAddresses(ctx context.Context, id string) (bool, error) {
	c, err := r.api.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil {
		return false, apiError(ctx, err)
	}
	if c.Container.NetworkSettings == nil {
		return false, nil
	}
	for name, n := range c.Container.NetworkSettings.Networks {
		if n == nil || n.IPAMConfig == nil || !n.IPAMConfig.IPv4Address.IsValid() {
			continue
		}
		found, err := r.api.NetworkInspect(ctx, name, client.NetworkInspectOptions{})
		if err != nil {
			return false, apiError(ctx, err)
		}
		for _, other := range found.Network.Containers {
			if other.IPv4Address.Addr() != n.IPAMConfig.IPv4Address {
				continue
			}
			if err := r.disconnect(ctx, name, id); err != nil {
				return false, err
			}
			return true, r.ConnectNetwork(ctx, name, id, runtime.Endpoint{Aliases: inspected(c.Container).Aliases[name]})
		}
	}
	return false, nil
}

func inspectedNetwork(n network.Network) runtime.Network {
	out := runtime.Network{Name: n.Name, ID: n.ID, Labels: n.Labels}
	for _, c := range n.IPAM.Config {
		if c.Subnet.IsValid() {
			out.Subnets = append(out.Subnets, c.Subnet.String())
		}
		if out.Gateway == "" && c.Gateway.IsValid() {
			out.Gateway = c.Gateway.String()
		}
	}
	return out
}

// Volumes lists the volumes with the labels, by name.
func (r *Runtime) Volumes(ctx context.Context, labels map[string]string) ([]runtime.Volume, error) {
	listed, err := r.api.VolumeList(ctx, client.VolumeListOptions{Filters: labelFilter(labels)})
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", apiError(ctx, err))
	}
	volumes := make([]runtime.Volume, 0, len(listed.Items))
	for _, l := range listed.Items {
		volumes = append(volumes, runtime.Volume{Name: l.Name, Labels: l.Labels})
	}
	byName(volumes, func(v runtime.Volume) string { return v.Name })
	return volumes, nil
}

// RemoveVolume removes the volume.
func (r *Runtime) RemoveVolume(ctx context.Context, name string) error {
	_, err := r.api.VolumeRemove(ctx, name, client.VolumeRemoveOptions{Force: true})
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove volume %q: %w", name, apiError(ctx, err))
	}
	return nil
}
