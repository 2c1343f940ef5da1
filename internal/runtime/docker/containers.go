package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/port"
)

// removal bounds how long a container may take to go that another call is
// removing.
const removal = 30 * time.Second

// CreateContainer creates a container, without starting it.
func (r *Runtime) CreateContainer(ctx context.Context, spec runtime.ContainerSpec) (runtime.Container, error) {
	options, err := generate(spec)
	if err != nil {
		return runtime.Container{}, fmt.Errorf("create container %q: %w", spec.Name, err)
	}
	created, err := r.api.ContainerCreate(ctx, options)
	if err != nil {
		return runtime.Container{}, fmt.Errorf("create container %q: %w", spec.Name, apiError(ctx, err))
	}
	return r.Container(ctx, created.ID)
}

// generate renders the spec as Docker wants it.
func generate(spec runtime.ContainerSpec) (client.ContainerCreateOptions, error) {
	config := &container.Config{
		Image:        spec.Image,
		Entrypoint:   spec.Entrypoint,
		Cmd:          spec.Cmd,
		Env:          runtime.Environ(spec.Env),
		User:         spec.User,
		Labels:       spec.Labels,
		ExposedPorts: network.PortSet{},
	}
	host := &container.HostConfig{
		// The log can be read back whatever the daemon's default is.
		LogConfig:    container.LogConfig{Type: "json-file"},
		PortBindings: network.PortMap{},
		Resources:    container.Resources{Memory: spec.Memory, CPUShares: int64(spec.CPUShares)},
	}
	if spec.Restart {
		host.RestartPolicy.Name = container.RestartPolicyUnlessStopped
	}
	options := client.ContainerCreateOptions{Name: spec.Name, Config: config, HostConfig: host}
	if spec.Network != "" {
		host.NetworkMode = container.NetworkMode(spec.Network)
		options.NetworkingConfig = &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{
			spec.Network: {Aliases: spec.Aliases},
		}}
	}
	for _, p := range spec.Ports {
		inside, ok := network.PortFrom(uint16(p.Container), network.TCP)
		if !ok {
			return options, fmt.Errorf("port %d", p.Container)
		}
		ip, err := netip.ParseAddr(cmp.Or(p.HostIP, "127.0.0.1"))
		if err != nil {
			return options, err
		}
		outside := p.HostPort
		if outside == 0 {
			// Docker would choose anew at every start.
			if outside, err = port.Pick(ip.String()); err != nil {
				return options, err
			}
		}
		config.ExposedPorts[inside] = struct{}{}
		host.PortBindings[inside] = append(host.PortBindings[inside],
			network.PortBinding{HostIP: ip, HostPort: strconv.Itoa(outside)})
	}
	for _, m := range spec.Mounts {
		host.Mounts = append(host.Mounts, mount.Mount{Type: mount.TypeBind, Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly})
	}
	return options, nil
}

// StartContainer starts the container, or goes on with a paused one.
func (r *Runtime) StartContainer(ctx context.Context, id string) error {
	_, err := r.api.ContainerStart(ctx, id, client.ContainerStartOptions{})
	if err == nil {
		return nil
	}
	err = fmt.Errorf("start container %s: %w", id, apiError(ctx, err))
	if c, inspectErr := r.Container(ctx, id); inspectErr == nil {
		if c.State == "paused" {
			return r.UnpauseContainer(ctx, id)
		}
		if again, freeErr := r.freeAddresses(ctx, id); freeErr != nil {
			return errors.Join(err, freeErr)
		} else if again {
			return r.StartContainer(ctx, id)
		}
		return port.StartError(c.Name, c.Ports, err)
	}
	return err
}

// PauseContainer freezes a running container.
func (r *Runtime) PauseContainer(ctx context.Context, id string) error {
	_, err := r.api.ContainerPause(ctx, id, client.ContainerPauseOptions{})
	if err == nil {
		return nil
	}
	if c, inspectErr := r.Container(ctx, id); inspectErr == nil && c.State == "paused" {
		return nil
	}
	return fmt.Errorf("pause container %s: %w", id, apiError(ctx, err))
}

// UnpauseContainer goes on with a paused container.
func (r *Runtime) UnpauseContainer(ctx context.Context, id string) error {
	_, err := r.api.ContainerUnpause(ctx, id, client.ContainerUnpauseOptions{})
	if err == nil {
		return nil
	}
	if c, inspectErr := r.Container(ctx, id); inspectErr == nil && c.State != "paused" {
		return nil
	}
	return fmt.Errorf("unpause container %s: %w", id, apiError(ctx, err))
}

// StopContainer asks the container to stop and kills it after grace. Docker goes
// on with a paused one for that.
func (r *Runtime) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	seconds := int(grace.Round(time.Second).Seconds())
	if _, err := r.api.ContainerStop(ctx, id, client.ContainerStopOptions{Timeout: &seconds}); err != nil {
		return fmt.Errorf("stop container %s: %w", id, apiError(ctx, err))
	}
	return nil
}

