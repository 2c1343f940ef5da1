package aws

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

const (
	// readyInterval is the pause between two looks while the emulator starts.
	readyInterval = 200 * time.Millisecond
	// reportInterval is how often the wait says that it still waits.
	reportInterval = 3 * time.Second
	// logLines is how much of the emulator's log goes into a fault.
	logLines = 20
	// killed is the exit code after SIGKILL. Engines on cgroup v1 do not tell
	// whether that was for want of memory.
	killed = 137
)

// waitReady waits until the emulator and all services of the Config answer.
// What the emulator logs meanwhile is passed on.
func (e *Emulator) waitReady(ctx context.Context, rep event.Reporter) error {
	c, err := e.running(ctx)
	if err != nil {
		return e.startFault(ctx, c, err)
	}
	url, err := endpoint(c)
	if err != nil {
		return err
	}
	// An emulator that has been up answers at once; only one that is starting
	// is worth listening to.
	if r, err := ask(ctx, url); err == nil && len(e.notReady(r)) == 0 {
		return nil
	}
	wait, cancel := context.WithTimeout(ctx, e.cfg.ReadyTimeout)
	defer cancel()
	defer e.follow(wait, c, rep)()

	began, reported := time.Now(), time.Time{}
	_, err = backoff.Retry(wait, func() (struct{}, error) {
		var blockers []string
		r, err := ask(wait, url)
		if err == nil {
			if blockers = e.notReady(r); len(blockers) == 0 {
				return struct{}{}, nil
			}
			err = errors.New(strings.Join(blockers, "; "))
		} else {
			blockers = []string{"aws: does not answer yet"}
		}
		if time.Since(reported) >= reportInterval {
			reported = time.Now()
			rep.Progress(event.Progress{
				Text:     fmt.Sprintf("waiting for the AWS emulator (%s)", time.Since(began).Round(time.Second)),
				Blockers: blockers,
			})
		}
		if _, dead := e.running(wait); dead != nil && wait.Err() == nil {
			return struct{}{}, backoff.Permanent(dead)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(backoff.NewConstantBackOff(readyInterval)), backoff.WithMaxElapsedTime(0))
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case wait.Err() != nil:
		err = fmt.Errorf("not ready after %s: %w", e.cfg.ReadyTimeout, err)
	}
	return e.startFault(ctx, c, err)
}

// notReady names the wanted services that the report does not call ready.
func (e *Emulator) notReady(r *report) []string {
	var out []string
	for _, s := range e.cfg.Services {
		if h := serviceHealth(s, r); h.State != event.StateOK {
			out = append(out, h.Component+": "+h.Reason)
		}
	}
	return out
}

// startFault is the error of an emulator that did not come up, with the end of
// its log.
func (e *Emulator) startFault(ctx context.Context, c runtime.Container, cause error) error {
	f := fault.Wrap(fault.Failed, cause, "sandbox logs aws", "the AWS emulator did not start")
	var inner *fault.Error
	if errors.As(cause, &inner) {
		f.Why = inner.Reason()
	}
	if c.ID == "" {
		return f
	}
	var out bytes.Buffer
	if err := e.rt.Logs(ctx, c.ID, runtime.LogOptions{Tail: logLines}, &out); err != nil {
		f.Log = []string{"its log could not be read: " + err.Error()}
		return f
	}
	for line := range strings.SplitSeq(strings.TrimSpace(out.String()), "\n") {
		f.Log = append(f.Log, line)
	}
	return f
}

// follow passes what the container logs on to rep until the returned function
// is called. A log that cannot be followed is reported as a line of its own.
func (e *Emulator) follow(ctx context.Context, c runtime.Container, rep event.Reporter) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	gone := make(chan struct{}, 2)
	go func() {
		err := e.rt.Logs(ctx, c.ID, runtime.LogOptions{Follow: true, Since: c.Started}, w)
		if err != nil && ctx.Err() == nil {
			rep.Log("sandbox", "the AWS emulator's log cannot be followed: "+err.Error())
		}
		_ = w.Close() // a pipe's writer always closes
		gone <- struct{}{}
	}()
	go func() {
		lines := bufio.NewScanner(r)
		for lines.Scan() {
			rep.Log("localstack", lines.Text())
		}
		_ = r.CloseWithError(lines.Err()) // ends the writer where a line was too long
		gone <- struct{}{}
	}()
	return func() { cancel(); <-gone; <-gone }
}

// exitReason says how a container that does not run came to be so.
func exitReason(c runtime.Container) string {
	switch {
	case c.OOM:
		return "it ran out of memory"
	case c.State == "exited" && c.ExitCode == killed:
		return "it was killed, perhaps for want of memory"
	case c.State == "exited":
		return fmt.Sprintf("it exited with code %d", c.ExitCode)
	}
	return "its container is " + c.State
}
