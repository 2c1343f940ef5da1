package podman

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	nettypes "go.podman.io/common/libnetwork/types"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/install"
)

// CreateNetwork creates a bridge network with name resolution, or returns the
// one that is there if it carries the same labels.
func (r *Runtime) CreateNetwork(ctx context.Context, name string, labels map[string]string) (runtime.Network, error) {
	if err := checkNameResolution(); err != nil {
		return runtime.Network{}, err
	}
	existing, err := r.reuseNetwork(ctx, name, labels)
	if !errors.Is(err, runtime.ErrNotFound) {
		return existing, err
	}
	body, err := jsonBody(nettypes.Network{Name: name, Driver: "bridge", DNSEnabled: true, Labels: labels})
	if err != nil {
		return runtime.Network{}, err
	}
	var created nettypes.Network
	if err := r.call(ctx, request{method: http.MethodPost, path: "/networks/create", body: body}, &created); err != nil {
		// Another process may have been faster.
		if existing, reuseErr := r.reuseNetwork(ctx, name, labels); reuseErr == nil {
			return existing, nil
		}
		return runtime.Network{}, fmt.Errorf("create network %q: %w", name, err)
	}
	return network(created), nil
}

// reuseNetwork returns the network if it carries the labels, a conflict if it
// does not, and ErrNotFound if there is none.
func (r *Runtime) reuseNetwork(ctx context.Context, name string, labels map[string]string) (runtime.Network, error) {
	var found nettypes.Network
	if err := r.get(ctx, "/networks/%s/json", nil, &found, name); err != nil {
		return runtime.Network{}, fmt.Errorf("inspect network %q: %w", name, err)
	}
	for key, value := range labels {
		if found.Labels[key] != value {
			return runtime.Network{}, fault.New(fault.Conflict,
				fmt.Sprintf("a network named %s is in the way", name),
				fmt.Sprintf("it does not carry the label %s=%s, so it is not this sandbox's", key, value),
				"podman network rm "+name)
		}
	}
	return network(found), nil
}

// Networks lists the networks with the labels, by name.
func (r *Runtime) Networks(ctx context.Context, labels map[string]string) ([]runtime.Network, error) {
	params, err := labelFilter(labels, nil)
	if err != nil {
		return nil, err
	}
	var listed []nettypes.Network
	if err := r.get(ctx, "/networks/json", params, &listed); err != nil {
		return nil, fmt.Errorf("list networks: %w", err)
	}
	networks := make([]runtime.Network, 0, len(listed))
	for _, l := range listed {
		// Servers match any one of several labels.
		if runtime.MatchLabels(l.Labels, labels) {
			networks = append(networks, network(l))
		}
	}
	slices.SortFunc(networks, func(a, b runtime.Network) int { return strings.Compare(a.Name, b.Name) })
	return networks, nil
}

