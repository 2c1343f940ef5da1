package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/sandbox-stack/sandbox/internal/aws"
	"github.com/sandbox-stack/sandbox/internal/cluster"
	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/inject"
	"github.com/sandbox-stack/sandbox/internal/live/existence"
	"github.com/sandbox-stack/sandbox/internal/plan"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/stack"
)

// world is the sandbox as faults see it.
func (s *Session) world() inject.World {
	return inject.World{
		Sandbox: s.name, Run: s.run, Network: s.network(), Engine: s.engine, Namespaces: s.namespaces(),
		Kube: func() (kubernetes.Interface, error) { return s.kube() },
		Node: s.node,
		Containers: func(ctx context.Context, component string) ([]runtime.Container, error) {
			t, err := s.target(ctx, component)
			return t.containers, err
		},
		Exec:         s.execFault,
		Proxy:        s.startProxy,
		ProxyAddress: s.proxyAddress,
		StopProxy:    s.stopProxy,
		Emulator:     s.emulatorAddress,
		LeadEmulator: s.leadEmulator,
		Tamper:       s.tamper,
		Resources:    s.resources,
		Apply: func(ctx context.Context, name string) error {
			t, err := s.moduleSpec(name)
			if err != nil {
				return inject.Gone(err)
			}
			_, err = s.apply(ctx, t, event.Discard)
			return err
		},
		Revive: s.revive,
	}
}

// node returns the container of a node, which has the node's name.
func (s *Session) node(ctx context.Context, name string) (runtime.Container, error) {
	list, err := s.engine.Containers(ctx, map[string]string{cluster.LabelKind: cluster.KindName(s.name)})
	if err != nil {
		return runtime.Container{}, fmt.Errorf("list the nodes: %w", err)
	}
	i := slices.IndexFunc(list, func(c runtime.Container) bool { return c.Name == name })
	if i < 0 {
		return runtime.Container{}, fmt.Errorf("node %s: %w", name, runtime.ErrNotFound)
	}
	return list[i], nil
}

// How long a fault's command has to end once its context has. In a container it is
// killed then: not before, as the engine may not have started it yet, and would
// after the fault was undone. In a pod nothing can kill it.
const (
	killAfter = 2 * time.Second
	podAfter  = time.Minute
)

// execFault runs a command of a fault in a component, as Exec does. It comes back
// when the command has ended, also where ctx ends before: what undoes the fault
// comes next, and must not be overtaken.
func (s *Session) execFault(ctx context.Context, component string, command []string, out io.Writer) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	t, err := s.target(ctx, component)
	switch {
	case fault.CodeOf(err) == fault.Invalid:
		return 0, inject.Gone(err)
	case err != nil:
		return 0, err
	case t.release != nil:
		return s.faultInPod(ctx, t, component, command, out)
	case len(t.containers) == 0: // nothing of it runs, so nothing of it can be broken
		return 0, inject.Gone(s.exec(ctx, t, component, command, Terminal{}))
	}
	longer, cancel := inject.Outlive(ctx, killAfter)
	defer cancel()
	code, err := s.engine.Exec(longer, t.containers[0].ID, runtime.ExecSpec{Cmd: command, Stdout: out, Stderr: out})
	if ctx.Err() != nil {
		return 0, commandTooLong(ctx, err, "the command did not end in time in "+component)
	}
	return code, err
}

// commandTooLong says that ctx has ended before the command of a fault.
func commandTooLong(ctx context.Context, err error, what string) error {
	return fault.Wrap(fault.Timeout, errors.Join(ctx.Err(), err), "a command that takes less than a minute", "%s", what)
}

func (s *Session) faultInPod(ctx context.Context, t target, component string, command []string, out io.Writer) (int, error) {
	longer, cancel := inject.Outlive(ctx, podAfter)
	defer cancel()
	err := s.exec(longer, t, component, command, Terminal{In: strings.NewReader(""), Out: out, Err: out})
	var exit interface{ ExitCode() int }
	switch {
	case longer.Err() != nil:
		return 0, commandTooLong(ctx, err, "the command may still run in "+component)
	case ctx.Err() != nil:
		return 0, commandTooLong(ctx, nil, "the command did not end in time in "+component)
	case errors.As(err, &exit):
		return exit.ExitCode(), nil
	}
	return 0, err
}

func (s *Session) emulatorAddress(ctx context.Context) (string, int, error) {
	e, err := s.emulator()
	if err != nil {
		return "", 0, err
	}
	b, err := e.Binding(ctx, nil)
	return b.Address, b.Port, err
}

