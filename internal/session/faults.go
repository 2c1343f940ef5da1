package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/inject"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/state"
	"github.com/sandbox-stack/sandbox/internal/steps"
)

// faultsFile holds the faults that are injected and not undone, so that another
// process can undo them.
const faultsFile = "faults.json"

// drillComponent leads the component labels of what lives for a drill only.
const drillComponent = "drill/"

// Faults returns the faults that are injected and not undone, oldest first.
func (s *Session) Faults() ([]inject.Record, error) {
	var list []inject.Record
	err := readJSON(filepath.Join(s.dir.Path(), faultsFile), &list)
	return list, err
}

// readJSON reads a file of the state directory into v, which one that is missing
// leaves as it is.
func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the record of drills: %w", err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fault.Wrap(fault.Failed, err, "sandbox down, then sandbox up", "the record %s is damaged", path)
	}
	return nil
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the record of drills: %w", err)
	}
	return state.WriteFile(path, append(data, '\n'))
}

// keepFault records a fault. One that touches what another one touches already is
// refused.
func (s *Session) keepFault(rec inject.Record) error {
	s.faulting.Lock()
	defer s.faulting.Unlock()
	list, err := s.Faults()
	if err != nil {
		return err
	}
	for _, other := range list {
		for _, target := range rec.Targets {
			if slices.Contains(other.Targets, target) {
				return fault.New(fault.Conflict, fmt.Sprintf("two faults on one target: %s", target),
					fmt.Sprintf("drill %s has injected %q there", other.Alert, other.What), "sandbox alerts drill --undo")
			}
		}
	}
	return writeJSON(filepath.Join(s.dir.Path(), faultsFile), append(list, rec))
}

func (s *Session) forgetFault(rec inject.Record) error {
	s.faulting.Lock()
	defer s.faulting.Unlock()
	list, err := s.Faults()
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(r inject.Record) bool { return r.ID == rec.ID })
	path := filepath.Join(s.dir.Path(), faultsFile)
	if len(list) == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget a fault: %w", err)
		}
		return nil
	}
	return writeJSON(path, list)
}

// UndoFaults undoes the faults that drills have left, the last one first, and
// removes what lived for a drill only. It returns what it has undone. With forget,
// which may be nil, what can't be undone is forgotten once forget was told why,
// unless ctx has ended: then nobody knows whether it can.
func (s *Session) UndoFaults(ctx context.Context, forget func(left []inject.Record, why error)) (undone []inject.Record, err error) {
	err = s.locked(ctx, "sandbox alerts drill --undo", func() error {
		undone, err = s.undo(ctx, func(inject.Record) bool { return true }, s.world())
		if err != nil && forget != nil && ctx.Err() == nil {
			left, readErr := s.Faults()
			if readErr != nil {
				return errors.Join(err, readErr)
			}
			forget(left, err)
			err = nil
			for _, rec := range left {
				err = errors.Join(err, s.forgetFault(rec))
			}
		}
		return errors.Join(err, s.interrupted(), s.endDrills(ctx))
	})
	return undone, err
}

// undo undoes the faults that match. What can't be undone stays recorded.
func (s *Session) undo(ctx context.Context, match func(inject.Record) bool, w inject.World) (undone []inject.Record, err error) {
	list, err := s.Faults()
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, rec := range slices.Backward(list) {
		if !match(rec) {
			continue
		}
		if err := s.undoFault(ctx, rec, w); err != nil {
			errs = append(errs, fault.Wrap(fault.Failed, err, "sandbox up, then sandbox alerts drill --undo; with --force it is forgotten",
				"the fault %q of drill %s is not undone", rec.What, rec.Alert))
			continue
		}
		undone = append(undone, rec)
	}
	return undone, errors.Join(errs...)
}

// undoFault undoes a fault and forgets it. One in something that the sandbox has no
// more is undone; any other error leaves it recorded, also one of the user's files.
func (s *Session) undoFault(ctx context.Context, rec inject.Record, w inject.World) error {
	if err := inject.Undo(ctx, rec, w); err != nil && !errors.Is(err, inject.ErrGone) {
		return err
	}
	return s.forgetFault(rec)
}

// interrupted notes that the drills which are recorded as running do not: their
// process has died, as the lock shows that the caller holds.
func (s *Session) interrupted() error {
	last, err := s.recordedDrills()
	if err != nil {
		return err
	}
	for _, d := range last {
		if d.State != event.DrillRunning {
			continue
		}
		if err := s.recordDrill(s.died(d)); err != nil {
			return err
		}
	}
	return nil
}

// proxyComponent leads the component labels of proxies.
const proxyComponent = drillComponent + "drill-proxy"

