package session

import (
	"context"
	"errors"
	"sync"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// Watch turns the sandbox into events until ctx ends or it is removed: its recorded run, and
// those that other commands record meanwhile; and, once the first of them is
// not under way any more, what happens in it, as package live tells it. refresh,
// which may be nil, takes the paths of Terraform modules, such as
// "terraform/infra", to compare in full with the emulator; "" stands for all,
// and makes every other source look again too.
func (s *Session) Watch(ctx context.Context, sink event.Sink, refresh <-chan string) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	out := &joined{sink: sink, run: s.run}
	idle := make(chan struct{})
	var parts sync.WaitGroup
	var recordErr, liveErr error
	parts.Go(func() {
		defer stop()
		recordErr = follow(ctx, s.dir, out.recorded, sync.OnceFunc(func() { close(idle) }))
	})
	parts.Go(func() {
		select {
		case <-ctx.Done():
			return
		case <-idle:
		}
		log := event.NewLog(s.run, nil, event.SinkFunc(out.live))
		s.live(ctx, log.Emit, refresh)
		liveErr = log.Close()
	})
	parts.Wait()
	return errors.Join(recordErr, liveErr)
}

// joined makes one stream of recorded runs and what happens beside them: a
// reader takes what has an earlier number for something it has seen.
type joined struct {
	mu   sync.Mutex
	sink event.Sink
	run  string
	seq  uint64
}

// recorded passes on an envelope of a record.
func (j *joined) recorded(e event.Envelope) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if e.Run != j.run {
		j.run, j.seq = e.Run, 0
	}
	return j.pass(e)
}

// live passes on an envelope that belongs to whatever run was recorded last.
func (j *joined) live(e event.Envelope) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.pass(e)
}

func (j *joined) pass(e event.Envelope) error {
	j.seq++
	e.Run, e.Seq = j.run, j.seq
	return j.sink.Handle(e)
}
