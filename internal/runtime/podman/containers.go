package podman

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	nettypes "go.podman.io/common/libnetwork/types"
	"go.podman.io/podman/v6/pkg/specgen"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/port"
)

// CreateContainer creates a container, without starting it.
func (r *Runtime) CreateContainer(ctx context.Context, spec runtime.ContainerSpec) (runtime.Container, error) {
	body, err := jsonBody(generate(spec))
	if err != nil {
		return runtime.Container{}, err
	}
	var created struct {
		ID string `json:"Id"`
	}
	err = r.call(ctx, request{method: http.MethodPost, path: "/containers/create", body: body}, &created)
	if err != nil {
		return runtime.Container{}, fmt.Errorf("create container %q: %w", spec.Name, err)
	}
	return r.Container(ctx, created.ID)
}

// generate renders the spec as Podman wants it.
func generate(spec runtime.ContainerSpec) *specgen.SpecGenerator {
	g := specgen.NewSpecGenerator(spec.Image, false)
	g.Name = spec.Name
	g.Entrypoint = spec.Entrypoint
	g.Command = spec.Cmd
	g.Env = spec.Env
	g.User = spec.User
	g.Labels = spec.Labels
	// The log can be read back whether or not the host runs journald.
	g.LogConfiguration = &specgen.LogConfig{Driver: "k8s-file"}
	if spec.Restart {
		g.RestartPolicy = "unless-stopped"
	}
	if spec.Network != "" {
		g.NetNS = specgen.Namespace{NSMode: specgen.Bridge}
		g.Networks = map[string]nettypes.PerNetworkOptions{spec.Network: {Aliases: spec.Aliases}}
	}
	for _, p := range spec.Ports {
		g.PortMappings = append(g.PortMappings, nettypes.PortMapping{
			HostIP:        cmp.Or(p.HostIP, "127.0.0.1"),
			HostPort:      uint16(p.HostPort),
			ContainerPort: uint16(p.Container),
			Protocol:      "tcp",
		})
	}
	for _, m := range spec.Mounts {
		options := []string{"rbind"}
		if m.ReadOnly {
			options = append(options, "ro")
		}
		g.Mounts = append(g.Mounts, specs.Mount{Type: "bind", Source: m.Source, Destination: m.Target, Options: options})
	}
	if spec.Memory > 0 || spec.CPUShares > 0 {
		g.ResourceLimits = &specs.LinuxResources{}
	}
	if spec.Memory > 0 {
		g.ResourceLimits.Memory = &specs.LinuxMemory{Limit: &spec.Memory}
	}
	if spec.CPUShares > 0 {
		g.ResourceLimits.CPU = &specs.LinuxCPU{Shares: &spec.CPUShares}
	}
	return g
}

// StartContainer starts the container, or goes on with a paused one. One whose process and monitor are both
// gone is lost: Podman goes on taking it for running and can only remove it.
func (r *Runtime) StartContainer(ctx context.Context, id string) error {
	c, err := r.inspect(ctx, id)
	if err != nil {
		return fmt.Errorf("start container %s: %w", id, err)
	}
	if c.stale() {
		return &fault.Error{
			Code:  fault.Failed,
			What:  fmt.Sprintf("container %s can't be started again", c.Name),
			Why:   "its process and its monitor were killed together, and Podman can't recover from that",
			Try:   "podman rm --force " + c.Name,
			Cause: runtime.ErrLost,
		}
	}
	if c.State.Status == "paused" {
		return r.UnpauseContainer(ctx, id)
	}
	err = r.post(ctx, "/containers/%s/start", nil, id)
	if err != nil && strings.Contains(err.Error(), "requested ip address") { // and another has it
		if err := r.freeAddresses(ctx, c.container()); err != nil {
			return fmt.Errorf("start container %q: %w", c.Name, err)
		}
		err = r.post(ctx, "/containers/%s/start", nil, id)
	}
	if err != nil {
		return port.StartError(c.Name, c.ports(), fmt.Errorf("start container %q: %w", c.Name, err))
	}
	return nil
}

// PauseContainer freezes a running container.
func (r *Runtime) PauseContainer(ctx context.Context, id string) error {
	err := r.post(ctx, "/containers/%s/pause", nil, id)
	if err == nil {
		return nil
	}
	if c, inspectErr := r.Container(ctx, id); inspectErr == nil && c.State == "paused" {
		return nil
	}
	return fmt.Errorf("pause container %s: %w", id, err)
}

