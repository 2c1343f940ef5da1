package event

import (
	"errors"
	"iter"
	"strings"
	"sync"
	"time"
)

// Payload is one of the facts an Envelope carries. The set is closed: only
// the types of this package are payloads.
type Payload interface {
	// fill puts a cleaned copy of the payload into e.
	fill(e *Envelope)
}

// Sink takes stamped envelopes, one at a time and in order. A sink that
// returns an error gets no further envelopes; Log.Close reports the error.
type Sink interface {
	Handle(Envelope) error
}

// SinkFunc is a function as a Sink.
type SinkFunc func(Envelope) error

// Handle calls f.
func (f SinkFunc) Handle(e Envelope) error { return f(e) }

// backlogLimit is how many envelopes may wait for one sink before progress
// and log lines give way. It bounds the memory a stuck terminal can cost.
const backlogLimit = 1024

// Log stamps what happens and hands it to every sink.
//
// Stamping happens under one lock within Emit, so the sequence is the order
// of cause and effect: once Emit returns, nothing emitted later can come
// before. Each sink has a goroutine of its own and so cannot slow the work or
// another sink down. Lifecycle events always arrive. For a sink that falls
// behind, an older progress of a step gives way to a newer one and the oldest
// log lines and samples are left out; a gap in Seq shows it.
type Log struct {
	run string
	now func() time.Time

	mu     sync.Mutex
	seq    uint64
	closed bool
	feeds  []*feed
}

// NewLog starts a log for the run. now is the clock; nil means time.Now.
// Close must be called to flush the sinks.
func NewLog(run string, now func() time.Time, sinks ...Sink) *Log {
	if now == nil {
		now = time.Now
	}
	l := &Log{run: run, now: now}
	for _, s := range sinks {
		f := newFeed(s)
		l.feeds = append(l.feeds, f)
		go f.deliver()
	}
	return l
}

// Emit stamps the payload and passes it on. It never waits for a sink and is
// safe for concurrent use. A log text of several lines becomes several events.
// After Close, Emit does nothing.
func (l *Log) Emit(p Payload) {
	switch line := p.(type) {
	case StepLog:
		for text := range lines(line.Line) {
			line.Line = text
			l.stamp(line)
		}
	case LogLine:
		for text := range lines(line.Line) {
			line.Line = text
			l.stamp(line)
		}
	default:
		l.stamp(p)
	}
}

// lines yields the lines of a text, and at least one.
func lines(text string) iter.Seq[string] {
	return strings.SplitSeq(strings.TrimRight(text, "\r\n"), "\n")
}

func (l *Log) stamp(p Payload) {
	var e Envelope
	p.fill(&e) // cleaning may be slow, so it stays outside of the lock

	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	l.seq++
	e.Schema, e.Run, e.Seq, e.Time = SchemaVersion, l.run, l.seq, l.now()
	for _, f := range l.feeds {
		f.add(e)
	}
}

// Close waits until every sink has taken what was emitted, and returns the
// errors with which sinks gave up.
func (l *Log) Close() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()

	var errs []error
	for _, f := range l.feeds {
		errs = append(errs, f.finish())
	}
	return errors.Join(errs...)
}

// feed is the queue in front of one sink.
type feed struct {
	sink Sink
	done chan struct{}
	err  error // set before done is closed

	mu      sync.Mutex
	more    *sync.Cond
	backlog []Envelope
	closed  bool
	dead    bool // the sink gave up
}

func newFeed(s Sink) *feed {
	f := &feed{sink: s, done: make(chan struct{})}
	f.more = sync.NewCond(&f.mu)
	return f
}

func (f *feed) add(e Envelope) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return
	}
	if len(f.backlog) >= backlogLimit {
		f.makeRoom(e)
	}
	f.backlog = append(f.backlog, e)
	f.more.Signal()
}

// makeRoom drops what e makes superfluous: the pending progress of the same
// step, or else the oldest log line or sample. Where neither is pending, the
// backlog grows: lifecycle events are few.
func (f *feed) makeRoom(e Envelope) {
	drop := -1
	for i, old := range f.backlog {
		if e.StepProgress != nil && old.StepProgress != nil && old.StepProgress.ID == e.StepProgress.ID {
			drop = i
			break
		}
		if drop < 0 && (old.StepLog != nil || old.LogLine != nil || old.ResourceSample != nil) {
			drop = i
		}
	}
	if drop >= 0 {
		f.backlog = append(f.backlog[:drop], f.backlog[drop+1:]...)
	}
}

func (f *feed) deliver() {
	defer close(f.done)
	for {
		batch, ok := f.take()
		if !ok {
			return
		}
		for _, e := range batch {
			if err := f.sink.Handle(e); err != nil {
				f.giveUp(err)
				return
			}
		}
	}
}

// take waits for envelopes; false means that the feed is closed and empty.
func (f *feed) take() ([]Envelope, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.backlog) == 0 && !f.closed {
		f.more.Wait()
	}
	batch := f.backlog
	f.backlog = nil
	return batch, len(batch) > 0
}

func (f *feed) giveUp(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err, f.dead, f.backlog = err, true, nil
}

func (f *feed) finish() error {
	f.mu.Lock()
	f.closed = true
	f.more.Signal()
	f.mu.Unlock()
	<-f.done
	return f.err
}
