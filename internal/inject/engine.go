package inject

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/stack"
)

// grace is the time that a container has to stop.
const grace = 10 * time.Second

// containerFault freezes or stops the containers of a component.
type containerFault struct {
	steady
	kind      string
	component string
	w         World
}

// held is what is recorded of a fault of a component's containers.
type held struct {
	Component string `json:"component"`
	// Containers are their names: an ID is gone with a container that was made anew.
	Containers []string `json:"containers"`
}

func newPause(spec stack.Inject, w World) Injector {
	f := containerFault{kind: "pause", w: w}
	if spec.Pause != nil {
		f.component = spec.Pause.Component
	}
	return f
}

func newStop(spec stack.Inject, w World) Injector {
	f := containerFault{kind: "stop", w: w}
	if spec.Stop != nil {
		f.component = spec.Stop.Component
	}
	return f
}

// running returns the containers of a component, all of which have to run.
func (w World) running(ctx context.Context, component string) ([]runtime.Container, error) {
	list, err := w.Containers(ctx, component)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, fault.New(fault.Invalid, component+" has no container", "the engine runs none of it", "sandbox status")
	}
	for _, c := range list {
		if !c.Running() {
			return nil, fault.New(fault.Invalid, component+" does not run", "its container "+c.Name+" is "+c.State, "sandbox up")
		}
	}
	return list, nil
}

func (f containerFault) Prepare(ctx context.Context) (Record, error) {
	list, err := f.w.running(ctx, f.component)
	if err != nil {
		return Record{}, err
	}
	h := held{Component: f.component}
	for _, c := range list {
		h.Containers = append(h.Containers, c.Name)
	}
	return newRecord(f.kind, f.kind+" "+f.component, LevelEngine, h, "component "+f.component)
}

func (f containerFault) Inject(ctx context.Context, rec Record) error {
	var h held
	if err := rec.read(&h); err != nil {
		return err
	}
	var all errgroup.Group // side by side: each may take its grace to stop
	for _, name := range h.Containers {
		all.Go(func() error { return f.hit(ctx, rec.Kind, name) })
	}
	return all.Wait()
}

// hit freezes or stops one container.
func (f containerFault) hit(ctx context.Context, kind, name string) error {
	c, err := f.w.Engine.Container(ctx, name)
	if err != nil {
		return fmt.Errorf("find the container %s: %w", name, err)
	}
	if kind == "pause" {
		err = f.w.Engine.PauseContainer(ctx, c.ID)
	} else {
		err = f.w.Engine.StopContainer(ctx, c.ID, grace)
	}
	if err != nil {
		return fmt.Errorf("%s the container %s: %w", kind, name, err)
	}
	return nil
}

func (f containerFault) Undo(ctx context.Context, rec Record) error {
	var h held
	if err := rec.read(&h); err != nil {
		return err
	}
	if rec.Kind == "pause" {
		return f.w.mend(ctx, h.Containers, func(c runtime.Container) error { return f.w.Engine.UnpauseContainer(ctx, c.ID) })
	}
	err := f.w.mend(ctx, h.Containers, func(c runtime.Container) error {
		err := f.w.Engine.StartContainer(ctx, c.ID)
		if errors.Is(err, runtime.ErrLost) { // Revive makes it anew
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	return f.w.Revive(ctx, h.Component)
}

// mend does something to each of the containers that exist.
func (w World) mend(ctx context.Context, names []string, do func(runtime.Container) error) error {
	var failed []error
	for _, name := range names {
		c, err := w.Engine.Container(ctx, name)
		if errors.Is(err, runtime.ErrNotFound) {
			continue
		}
		if err == nil {
			err = do(c)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("mend the container %s: %w", name, err))
		}
	}
	return errors.Join(failed...)
}
