// Package aws runs the emulator of AWS that a sandbox uses in place of the
// real one, and makes it known to the pods of the cluster.
//
// The emulator is a container of the engine beside the cluster, not a pod: it
// starts while the cluster still boots, and Terraform can work against it
// meanwhile. It keeps its state in memory, so a restart loses it; Generation
// tells one life of the emulator from the next.
package aws

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

const (
	// DefaultPort is the port that LocalStack's users know.
	DefaultPort = 4566
	// DefaultRegion is the region of all resources unless the stack says
	// otherwise.
	DefaultRegion = "us-east-1"
	// Alias is the emulator's name on the sandbox's network.
	Alias = "aws"

	// component is the emulator's name in labels and in health.
	component = "aws"
	// labelConfig holds the hash of what the container was made from.
	labelConfig = "sandbox.config"
	// listenPort is the emulator's port in its container.
	listenPort = 4566
	// stopGrace is short: the emulator has nothing to save.
	stopGrace = 2 * time.Second

	defaultReadyTimeout = 2 * time.Minute
)

// Config says what emulator a sandbox wants.
type Config struct {
	// Name is the sandbox's name.
	Name string
	// Image is the emulator's image, which the engine must already hold.
	Image string
	// Network is the sandbox's network, which must exist.
	Network string
	// Port is published on 127.0.0.1; 0 takes a free one.
	Port int
	// Services are loaded at the start, by LocalStack's names ("s3", "sqs").
	// Others load when they are first called.
	Services []string
	// Region is the AWS region; empty means DefaultRegion.
	Region string
	// Memory is the container's limit in bytes; 0 means none.
	Memory int64
	// CPUShares is the container's weight, as in runtime.ContainerSpec.
	CPUShares uint64
	// Labels are added to the container's; runtime.LabelName and
	// runtime.LabelComponent are set by this package.
	Labels map[string]string
	// ReadyTimeout bounds the start; 0 means two minutes.
	ReadyTimeout time.Duration
}

// Emulator is the AWS emulator of one sandbox, whether or not it runs yet.
type Emulator struct {
	rt  runtime.Runtime
	cfg Config
}

// New returns the emulator that cfg describes on the engine rt. It does not
// touch the engine.
func New(rt runtime.Runtime, cfg Config) (*Emulator, error) {
	cfg.Region = cmp.Or(cfg.Region, DefaultRegion)
	cfg.Network = cmp.Or(cfg.Network, "sandbox-"+cfg.Name)
	cfg.ReadyTimeout = cmp.Or(cfg.ReadyTimeout, defaultReadyTimeout)
	cfg.Services = slices.Compact(slices.Sorted(slices.Values(cfg.Services)))
	switch {
	case cfg.Name == "":
		return nil, fault.New(fault.Invalid, "the AWS emulator's sandbox has no name", "", "")
	case cfg.Image == "":
		return nil, fault.New(fault.Invalid, "the AWS emulator has no image", "", "")
	}
	return &Emulator{rt: rt, cfg: cfg}, nil
}

// ContainerName is the name of the emulator's container.
func (e *Emulator) ContainerName() string { return "sandbox-" + e.cfg.Name + "-aws" }

// Region is the AWS region of the emulator's resources.
func (e *Emulator) Region() string { return e.cfg.Region }

// Ensure brings the emulator to run with this Config and waits until it and
// its services answer. It reports whether it had to create, replace or start
// the container; in that case all earlier resources in it are gone, unless it
// was only paused.
func (e *Emulator) Ensure(ctx context.Context, rep event.Reporter) (bool, error) {
	img, err := e.rt.Image(ctx, e.cfg.Image)
	if err != nil {
		return false, fault.Wrap(fault.Unavailable, err, "sandbox images list", "the AWS emulator's image %s is not there", e.cfg.Image)
	}
	changed, err := e.ensureContainer(ctx, img, rep)
	if err != nil {
		return changed, err
	}
	return changed, e.waitReady(ctx, rep)
}

// ensureContainer brings the container to run, without waiting for what is in
// it.
func (e *Emulator) ensureContainer(ctx context.Context, img runtime.Image, rep event.Reporter) (bool, error) {
	spec, err := e.spec(img)
	if err != nil {
		return false, err
	}
	old, err := e.rt.Container(ctx, spec.Name)
	switch {
	case errors.Is(err, runtime.ErrNotFound):
		rep.Progress(event.Progress{Text: "starting the AWS emulator"})
	case err != nil:
		return false, fmt.Errorf("look for the AWS emulator: %w", err)
	case old.Labels[runtime.LabelName] != e.cfg.Name:
		return false, fault.New(fault.Conflict, fmt.Sprintf("container %s is in the way", old.Name),
			"it has the name of this sandbox's AWS emulator but was not made by it", "rename or remove it, then: sandbox up")
	case old.Labels[labelConfig] != spec.Labels[labelConfig]:
		rep.Progress(event.Progress{Text: "replacing the AWS emulator, whose configuration has changed"})
		if err := e.rt.RemoveContainer(ctx, old.ID); err != nil {
			return false, fmt.Errorf("remove the old AWS emulator: %w", err)
		}
	case old.Running():
		return false, nil
	default:
		rep.Progress(event.Progress{Text: "starting the AWS emulator, which was " + old.State})
		err := e.start(ctx, old.ID)
		if !errors.Is(err, runtime.ErrLost) {
			return true, err
		}
		rep.Log("sandbox", "the engine has lost track of the AWS emulator: creating it anew")
		if err := e.rt.RemoveContainer(ctx, old.ID); err != nil {
			return false, fmt.Errorf("remove the lost AWS emulator: %w", err)
		}
	}
	c, err := e.rt.CreateContainer(ctx, spec)
	if err != nil {
		return false, fmt.Errorf("create the AWS emulator: %w", err)
	}
	return true, e.start(ctx, c.ID)
}

