package session

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/port"
	"github.com/sandbox-stack/sandbox/internal/state"
)

const loopback = "127.0.0.1"

// publisher is a component that publishes a port.
type publisher struct {
	key       string // in the record and the stack file
	component string // the label of its container
	wanted    int
}

func (s *Session) publishers() []publisher {
	p := s.stack.Spec.Ports
	var list []publisher
	if s.stack.Spec.AWS.On() {
		list = append(list, publisher{"aws", "aws", p.AWS})
	}
	if s.stack.Spec.Observability.On() {
		list = append(list,
			publisher{"prometheus", "observe/prometheus", p.Prometheus},
			publisher{"alertmanager", "observe/alertmanager", p.Alertmanager},
			publisher{"grafana", "observe/grafana", p.Grafana},
		)
	}
	return list
}

// choosePorts decides on the published ports before anything is created. What
// our own containers publish already is kept; of the rest, a port that is
// taken names its process.
func (s *Session) choosePorts(ctx context.Context) error {
	held, err := s.heldPorts(ctx)
	if err != nil {
		return err
	}
	rec, err := s.dir.Record()
	if err != nil && !errors.Is(err, state.ErrNoRecord) {
		return err
	}
	s.opt.AutoPorts = s.opt.AutoPorts || rec.Facts["ports"] == "auto" // what an earlier up decided stays
	s.ports = map[string]int{}
	for _, p := range s.publishers() {
		earlier := rec.Ports[p.key]
		switch {
		case held[p.component] == p.wanted, !s.opt.AutoPorts && port.Free(loopback, p.wanted):
			s.ports[p.key] = p.wanted
		case !s.opt.AutoPorts:
			return taken(p)
		case held[p.component] != 0:
			s.ports[p.key] = held[p.component]
		case earlier != 0 && port.Free(loopback, earlier):
			s.ports[p.key] = earlier
		default:
			if s.ports[p.key], err = freePort(s.ports); err != nil {
				return err
			}
		}
	}
	return nil
}

// heldPorts maps components to the ports that their containers publish now: a
// stopped one holds none.
func (s *Session) heldPorts(ctx context.Context) (map[string]int, error) {
	list, err := s.engine.Containers(ctx, map[string]string{runtime.LabelName: s.name})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	held := map[string]int{}
	for _, c := range list {
		if !c.Running() && !c.Paused() {
			continue
		}
		for _, p := range c.Ports {
			held[c.Labels[runtime.LabelComponent]] = p.HostPort
		}
	}
	return held, nil
}

func taken(p publisher) error {
	by := "another process"
	owner, found, err := port.Owner(p.wanted)
	switch {
	case err != nil:
		by += " (" + err.Error() + ")"
	case found:
		by = owner.String()
	}
	return fault.New(fault.Conflict,
		fmt.Sprintf("port %d for %s is taken by %s", p.wanted, p.component, by),
		"every published port binds 127.0.0.1, and only one process can have it",
		"sandbox up --ports auto, or another port in the stack file under spec.ports."+p.key)
}

// freePort asks the kernel for a port that is free now and none of those that
// were chosen already: until a container holds it, the kernel may give it again.
func freePort(chosen map[string]int) (int, error) {
	for {
		l, err := net.Listen("tcp", loopback+":0")
		if err != nil {
			return 0, fault.Wrap(fault.Failed, err, "", "this machine gives no free port")
		}
		p := l.Addr().(*net.TCPAddr).Port
		if err := l.Close(); err != nil {
			return 0, fmt.Errorf("give port %d back: %w", p, err)
		}
		if !slices.Contains(slices.Collect(maps.Values(chosen)), p) {
			return p, nil
		}
	}
}