// removeDrillContainers removes what runs for a drill only, and says how much.
// Proxies stay while a fault is recorded that may lead to them.
func (s *Session) removeDrillContainers(ctx context.Context) (int, error) {
	faults, err := s.Faults()
	if err != nil {
		return 0, err
	}
	led := slices.ContainsFunc(faults, func(r inject.Record) bool { return r.Level == inject.LevelCluster })
	list, err := s.engine.Containers(ctx, s.own())
	if err != nil {
		return 0, fmt.Errorf("list the containers of drills: %w", err)
	}
	n := 0
	for _, c := range list {
		component := c.Labels[runtime.LabelComponent]
		if !strings.HasPrefix(component, drillComponent) || (led && strings.HasPrefix(component, proxyComponent)) {
			continue
		}
		if err := s.engine.RemoveContainer(ctx, c.ID); err != nil {
			return n, fmt.Errorf("remove container %s: %w", c.Name, err)
		}
		n++
	}
	return n, nil
}

// undoSteps puts before the steps of up those that undo what drills have left
// behind: each as soon as what it takes is there, and before what it would
// disturb. Without anything left the steps are as they were.
func (s *Session) undoSteps(ctx context.Context, list []steps.Step) ([]steps.Step, error) {
	faults, err := s.Faults()
	if err != nil {
		return nil, err
	}
	containers, err := s.engine.Containers(ctx, s.own())
	if err != nil {
		return nil, fmt.Errorf("look for what drills have left: %w", err)
	}
	ofDrill := func(c runtime.Container) bool {
		return strings.HasPrefix(c.Labels[runtime.LabelComponent], drillComponent)
	}
	if len(faults) == 0 && !slices.ContainsFunc(containers, ofDrill) {
		return list, nil
	}
	first := steps.Step{ID: "undo", Title: "undo drills", Apply: s.undoStep(inject.LevelEngine)}
	for i := range list {
		if len(list[i].After) == 0 {
			list[i].After = []string{first.ID}
		}
	}
	list = append([]steps.Step{first}, list...)
	at := func(level inject.Level) bool {
		return slices.ContainsFunc(faults, func(r inject.Record) bool { return r.Level == level })
	}
	if at(inject.LevelCluster) {
		list = before(list, steps.Step{ID: "undo/cluster", Title: "undo drills in the cluster", Apply: s.undoStep(inject.LevelCluster)},
			[]string{"cluster", "aws/binding"}, "prune")
	}
	if at(inject.LevelStack) {
		var all []string
		for _, step := range list {
			if step.ID != "health" {
				all = append(all, step.ID)
			}
		}
		list = before(list, steps.Step{ID: "undo/stack", Title: "undo drills in the stack", Apply: s.undoStep(inject.LevelStack)}, all, "health")
	}
	return list, nil
}

// before puts a step after those of the list that are named, and before another.
func before(list []steps.Step, step steps.Step, after []string, next string) []steps.Step {
	for _, id := range after {
		if slices.ContainsFunc(list, func(s steps.Step) bool { return s.ID == id }) {
			step.After = append(step.After, id)
		}
	}
	i := slices.IndexFunc(list, func(s steps.Step) bool { return s.ID == next })
	if i < 0 {
		return append(list, step)
	}
	list[i].After = append(slices.Clone(list[i].After), step.ID)
	return slices.Insert(list, i, step)
}

// undoStep undoes the faults of a level, and removes the containers of drills that
// nothing leads to any more.
func (s *Session) undoStep(level inject.Level) func(context.Context, event.Reporter) (steps.Result, error) {
	return func(ctx context.Context, rep event.Reporter) (steps.Result, error) {
		w := s.world()
		// What was lost with a stopped container, the steps after this one bring back.
		w.Revive = func(context.Context, string) error { return nil }
		if level == inject.LevelEngine { // before the step that leads pods to the emulator
			w.LeadEmulator = nil
		}
		undone, err := s.undo(ctx, func(r inject.Record) bool { return r.Level == level }, w)
		var notes []string
		for _, rec := range undone {
			rep.Log("sandbox", "undone: "+rec.What)
			notes = append(notes, "undone: "+rec.What)
		}
		if err != nil {
			return steps.Result{}, err
		}
		n, err := s.removeDrillContainers(ctx)
		if err != nil {
			return steps.Result{}, err
		}
		if n > 0 {
			notes = append(notes, removed(n, "container").Note+" removed")
		}
		if err := s.interrupted(); err != nil {
			return steps.Result{}, err
		}
		return steps.Result{Done: len(notes) == 0, Note: strings.Join(notes, ", ")}, nil
	}
}
