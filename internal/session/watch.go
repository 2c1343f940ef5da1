package session

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// Watch turns the sandbox into events until ctx ends: first the recorded run,
// then what happens, as package live tells it. refresh, which may be nil, takes
// the paths of Terraform modules, such as "terraform/infra", to compare in full
// with the emulator.
func (s *Session) Watch(ctx context.Context, sink event.Sink, refresh <-chan string) error {
	recorded, err := s.lastRun(sink)
	if err != nil {
		return err
	}
	// What follows belongs to the same run, so it goes on counting where the
	// record ends: what has a number that was seen already counts as seen.
	log := event.NewLog(s.run, nil, event.SinkFunc(func(e event.Envelope) error {
		e.Seq += recorded
		return sink.Handle(e)
	}))
	s.live(ctx, log.Emit, refresh)
	return log.Close()
}

// lastRun hands over what was recorded of the last run, and returns the number
// of its last event.
func (s *Session) lastRun(sink event.Sink) (last uint64, err error) {
	f, err := os.Open(s.dir.Events())
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the recorded run: %w", err)
	}
	defer f.Close() // only read
	var run []event.Envelope
	for e, err := range event.Read(f) {
		if err != nil {
			continue // a torn line, as a killed run leaves it
		}
		if e.PlanReady != nil {
			run = run[:0]
		}
		run = append(run, e)
	}
	for _, e := range run {
		if err := sink.Handle(e); err != nil {
			return 0, err
		}
		last = e.Seq
	}
	return last, nil
}
