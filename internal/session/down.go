package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/stack"
	"github.com/sandbox-stack/sandbox/internal/state"
	"github.com/sandbox-stack/sandbox/internal/steps"
)

// Down removes what carries the sandbox's label, its cluster and its state. It
// goes by labels alone, so it needs no record, and what is gone already is no
// error. Resources in the emulator go with it. The images that were built for
// the sandbox are a cache for the next up; they go only where images is set.
func Down(ctx context.Context, name string, images bool, sink event.Sink) error {
	if err := stack.CheckName(name); err != nil {
		return err
	}
	known, err := state.List()
	if err != nil {
		return err
	}
	dir, err := openState(name)
	if err != nil {
		return err
	}
	lock, err := dir.Lock("sandbox down")
	if err != nil {
		return err
	}
	s := newSession(name, &stack.Stack{}, Options{}, dir)
	s.lock = lock
	choice, err := engineOf(ctx, dir)
	if err == nil {
		// Not in the state folder, which goes away.
		err = withEngine(ctx, choice, func(engine runtime.Runtime) error {
			s.engine = engine
			return s.removeAll(ctx, images, sink)
		})
	}
	s.disconnected = true // withEngine has closed it
	if err != nil && !slices.Contains(known, name) {
		return errors.Join(err, s.abandon()) // the folder was made for the lock only
	}
	return errors.Join(err, s.Close())
}

func (s *Session) removeAll(ctx context.Context, images bool, sink event.Sink) error {
	began := time.Now()
	log := event.NewLog(newRun(), nil, sink)
	list := []steps.Step{
		{ID: "cluster", Title: "cluster", Apply: s.removeCluster},
		{ID: "containers", Title: "containers", Apply: s.removeContainers},
		{ID: "network", Title: "network", After: []string{"cluster", "containers"}, Apply: s.removeNetworks},
		{ID: "state", Title: "state", After: []string{"network"}, Apply: s.removeState},
	}
	if images {
		list = append(list, steps.Step{ID: "images", Title: "images", After: []string{"cluster", "containers"}, Apply: s.removeImages})
	}
	log.Emit(event.PlanReady{Stack: s.name, Command: "down", Steps: steps.Plan(list)})
	runErr := run(ctx, list, log.Emit)
	log.Emit(event.RunFinished{OK: runErr == nil, Error: steps.Problem(runErr), Elapsed: time.Since(began)})
	return errors.Join(runErr, log.Close())
}

func (s *Session) own() map[string]string { return map[string]string{runtime.LabelName: s.name} }

func (s *Session) removeCluster(ctx context.Context, rep event.Reporter) (steps.Result, error) {
	c, err := s.cluster()
	if err != nil {
		return steps.Result{}, err
	}
	st, err := c.Inspect(ctx)
	if err != nil {
		return steps.Result{}, err
	}
	// Deleted even where there is nothing: volumes of a killed create may be.
	return removed(len(st.Nodes), "node"), c.Delete(ctx, rep)
}

func (s *Session) removeContainers(ctx context.Context, _ event.Reporter) (steps.Result, error) {
	list, err := s.engine.Containers(ctx, s.own())
	if err != nil {
		return steps.Result{}, fmt.Errorf("list containers: %w", err)
	}
	var g errgroup.Group
	for _, c := range list {
		g.Go(func() error {
			if err := s.engine.RemoveContainer(ctx, c.ID); err != nil {
				return fmt.Errorf("remove container %s: %w", c.Name, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return steps.Result{}, err
	}
	volumes, err := s.engine.Volumes(ctx, s.own())
	if err != nil {
		return steps.Result{}, fmt.Errorf("list volumes: %w", err)
	}
	for _, v := range volumes {
		if err := s.engine.RemoveVolume(ctx, v.Name); err != nil && !errors.Is(err, runtime.ErrNotFound) {
			return steps.Result{}, fmt.Errorf("remove volume %s: %w", v.Name, err)
		}
	}
	return removed(len(list), "container"), nil
}

// removeImages removes the images that were built for this sandbox. Platform
// images carry no sandbox's name and stay.
func (s *Session) removeImages(ctx context.Context, _ event.Reporter) (steps.Result, error) {
	list, err := s.engine.Images(ctx, s.own())
	if err != nil {
		return steps.Result{}, fmt.Errorf("list images: %w", err)
	}
	for _, img := range list {
		refs := img.Names
		if len(refs) == 0 { // what a later build left without its name
			refs = []string{img.ID}
		}
		for _, ref := range refs {
			if err := s.engine.RemoveImage(ctx, ref); err != nil && !errors.Is(err, runtime.ErrNotFound) {
				return steps.Result{}, fmt.Errorf("remove image %s: %w", ref, err)
			}
		}
	}
	return removed(len(list), "image"), nil
}

func (s *Session) removeNetworks(ctx context.Context, _ event.Reporter) (steps.Result, error) {
	list, err := s.engine.Networks(ctx, s.own())
	if err != nil {
		return steps.Result{}, fmt.Errorf("list networks: %w", err)
	}
	for _, n := range list {
		if err := s.engine.RemoveNetwork(ctx, n.Name); err != nil && !errors.Is(err, runtime.ErrNotFound) {
			return steps.Result{}, fmt.Errorf("remove network %s: %w", n.Name, err)
		}
	}
	return removed(len(list), "network"), nil
}

func (s *Session) removeState(context.Context, event.Reporter) (steps.Result, error) {
	return steps.Result{}, s.dir.Remove()
}

func removed(n int, what string) steps.Result {
	switch n {
	case 0:
		return steps.Result{Done: true, Note: "there was none"}
	case 1:
		return steps.Result{Note: "1 " + what}
	default:
		return steps.Result{Note: fmt.Sprintf("%d %ss", n, what)}
	}
}