// leadEmulator leads what pods send to the emulator elsewhere, or back to it.
func (s *Session) leadEmulator(ctx context.Context, address string, port int) error {
	e, err := s.emulator()
	if err != nil {
		return err
	}
	client, err := s.kube()
	if err != nil {
		return err
	}
	binding, err := s.binding(ctx, e)
	if err != nil {
		return err
	}
	if address != "" {
		binding.Address, binding.Port = address, port
	}
	_, err = s.bind(ctx, client, binding)
	return err
}

// bind makes the emulator known in the cluster. What was led to another address
// is led away from it, connections that are open too.
func (s *Session) bind(ctx context.Context, client kubernetes.Interface, b aws.Binding) (changed bool, err error) {
	before, err := inject.Endpoints(ctx, client, aws.Namespace, aws.ObjectName)
	if err != nil {
		return false, err
	}
	changed, err = aws.Bind(ctx, client, b)
	if err != nil {
		return changed, err
	}
	return changed, s.world().Leave(ctx, aws.Namespace, aws.ObjectName, before)
}

// binding is how pods reach the emulator when nothing is broken.
func (s *Session) binding(ctx context.Context, e *aws.Emulator) (aws.Binding, error) {
	return e.Binding(ctx, s.namespaces())
}

// namespaces are those of the stack's releases.
func (s *Session) namespaces() []string {
	var list []string
	for _, r := range s.stack.Spec.Releases {
		if !slices.Contains(list, r.Namespace) {
			list = append(list, r.Namespace)
		}
	}
	return list
}

func (s *Session) moduleState(name string) ([]existence.Resource, error) {
	if _, err := s.moduleSpec(name); err != nil {
		return nil, err
	}
	ws, err := s.dir.Workspace(name)
	if err != nil {
		return nil, err
	}
	return existence.ReadState(filepath.Join(ws, stateFileName))
}

func (s *Session) resources(_ context.Context, module string) ([]string, error) {
	list, err := s.moduleState(module)
	var addresses []string
	for _, r := range list {
		addresses = append(addresses, r.Address)
	}
	return addresses, err
}

// checker asks the emulator about resources.
func (s *Session) checker(ctx context.Context) (existence.Checker, error) {
	e, err := s.emulator()
	if err != nil {
		return existence.Checker{}, err
	}
	endpoint, err := e.Endpoint(ctx)
	return existence.Checker{Endpoint: endpoint, Region: s.region(), AccessKey: aws.AccessKey, SecretKey: aws.SecretKey}, err
}

// tamper changes a resource of a module in the emulator, not by Terraform.
func (s *Session) tamper(ctx context.Context, module, address, action string) error {
	list, err := s.moduleState(module)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(r existence.Resource) bool { return r.Address == address })
	if i < 0 {
		return fault.New(fault.Invalid, fmt.Sprintf("no resource %s in module %s", address, module), "the module's state does not have it", "sandbox tf drift "+module)
	}
	c, err := s.checker(ctx)
	if err != nil {
		return err
	}
	if action == stack.TamperChange {
		return c.Change(ctx, list[i])
	}
	return c.Delete(ctx, list[i])
}

// revive brings back what a component has lost by being stopped.
func (s *Session) revive(ctx context.Context, component string) error {
	kind, name, _ := strings.Cut(component, "/")
	var parts []func(context.Context, event.Reporter) error
	add := func(part func(context.Context, event.Reporter) error) { parts = append(parts, part) }
	switch kind {
	case "aws":
		add(ignoreResult(s.ensureEmulator))
		add(ignoreResult(s.ensureBinding))
		for _, t := range s.stack.Spec.Terraform {
			add(func(ctx context.Context, rep event.Reporter) error {
				_, err := s.applyModule(ctx, t.Name, rep)
				return err
			})
		}
	case "cluster":
		add(ignoreResult(s.ensureCluster))
		if s.stack.Spec.Observability.On() {
			add(ignoreResult(s.ensureDiscovery))
		}
		add(ignoreResult(s.ensureClusterReady))
	case "observe":
		part, ok := map[string]plan.Part{
			"prometheus": s.ensurePrometheus, "alertmanager": s.ensureAlertmanager, "grafana": s.ensureGrafana, "exporter": s.ensureExporter,
		}[name]
		if !ok {
			return fmt.Errorf("bring back %s: %w", component, errNoPart)
		}
		add(ignoreResult(part))
		if name == "prometheus" {
			add(ignoreResult(s.ensureDiscovery))
		}
	}
	for _, part := range parts {
		if err := part(ctx, event.Discard); err != nil {
			return err
		}
	}
	return nil
}

func ignoreResult[R any](part func(context.Context, event.Reporter) (R, error)) func(context.Context, event.Reporter) error {
	return func(ctx context.Context, rep event.Reporter) error {
		_, err := part(ctx, rep)
		return err
	}
}