// UnpauseContainer goes on with a paused container.
func (r *Runtime) UnpauseContainer(ctx context.Context, id string) error {
	err := r.post(ctx, "/containers/%s/unpause", nil, id)
	if err == nil {
		return nil
	}
	if c, inspectErr := r.Container(ctx, id); inspectErr == nil && c.State != "paused" {
		return nil
	}
	return fmt.Errorf("unpause container %s: %w", id, err)
}

// StopContainer asks the container to stop and kills it after grace. Podman does
// not stop a paused container.
func (r *Runtime) StopContainer(ctx context.Context, id string, grace time.Duration) error {
	c, err := r.Container(ctx, id)
	if err != nil {
		return fmt.Errorf("stop container %s: %w", id, err)
	}
	if c.State == "paused" {
		if err := r.UnpauseContainer(ctx, id); err != nil {
			return fmt.Errorf("stop container %s: %w", id, err)
		}
	}
	seconds := strconv.Itoa(int(grace.Round(time.Second).Seconds()))
	if err := r.post(ctx, "/containers/%s/stop", url.Values{"timeout": {seconds}}, id); err != nil {
		return fmt.Errorf("stop container %s: %w", id, err)
	}
	return nil
}

// RemoveContainer kills and removes the container with its anonymous volumes.
func (r *Runtime) RemoveContainer(ctx context.Context, id string) error {
	params := url.Values{"force": {"true"}, "v": {"true"}, "volumes": {"true"}, "timeout": {"0"}}
	err := r.remove(ctx, "/containers/%s", params, id)
	if err == nil || errors.Is(err, runtime.ErrNotFound) {
		return nil
	}
	// Podman tries to kill a lost container, and fails, unless it has been
	// told to stop.
	if c, inspectErr := r.inspect(ctx, id); inspectErr == nil && c.stale() {
		if err := r.StopContainer(ctx, id, 0); err != nil {
			return fmt.Errorf("remove container %s, whose process is gone: %w", id, err)
		}
		err = r.remove(ctx, "/containers/%s", params, id)
	}
	if err != nil && !errors.Is(err, runtime.ErrNotFound) {
		return fmt.Errorf("remove container %s: %w", id, err)
	}
	return nil
}

// Container inspects by name or ID.
func (r *Runtime) Container(ctx context.Context, nameOrID string) (runtime.Container, error) {
	c, err := r.inspect(ctx, nameOrID)
	if err != nil {
		return runtime.Container{}, fmt.Errorf("inspect container %q: %w", nameOrID, err)
	}
	return c.container(), nil
}

// Containers lists the containers with the labels, by name.
func (r *Runtime) Containers(ctx context.Context, labels map[string]string) ([]runtime.Container, error) {
	params, err := labelFilter(labels, nil)
	if err != nil {
		return nil, err
	}
	params.Set("all", "true")
	return r.list(ctx, params)
}

// list lists containers by name.
func (r *Runtime) list(ctx context.Context, params url.Values) ([]runtime.Container, error) {
	var listed []struct {
		ID string `json:"Id"`
	}
	if err := r.get(ctx, "/containers/json", params, &listed); err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	containers := make([]runtime.Container, 0, len(listed))
	for _, l := range listed {
		// The list lacks addresses, health and how the container ended.
		c, err := r.inspect(ctx, l.ID)
		if errors.Is(err, runtime.ErrNotFound) {
			continue // removed in the meantime
		}
		if err != nil {
			return nil, fmt.Errorf("list containers: %w", err)
		}
		containers = append(containers, c.container())
	}
	slices.SortFunc(containers, func(a, b runtime.Container) int { return strings.Compare(a.Name, b.Name) })
	return containers, nil
}

func (r *Runtime) inspect(ctx context.Context, nameOrID string) (inspected, error) {
	var c inspected
	if err := r.get(ctx, "/containers/%s/json", nil, &c, nameOrID); err != nil || !c.stale() {
		return c, err
	}
	// It may have ended in order just after Podman looked: ask again.
	c = inspected{}
	err := r.get(ctx, "/containers/%s/json", nil, &c, nameOrID)
	return c, err
}
