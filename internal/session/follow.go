package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/state"
)

const (
	// followInterval is the time between looks for more of a record.
	followInterval = 500 * time.Millisecond
	// recordChunk is how much of a record is read at once, in bytes.
	recordChunk = 64 << 10
)

// record is an event file that is read while somebody writes it.
type record struct {
	file *os.File
	rest []byte // of a line that is not whole yet
	buf  []byte
}

// follow passes on the last recorded run of the sandbox, and what is recorded
// after it, until ctx ends or the sandbox is removed, which is an error. idle is called when no run
// is under way, and again after each run.
func follow(ctx context.Context, dir *state.Dir, emit func(event.Envelope) error, idle func()) error {
	var rec record
	defer func() {
		if rec.file != nil {
			_ = rec.file.Close() // only read
		}
	}()
	tick := time.NewTicker(followInterval)
	defer tick.Stop()
	running, told := false, false
	for first := true; ; first = false {
		list, err := rec.more(dir.Events())
		if errors.Is(err, errRemoved) {
			return fault.New(fault.Unavailable, "sandbox "+dir.Name()+" was removed", "by another command", "sandbox up")
		}
		if err != nil {
			return err
		}
		if first {
			list = lastRun(list)
		}
		for _, e := range list {
			told = told && e.PlanReady == nil
			running = e.RunFinished == nil && (running || e.PlanReady != nil)
			if err := emit(e); err != nil {
				return err
			}
		}
		if len(list) == 0 && running {
			// A run that was killed does not say that it has ended.
			_, held, err := dir.Holder()
			if err != nil {
				return err
			}
			running = held
		}
		if !running && !told {
			told = true
			idle()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// errRemoved says that a record is there no more.
var errRemoved = errors.New("the sandbox was removed")

// more reads what was written since the last call.
func (r *record) more(path string) ([]event.Envelope, error) {
	if r.file == nil {
		f, err := os.Open(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil // nothing was recorded yet
		}
		if err != nil {
			return nil, fmt.Errorf("read the recorded run: %w", err)
		}
		r.file = f
	}
	if r.buf == nil {
		r.buf = make([]byte, recordChunk)
	}
	var all []event.Envelope
	for {
		n, err := r.file.Read(r.buf)
		r.rest = append(r.rest, r.buf[:n]...)
		whole := bytes.LastIndexByte(r.rest, '\n') + 1
		for e, err := range event.Read(bytes.NewReader(r.rest[:whole])) {
			if err != nil {
				continue // a torn line, as a killed run leaves it
			}
			all = append(all, e)
		}
		r.rest = append(r.rest[:0], r.rest[whole:]...)
		if errors.Is(err, io.EOF) {
			if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
				return all, errRemoved
			}
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the recorded run: %w", err)
		}
	}
}

// lastRun drops what was recorded before the last run.
func lastRun(list []event.Envelope) []event.Envelope {
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].PlanReady != nil {
			return list[i:]
		}
	}
	return list
}
