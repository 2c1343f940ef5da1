package fake

import (
	"context"
	"fmt"
	"io"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// line is one line of a container's log.
type line struct {
	when time.Time
	text string
}

// output collects what a container writes, as lines.
type output struct {
	mu      sync.Mutex
	lines   []line
	partial string
	closed  bool
	changed chan struct{} // closed and replaced at each change
}

func newOutput() *output { return &output{changed: make(chan struct{})} }

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.partial += string(p)
	for {
		text, rest, found := strings.Cut(o.partial, "\n")
		if !found {
			break
		}
		o.lines, o.partial = append(o.lines, line{time.Now(), text}), rest
	}
	o.notify()
	return len(p), nil
}

func (o *output) open()  { o.set(false) }
func (o *output) close() { o.set(true) }

func (o *output) set(closed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = closed
	o.notify()
}

// notify wakes those who follow; mu is held.
func (o *output) notify() {
	close(o.changed)
	o.changed = make(chan struct{})
}

// from returns the lines from index n on, whether the output has ended, and a
// channel that is closed when that changes.
func (o *output) from(n int) ([]line, bool, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.lines[n:], o.closed, o.changed
}

// Logs writes the container's output.
func (r *Runtime) Logs(ctx context.Context, id string, opt runtime.LogOptions, w io.Writer) error {
	if err := r.enter(ctx, "Logs", id); err != nil {
		return err
	}
	c, err := r.lookUp(id)
	if err != nil {
		return err
	}
	lines, _, _ := c.log.from(0)
	next := 0
	switch {
	case opt.Tail > 0:
		next = max(0, len(lines)-opt.Tail)
	case opt.Tail < 0:
		next = len(lines)
	}
	for {
		lines, closed, changed := c.log.from(next)
		next += len(lines)
		for _, l := range lines {
			if l.when.Before(opt.Since) {
				continue
			}
			if opt.Timestamps {
				l.text = l.when.Format(time.RFC3339Nano) + " " + l.text
			}
			if _, err := fmt.Fprintln(w, l.text); err != nil {
				return fmt.Errorf("write the log: %w", err)
			}
		}
		if !opt.Follow || closed {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// listener receives the events of the containers with the labels. Its queue has
// no bound, so that a slow reader blocks nobody.
type listener struct {
	labels map[string]string
	queue  []runtime.Event
	wake   chan struct{} // holds one token while the queue is not empty
}

// Events delivers what happens to the containers with the labels.
func (r *Runtime) Events(ctx context.Context, labels map[string]string) (<-chan runtime.Event, error) {
	if err := r.enter(ctx, "Events", ""); err != nil {
		return nil, err
	}
	l := &listener{labels: maps.Clone(labels), wake: make(chan struct{}, 1)}
	r.mu.Lock()
	if r.listeners == nil {
		r.listeners = map[*listener]struct{}{}
	}
	r.listeners[l] = struct{}{}
	r.mu.Unlock()
	events := make(chan runtime.Event)
	go func() {
		defer close(events)
		defer func() {
			r.mu.Lock()
			delete(r.listeners, l)
			r.mu.Unlock()
		}()
		for {
			select {
			case <-l.wake:
			case <-ctx.Done():
				return
			}
			r.mu.Lock()
			queue := l.queue
			l.queue = nil
			r.mu.Unlock()
			for _, e := range queue {
				select {
				case events <- e:
				case <-ctx.Done():
					return
				}
			}
		}
	}()
	return events, nil
}

// emit tells the listeners what has happened to the container; mu is held.
func (r *Runtime) emit(action string, c *container) {
	e := runtime.Event{
		Time: time.Now(), Action: action, ID: c.state.ID, Name: c.state.Name,
		Labels: maps.Clone(c.state.Labels), ExitCode: c.state.ExitCode,
	}
	for l := range r.listeners {
		if !runtime.MatchLabels(e.Labels, l.labels) {
			continue
		}
		l.queue = append(l.queue, e)
		select {
		case l.wake <- struct{}{}:
		default: // it has been woken already
		}
	}
}
