package session

import (
	"context"
	"testing"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// What is watched live must go on where the recorded run ends: a reducer takes
// what has an earlier number for something it has seen.
func TestWatchGoesOnWhereTheRecordEnds(t *testing.T) {
	useEngine(t)
	s, err := Start(t.Context(), wanted(t, "demo"), Options{AutoPorts: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	file, err := event.OpenFile(s.dir.Events())
	if err != nil {
		t.Fatal(err)
	}
	record := event.NewLog(s.run, nil, file)
	record.Emit(event.PlanReady{Stack: "demo", Command: "up"})
	for range 500 {
		record.Emit(event.StepLog{ID: "cluster", Line: "x"})
	}
	record.Emit(event.RunFinished{OK: true})
	if err := record.Close(); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var view event.View
	seen := event.SinkFunc(func(e event.Envelope) error {
		view.Apply(e)
		if _, known := view.Health["cluster"]; known {
			cancel() // the first look has arrived
		}
		return nil
	})
	if err := s.Watch(ctx, seen, nil); err != nil {
		t.Fatal(err)
	}
	if h, known := view.Health["cluster"]; !known || h.State != event.StateFailed {
		t.Errorf("health of the cluster: %+v", view.Health)
	}
	if view.Run != s.run || view.Missed != 0 {
		t.Errorf("run %q, %d events missed", view.Run, view.Missed)
	}
}
