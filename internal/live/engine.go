package live

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// container is a container of the sandbox and the components it belongs to.
type container struct {
	runtime.Container
	logs, usage string
}

// containers are those that the engine listed last.
type containers struct {
	mu   sync.Mutex
	list []container
}

func (c *containers) set(list []container) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = list
}

func (c *containers) all() []container {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.list // replaced as a whole, never changed
}

// listContainers asks the engine for the sandbox's containers.
func (l *live) listContainers(ctx context.Context) error {
	var list []container
	for _, s := range l.src.Containers {
		found, err := l.src.Engine.Containers(ctx, s.Labels)
		if err != nil {
			return fmt.Errorf("list containers: %w", err)
		}
		for _, c := range found {
			list = append(list, container{Container: c, logs: s.Logs(c), usage: s.Usage(c)})
		}
	}
	l.containers.set(list)
	l.inventory.set()
	return nil
}

// actions are the events of containers that are told, and whether they may
// change a component's health. Others, such as each command that is run in a
// container, are not.
var actions = map[string]string{
	"create": "Created", "start": "Started", "die": "Died", "stop": "Stopped", "kill": "Killed", "remove": "Removed",
	"pause": "Paused", "unpause": "Unpaused", "oom": "OOMKilled", "restart": "Restarted", "health_status": "HealthStatus",
}

// followEngine passes on what happens to the sandbox's containers, and wakes
// the probes of what runs in them.
func (l *live) followEngine(ctx context.Context, up func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Events first: what happens while the list is read is in both.
	events, err := l.src.Engine.Events(ctx, nil)
	if err != nil {
		return err
	}
	if err := l.listContainers(ctx); err != nil {
		return err
	}
	defer l.engineHeard.during()()
	up()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, open := <-events:
			if !open {
				return errors.New("the engine has ended the stream of its events")
			}
			if err := l.containerEvent(ctx, e); err != nil {
				return err
			}
		}
	}
}

// containerEvent takes in one event of the engine's.
func (l *live) containerEvent(ctx context.Context, e runtime.Event) error {
	reason, told := actions[e.Action]
	selector, ours := l.selectorOf(e)
	if !told || !ours {
		return nil
	}
	l.emit(containerObjectEvent(e, reason))
	component := selector.Logs(runtime.Container{Name: e.Name, Labels: e.Labels})
	switch {
	case component == "cluster":
		l.wake("cluster", "release")
		l.loseKube(fmt.Sprintf("node %s: %s", e.Name, e.Action))
	case component == "aws":
		l.wake("aws", "terraform")
	case strings.HasPrefix(component, "observe/"):
		l.wake(strings.TrimPrefix(component, "observe/"), "prometheus")
	}
	return l.listContainers(ctx)
}

func (l *live) selectorOf(e runtime.Event) (Selector, bool) {
	for _, s := range l.src.Containers {
		if runtime.MatchLabels(e.Labels, s.Labels) {
			return s, true
		}
	}
	return Selector{}, false
}

func containerObjectEvent(e runtime.Event, reason string) event.ObjectEvent {
	out := event.ObjectEvent{
		Type: event.Normal, Source: "engine", Object: "container/" + e.Name, Reason: reason, Message: e.Action, Last: e.Time,
	}
	switch e.Action {
	case "die":
		out.Message = fmt.Sprintf("exit code %d", e.ExitCode)
		if e.ExitCode != 0 {
			out.Type = event.Warning
		}
	case "oom", "pause":
		out.Type = event.Warning
	}
	if out.Last.IsZero() {
		out.Last = time.Now()
	}
	return out
}
