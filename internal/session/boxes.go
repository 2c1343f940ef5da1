package session

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/sandbox-stack/sandbox/internal/agent"
	"github.com/sandbox-stack/sandbox/internal/agent/box"
	"github.com/sandbox-stack/sandbox/internal/agent/proxy"
	"github.com/sandbox-stack/sandbox/internal/agent/receiver"
	"github.com/sandbox-stack/sandbox/internal/inject"
	"github.com/sandbox-stack/sandbox/internal/plan"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// receiverAlias is the name of a drill's receiver on the sandbox's network.
const receiverAlias = "drill-receiver"

// receiverURL is where it takes notifications, as Alertmanager sees it.
var receiverURL = fmt.Sprintf("http://%s:%d/notify", receiverAlias, agent.PortReceiver)

// box describes a container that runs this program.
func (s *Session) box(component, alias string, port int, args ...string) (box.Spec, error) {
	cache, err := cacheDir()
	return box.Spec{
		Sandbox: s.name, Run: s.run, Component: component, Alias: alias, Network: s.network(),
		Image: s.ref(plan.PrometheusImage), Args: args, Port: port, Cache: cache, Program: s.opt.Program,
	}, err
}

// drillBox describes one that lives for a drill only.
func (s *Session) drillBox(alias string, port int, args ...string) (box.Spec, error) {
	return s.box(drillComponent+alias, alias, port, args...)
}

// drillReceiver is the receiver of a drill, at its URL on this host.
type drillReceiver string

// Notifications returns what Alertmanager has sent.
func (r drillReceiver) Notifications(ctx context.Context) ([]receiver.Notification, error) {
	return receiver.Fetch(ctx, string(r))
}

func (s *Session) startReceiver(ctx context.Context) (drillReceiver, error) {
	spec, err := s.drillBox(receiverAlias, agent.PortReceiver, "receiver")
	if err != nil {
		return "", err
	}
	b, err := box.Ensure(ctx, s.engine, spec)
	return drillReceiver(b.URL), err
}

// startProxy starts a proxy of a drill and returns its address on the network.
func (s *Session) startProxy(ctx context.Context, name string, spec inject.ProxySpec) (string, error) {
	what, err := json.Marshal(spec)
	if err != nil {
		return "", fmt.Errorf("describe the proxy: %w", err)
	}
	b, err := s.drillBox("drill-"+name, agent.PortProxy, "proxy")
	if err != nil {
		return "", err
	}
	b.Env = map[string]string{proxy.Variable: string(what)}
	c, err := box.Ensure(ctx, s.engine, b)
	if err != nil {
		return "", err
	}
	address := c.IPs[s.network()]
	if address == "" {
		return "", fmt.Errorf("the proxy %s has no address on the network %s", c.Name, s.network())
	}
	return address, nil
}

// proxyAddress returns the address of a proxy that runs, "" of one that is gone.
func (s *Session) proxyAddress(ctx context.Context, name string) (string, error) {
	labels := s.own()
	labels[runtime.LabelComponent] = drillComponent + "drill-" + name
	list, err := s.engine.Containers(ctx, labels)
	if err != nil {
		return "", fmt.Errorf("find the proxy %s: %w", name, err)
	}
	for _, c := range list {
		if address := c.IPs[s.network()]; address != "" {
			return address, nil
		}
	}
	return "", nil
}

func (s *Session) stopProxy(ctx context.Context, name string) error {
	b, err := s.drillBox("drill-"+name, agent.PortProxy)
	if err != nil {
		return err
	}
	return box.Remove(ctx, s.engine, b)
}
