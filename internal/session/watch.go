package session

import (
	"context"
	"sync"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// Watch turns the sandbox into events until ctx ends, or fails as it is removed: its
// recorded run, and those that other commands record meanwhile; and, while the
// first of them is not under way any more, what happens in it, as package live
// tells it. refresh, which may be nil, takes the paths of Terraform modules, such
// as "terraform/infra", to compare in full with the emulator; "" stands for all,
// and makes every other source look again too.
func (s *Session) Watch(ctx context.Context, sink event.Sink, refresh <-chan string) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	out := &joined{sink: sink, run: s.run}
	idle := make(chan struct{}, 1)
	var parts sync.WaitGroup
	var recordErr, liveErr error
	parts.Go(func() {
		defer stop()
		recordErr = follow(ctx, s.dir, out.recorded, func() {
			select {
			case idle <- struct{}{}:
			default: // it is known already
			}
		})
	})
	parts.Go(func() {
		defer stop()
		liveErr = s.watchLive(ctx, out, refresh, idle)
	})
	parts.Wait()
	if recordErr != nil {
		return recordErr // what is live fails for the same reason
	}
	return liveErr
}

// watchLive watches what happens from the first time that no run is under way.
// It begins anew after each run, which may have changed what there is to watch.
func (s *Session) watchLive(ctx context.Context, out *joined, refresh <-chan string, idle <-chan struct{}) error {
	select {
	case <-ctx.Done():
		return nil
	case <-idle:
	}
	if err := s.Connect(ctx); err != nil {
		return err
	}
	for ctx.Err() == nil {
		now, err := s.Reread()
		if err != nil {
			return err
		}
		watching, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() {
			log := event.NewLog(now.run, nil, event.SinkFunc(out.live))
			now.live(watching, log.Emit, refresh)
			ended <- log.Close()
		}()
		select {
		case <-ctx.Done():
		case <-idle:
		}
		stop()
		if err := <-ended; err != nil {
			return err
		}
	}
	return nil
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