// RemoveContainer kills and removes the container with its anonymous volumes.
func (r *Runtime) RemoveContainer(ctx context.Context, id string) error {
	_, err := r.api.ContainerRemove(ctx, id, client.ContainerRemoveOptions{RemoveVolumes: true, Force: true})
	if err == nil || errdefs.IsNotFound(err) {
		return nil
	}
	if errdefs.IsConflict(err) && strings.Contains(err.Error(), "already in progress") {
		return r.awaitRemoval(ctx, id)
	}
	return fmt.Errorf("remove container %s: %w", id, apiError(ctx, err))
}

// awaitRemoval waits until the container is gone that is being removed already.
func (r *Runtime) awaitRemoval(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, removal)
	defer cancel()
	errThere := fmt.Errorf("container %s is still being removed", id)
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		_, err := r.Container(ctx, id)
		switch {
		case err == nil:
			return struct{}{}, errThere
		case errors.Is(err, runtime.ErrNotFound):
			return struct{}{}, nil
		}
		return struct{}{}, backoff.Permanent(err)
	}, backoff.WithBackOff(backoff.NewConstantBackOff(50*time.Millisecond)), backoff.WithMaxElapsedTime(0))
	return err
}

// Container inspects by name or ID.
func (r *Runtime) Container(ctx context.Context, nameOrID string) (runtime.Container, error) {
	c, err := r.api.ContainerInspect(ctx, nameOrID, client.ContainerInspectOptions{})
	if err != nil {
		return runtime.Container{}, fmt.Errorf("inspect container %q: %w", nameOrID, apiError(ctx, err))
	}
	return inspected(c.Container), nil
}

// Containers lists the containers with the labels, by name.
func (r *Runtime) Containers(ctx context.Context, labels map[string]string) ([]runtime.Container, error) {
	listed, err := r.api.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: labelFilter(labels)})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", apiError(ctx, err))
	}
	containers := make([]runtime.Container, 0, len(listed.Items))
	for _, l := range listed.Items {
		// The list lacks addresses, health and how the container ended.
		c, err := r.Container(ctx, l.ID)
		if errors.Is(err, runtime.ErrNotFound) {
			continue // removed in the meantime
		}
		if err != nil {
			return nil, fmt.Errorf("list containers: %w", err)
		}
		containers = append(containers, c)
	}
	byName(containers, func(c runtime.Container) string { return c.Name })
	return containers, nil
}

// inspected is the answer in the runtime's terms.
func inspected(c container.InspectResponse) runtime.Container {
	out := runtime.Container{
		ID:      c.ID,
		Name:    strings.TrimPrefix(c.Name, "/"),
		ImageID: c.Image,
		Created: knownTime(c.Created),
		IPs:     map[string]string{},
		MACs:    map[string]string{},
		Aliases: map[string][]string{},
	}
	if c.Config != nil {
		out.Image, out.Labels = c.Config.Image, c.Config.Labels
	}
	if s := c.State; s != nil {
		out.State, out.ExitCode, out.PID, out.OOM = string(s.Status), s.ExitCode, s.Pid, s.OOMKilled
		out.Started, out.Finished = knownTime(s.StartedAt), knownTime(s.FinishedAt)
		if s.Health != nil && s.Health.Status != container.NoHealthcheck {
			out.Health = string(s.Health.Status)
		}
	}
	if c.HostConfig != nil {
		out.Ports = published(c.HostConfig.PortBindings)
	}
	if c.NetworkSettings != nil {
		for name, n := range c.NetworkSettings.Networks {
			if n == nil || (out.PID != 0 && !n.IPAddress.IsValid()) {
				continue // a running container failed to get on it
			}
			if n.IPAddress.IsValid() {
				out.IPs[name] = n.IPAddress.String()
			}
			if mac := n.MacAddress.String(); mac != "" {
				out.MACs[name] = mac
			}
			out.Aliases[name] = out.FurtherNames(n.Aliases)
		}
	}
	return out
}

// published lists the published TCP ports in the order of the container's.
func published(bindings network.PortMap) []runtime.Port {
	var ports []runtime.Port
	for inside, list := range bindings {
		if inside.Proto() != network.TCP {
			continue
		}
		for _, b := range list {
			outside, err := strconv.Atoi(b.HostPort)
			if err != nil {
				continue // somebody else's, to be chosen at its start
			}
			p := runtime.Port{HostPort: outside, Container: int(inside.Num())}
			if b.HostIP.IsValid() {
				p.HostIP = b.HostIP.String()
			}
			ports = append(ports, p)
		}
	}
	slices.SortFunc(ports, func(a, b runtime.Port) int {
		return cmp.Or(cmp.Compare(a.Container, b.Container), cmp.Compare(a.HostPort, b.HostPort))
	})
	return ports
}

// knownTime reads a time of the API, whose "never" is the year 1.
func knownTime(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || t.Year() <= 1 {
		return time.Time{}
	}
	return t
}
