package inject

import (
	"context"
	"errors"
	"fmt"

	"github.com/sandbox-stack/sandbox/internal/aws"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/stack"
)

const (
	emulatorComponent = "aws"
	clusterComponent  = "cluster"
)

// cutComponent takes the containers of a component off the sandbox's network.
type cutComponent struct {
	steady
	component string
	w         World
}

// unplugged is what is recorded of a cutComponent.
type unplugged struct {
	Component string     `json:"component"`
	Network   string     `json:"network"`
	Endpoints []endpoint `json:"endpoints"`
}

// endpoint is what a container had on the network.
type endpoint struct {
	Container string   `json:"container"`
	Aliases   []string `json:"aliases,omitempty"`
	IP        string   `json:"ip"`
	MAC       string   `json:"mac,omitempty"`
}

func newCutComponent(spec *stack.CutFault, w World) Injector {
	f := cutComponent{w: w}
	if spec != nil {
		f.component = spec.Component
	}
	return f
}

func (f cutComponent) Prepare(ctx context.Context) (Record, error) {
	list, err := f.w.running(ctx, f.component)
	if err != nil {
		return Record{}, err
	}
	u := unplugged{Component: f.component, Network: f.w.Network}
	for _, c := range list {
		ip := c.IPs[f.w.Network]
		if ip == "" {
			return Record{}, fault.New(fault.Invalid, f.component+" can't be cut off", "its container "+c.Name+" is not on the network "+f.w.Network, "sandbox status")
		}
		u.Endpoints = append(u.Endpoints, endpoint{Container: c.Name, Aliases: c.Aliases[f.w.Network], IP: ip, MAC: c.MACs[f.w.Network]})
	}
	return newRecord("cut", "cut the network of "+f.component, LevelEngine, u, "component "+f.component)
}

func (f cutComponent) Inject(ctx context.Context, rec Record) error {
	var u unplugged
	if err := rec.read(&u); err != nil {
		return err
	}
	for _, e := range u.Endpoints {
		c, err := f.w.Engine.Container(ctx, e.Container)
		if err != nil {
			return fmt.Errorf("find the container %s: %w", e.Container, err)
		}
		if err := f.w.Engine.DisconnectNetwork(ctx, u.Network, c.ID); err != nil {
			return fmt.Errorf("take the container %s off the network: %w", e.Container, err)
		}
	}
	return nil
}

func (f cutComponent) Undo(ctx context.Context, rec Record) error {
	var u unplugged
	if err := rec.read(&u); err != nil {
		return err
	}
	var failed []error
	for _, e := range u.Endpoints {
		failed = append(failed, f.w.mend(ctx, []string{e.Container}, func(c runtime.Container) error { return f.plug(ctx, u, e, c) }))
	}
	if err := errors.Join(failed...); err != nil || u.Component != emulatorComponent || f.w.LeadEmulator == nil {
		return err
	}
	if err := f.w.LeadEmulator(ctx, "", 0); err != nil {
		return err
	}
	// What was open when it was cut hangs, also where it has its address again.
	client, err := f.w.Kube()
	if err != nil {
		return err
	}
	var old []string
	for _, e := range u.Endpoints {
		old = append(old, e.IP)
	}
	return f.w.cutOff(ctx, client, aws.Namespace, aws.ObjectName, old)
}

// plug puts a container on the network again, unless it is on it. Only a node
// gets its address back, as all in the cluster goes by that: an address that is
// asked for stays with the container, and another one may have taken it when it
// is started next. The others are found by their names.
func (f cutComponent) plug(ctx context.Context, u unplugged, e endpoint, c runtime.Container) error {
	if _, on := c.Aliases[u.Network]; on {
		return nil
	}
	back := runtime.Endpoint{Aliases: e.Aliases}
	if u.Component != clusterComponent {
		return f.w.Engine.ConnectNetwork(ctx, u.Network, c.ID, back)
	}
	back.IP, back.MAC = e.IP, e.MAC // with another MAC, neighbours would look for it in vain for a while
	err := f.w.Engine.ConnectNetwork(ctx, u.Network, c.ID, back)
	if err == nil || ctx.Err() != nil {
		return err
	}
	// The address is taken. A node with another one can at least be reached.
	back.IP, back.MAC = "", ""
	if again := f.w.Engine.ConnectNetwork(ctx, u.Network, c.ID, back); again != nil {
		return errors.Join(err, again)
	}
	return nil
}
