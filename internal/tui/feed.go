package tui

import (
	"context"
	"sync"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// frameTime is the least time between two snapshots: ten redraws a second.
const frameTime = 100 * time.Millisecond

// Feed is what a dashboard shows: an event.Sink that reduces what it takes to
// a View, and hands out the latest state to whoever asks. Handle never waits,
// however far a terminal is behind. A Feed may take events before, during and
// after a dashboard shows it; several dashboards, one after the other or at
// once, can show the same Feed.
type Feed struct {
	mu      sync.Mutex
	view    event.View
	version uint64
	ended   bool
	changed chan struct{} // closed at the next change; nil while nobody waits
}

// NewFeed returns an empty Feed.
func NewFeed() *Feed { return &Feed{} }

// Handle takes in one envelope. It never fails.
func (f *Feed) Handle(e event.Envelope) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.view.Apply(e)
	f.change()
	return nil
}

// Close says that no more events will come: the header says so, and what is
// known stays on the screen.
func (f *Feed) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	f.change()
	return nil
}

func (f *Feed) change() {
	f.version++
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

// Now is the time of the last event, for those who replay a recording: given
// as Options.Now it makes ages those of the run.
func (f *Feed) Now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.view.Now
}

// snapshot is the state of a Feed at one moment.
type snapshot struct {
	view    event.View
	version uint64
	ended   bool
}

func (f *Feed) latest() snapshot {
	f.mu.Lock()
	defer f.mu.Unlock()
	return snapshot{view: f.view.Snapshot(), version: f.version, ended: f.ended}
}

// next waits until the state is newer than the version seen, and not before
// the time given; then it returns the latest state. It returns false when ctx
// has ended.
func (f *Feed) next(ctx context.Context, seen uint64, notBefore time.Time) (snapshot, bool) {
	for {
		f.mu.Lock()
		newer := f.version != seen
		if !newer && f.changed == nil {
			f.changed = make(chan struct{})
		}
		changed := f.changed
		f.mu.Unlock()
		if newer {
			break
		}
		select {
		case <-ctx.Done():
			return snapshot{}, false
		case <-changed:
		}
	}
	if wait := time.Until(notBefore); wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return snapshot{}, false
		case <-timer.C:
		}
	}
	return f.latest(), true
}