// RemoveNetwork removes the network, which no container may use.
func (r *Runtime) RemoveNetwork(ctx context.Context, name string) error {
	if err := r.remove(ctx, "/networks/%s", nil, name); err != nil && !errors.Is(err, runtime.ErrNotFound) {
		return fmt.Errorf("remove network %q: %w", name, err)
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
	body, err := jsonBody(map[string]any{"Container": id})
	if err != nil {
		return err
	}
	return r.call(ctx, request{method: http.MethodPost, path: "/networks/%s/disconnect", args: []string{network}, body: body}, nil)
}

// ConnectNetwork puts a container on a network, or on it as the endpoint says.
func (r *Runtime) ConnectNetwork(ctx context.Context, network, id string, opt runtime.Endpoint) error {
	if err := r.connectNetwork(ctx, network, id, opt); err != nil {
		return fmt.Errorf("connect container %s to network %q: %w", id, network, err)
	}
	return nil
}

func (r *Runtime) connectNetwork(ctx context.Context, network, id string, opt runtime.Endpoint) error {
	c, err := r.Container(ctx, id)
	if err != nil || c.Attached(network, opt) {
		return err
	}
	// Podman would note a connection to an address that is taken, and free that
	// address when the note is removed.
	if err := r.checkFree(ctx, network, c.ID, opt.IP); err != nil {
		return err
	}
	if _, on := c.Aliases[network]; on { // in another way
		if err := r.disconnect(ctx, network, id); err != nil {
			return err
		}
	}
	err = r.connect(ctx, network, id, opt)
	if err == nil || !strings.Contains(err.Error(), "already connected") {
		return err
	}
	// The note of a connection that failed, which an inspection does not show.
	if err := r.disconnect(ctx, network, id); err != nil {
		return err
	}
	return r.connect(ctx, network, id, opt)
}

// checkFree makes sure that no other container has the address.
func (r *Runtime) checkFree(ctx context.Context, network, id, ip string) error {
	if ip == "" {
		return nil
	}
	params, err := labelFilter(nil, map[string][]string{"network": {network}})
	if err != nil {
		return err
	}
	others, err := r.list(ctx, params)
	if err != nil {
		return err
	}
	for _, other := range others {
		if other.ID != id && other.IPs[network] == ip {
			return fmt.Errorf("address %s is that of container %s", ip, other.Name)
		}
	}
	return nil
}

func (r *Runtime) connect(ctx context.Context, network, id string, opt runtime.Endpoint) error {
	options := struct {
		Container string `json:"container"`
		nettypes.PerNetworkOptions
	}{id, nettypes.PerNetworkOptions{Aliases: opt.Aliases}}
	if opt.IP != "" {
		ip := net.ParseIP(opt.IP)
		if ip == nil {
			return fmt.Errorf("%q is no IP address", opt.IP)
		}
		options.StaticIPs = []net.IP{ip}
	}
	if opt.MAC != "" {
		mac, err := net.ParseMAC(opt.MAC)
		if err != nil {
			return err
		}
		options.StaticMAC = nettypes.HardwareAddr(mac)
	}
	body, err := jsonBody(options)
	if err != nil {
		return err
	}
	return r.call(ctx, request{method: http.MethodPost, path: "/networks/%s/connect", args: []string{network}, body: body}, nil)
}

// freeAddresses gives a container that does not run free addresses at its next
// start instead of fixed ones.
func (r *Runtime) freeAddresses(ctx context.Context, c runtime.Container) error {
	for network, aliases := range c.Aliases {
		if err := r.DisconnectNetwork(ctx, network, c.ID); err != nil {
			return err
		}
		if err := r.ConnectNetwork(ctx, network, c.ID, runtime.Endpoint{Aliases: aliases}); err != nil {
			return err
		}
	}
	return nil
}

func network(n nettypes.Network) runtime.Network {
	out := runtime.Network{Name: n.Name, ID: n.ID, Labels: n.Labels}
	for _, subnet := range n.Subnets {
		out.Subnets = append(out.Subnets, subnet.Subnet.String())
		if out.Gateway == "" && subnet.Gateway != nil {
			out.Gateway = subnet.Gateway.String()
		}
	}
	return out
}

// checkNameResolution makes sure that Podman's network helpers are installed.
// Without them it falls back to plugins, or to networks, that resolve no names,
// and says so in a log at most.
func checkNameResolution() error {
	for _, helper := range []string{"netavark", "aardvark-dns"} {
		if !hasHelper(helper) {
			return fault.New(fault.Unavailable,
				"Podman's networks do not resolve container names on this machine",
				"its helper "+helper+" is not installed",
				install.Command("netavark aardvark-dns"))
		}
	}
	return nil
}

// hasHelper looks for a helper program where Podman does.
func hasHelper(name string) bool {
	for _, dir := range []string{
		"/usr/local/libexec/podman", "/usr/local/lib/podman", "/usr/libexec/podman", "/usr/lib/podman",
		"/usr/local/bin", "/usr/bin",
	} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

// Volumes lists the volumes with the labels, by name.
func (r *Runtime) Volumes(ctx context.Context, labels map[string]string) ([]runtime.Volume, error) {
	params, err := labelFilter(labels, nil)
	if err != nil {
		return nil, err
	}
	var listed []struct {
		Name   string            `json:"Name"`
		Labels map[string]string `json:"Labels"`
	}
	if err := r.get(ctx, "/volumes/json", params, &listed); err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	volumes := make([]runtime.Volume, 0, len(listed))
	for _, l := range listed {
		if runtime.MatchLabels(l.Labels, labels) {
			volumes = append(volumes, runtime.Volume{Name: l.Name, Labels: l.Labels})
		}
	}
	slices.SortFunc(volumes, func(a, b runtime.Volume) int { return strings.Compare(a.Name, b.Name) })
	return volumes, nil
}

// RemoveVolume removes the volume.
func (r *Runtime) RemoveVolume(ctx context.Context, name string) error {
	params := url.Values{"force": {"true"}}
	if err := r.remove(ctx, "/volumes/%s", params, name); err != nil && !errors.Is(err, runtime.ErrNotFound) {
		return fmt.Errorf("remove volume %q: %w", name, err)
	}
	return nil
}