func (e *Emulator) start(ctx context.Context, id string) error {
	if err := e.rt.StartContainer(ctx, id); err != nil {
		return fmt.Errorf("start the AWS emulator: %w", err)
	}
	return nil
}

// Delete removes the emulator and with it all resources in it.
func (e *Emulator) Delete(ctx context.Context) error {
	c, err := e.rt.Container(ctx, e.ContainerName())
	switch {
	case errors.Is(err, runtime.ErrNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("look for the AWS emulator: %w", err)
	case c.Labels[runtime.LabelName] != e.cfg.Name:
		return nil // not ours to remove
	}
	if err := e.rt.RemoveContainer(ctx, c.ID); err != nil {
		return fmt.Errorf("remove the AWS emulator: %w", err)
	}
	return nil
}

// Restart empties the emulator: it keeps nothing over a restart.
func (e *Emulator) Restart(ctx context.Context, rep event.Reporter) error {
	c, err := e.rt.Container(ctx, e.ContainerName())
	if err != nil {
		return fmt.Errorf("look for the AWS emulator: %w", err)
	}
	if err := e.rt.StopContainer(ctx, c.ID, stopGrace); err != nil {
		return fmt.Errorf("stop the AWS emulator: %w", err)
	}
	if err := e.start(ctx, c.ID); err != nil {
		return err
	}
	return e.waitReady(ctx, rep)
}

// Generation identifies the present life of the emulator. When it differs from
// the one that resources were created in, they are gone.
func (e *Emulator) Generation(ctx context.Context) (string, error) {
	c, err := e.running(ctx)
	if err != nil {
		return "", err
	}
	return c.ID + "@" + c.Started.UTC().Format(time.RFC3339Nano), nil
}

// Endpoint is the emulator's URL on this host. Clients that are given it
// explicitly work from here, although the URLs that the emulator itself hands
// out are those of the cluster.
func (e *Emulator) Endpoint(ctx context.Context) (string, error) {
	c, err := e.running(ctx)
	if err != nil {
		return "", err
	}
	return endpoint(c)
}

func endpoint(c runtime.Container) (string, error) {
	for _, p := range c.Ports {
		if p.Container == listenPort {
			return "http://127.0.0.1:" + strconv.Itoa(p.HostPort), nil
		}
	}
	return "", fmt.Errorf("container %s publishes no port %d", c.Name, listenPort)
}

// Address is the emulator's IP address on the sandbox's network. It may change
// when the emulator restarts.
func (e *Emulator) Address(ctx context.Context) (string, error) {
	c, err := e.running(ctx)
	if err != nil {
		return "", err
	}
	ip := c.IPs[e.cfg.Network]
	if ip == "" {
		return "", fmt.Errorf("container %s has no address on network %s", c.Name, e.cfg.Network)
	}
	return ip, nil
}

// running returns the emulator's container, which must run.
func (e *Emulator) running(ctx context.Context) (runtime.Container, error) {
	c, err := e.rt.Container(ctx, e.ContainerName())
	switch {
	case errors.Is(err, runtime.ErrNotFound):
		return c, fault.New(fault.Unavailable, "the AWS emulator does not run", "its container does not exist", "sandbox up")
	case err != nil:
		return c, fmt.Errorf("look for the AWS emulator: %w", err)
	case !c.Running():
		return c, fault.New(fault.Unavailable, "the AWS emulator does not run", exitReason(c), "sandbox up")
	}
	return c, nil
}

// spec is the container that this Config and image want. Its labels include a
// hash of all that only replacing it can change; labels of the caller's, which
// may name the run, are no reason to replace it.
func (e *Emulator) spec(img runtime.Image) (runtime.ContainerSpec, error) {
	spec := runtime.ContainerSpec{
		Name:    e.ContainerName(),
		Image:   e.cfg.Image,
		Env:     localStackEnv(e.cfg),
		Network: e.cfg.Network,
		Aliases: []string{Alias},
		Ports:   []runtime.Port{{HostIP: "127.0.0.1", HostPort: e.cfg.Port, Container: listenPort}},
		Memory:  e.cfg.Memory,

		CPUShares: e.cfg.CPUShares,
	}
	hashed, err := json.Marshal(struct {
		Spec    runtime.ContainerSpec
		ImageID string
	}{spec, img.ID})
	if err != nil {
		return spec, fmt.Errorf("hash the AWS emulator's configuration: %w", err)
	}
	sum := sha256.Sum256(hashed)
	spec.Labels = maps.Clone(e.cfg.Labels)
	if spec.Labels == nil {
		spec.Labels = map[string]string{}
	}
	spec.Labels[runtime.LabelName] = e.cfg.Name
	spec.Labels[runtime.LabelComponent] = component
	spec.Labels[labelConfig] = hex.EncodeToString(sum[:8])
	return spec, nil
}
