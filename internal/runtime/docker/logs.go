package docker

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"

	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// Logs writes the container's output to w, both streams merged.
func (r *Runtime) Logs(ctx context.Context, id string, opt runtime.LogOptions, w io.Writer) error {
	if err := r.logs(ctx, id, opt, w); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("read the log of container %s: %w", id, err)
	}
	return ctx.Err()
}

func (r *Runtime) logs(ctx context.Context, id string, opt runtime.LogOptions, w io.Writer) error {
	c, err := r.api.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil {
		return apiError(ctx, err)
	}
	// A terminal has one stream, which is sent as it is. kind's nodes have one.
	terminal := c.Container.Config != nil && c.Container.Config.Tty
	options := client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Follow: opt.Follow, Timestamps: opt.Timestamps}
	switch {
	case opt.Tail > 0:
		options.Tail = fmt.Sprint(opt.Tail)
	case opt.Tail < 0:
		options.Tail = "0"
	}
	if !opt.Since.IsZero() {
		options.Since = opt.Since.Format(time.RFC3339Nano)
	}
	if !opt.Follow || terminal {
		return r.copyLog(ctx, id, options, terminal, w)
	}
	// Before 23, Docker may end this without the last lines of a container that
	// ended just then. They are asked for once more, from the last one seen.
	options.Timestamps = true
	s := &stamped{w: w, keep: opt.Timestamps}
	if err := r.copyLog(ctx, id, options, false, s); err != nil || ctx.Err() != nil {
		return err
	}
	options.Follow = false
	if s.last != "" {
		s.seen, options.Since, options.Tail = s.last, s.last, ""
	}
	return r.copyLog(ctx, id, options, false, s)
}

// copyLog writes the log that the options select.
func (r *Runtime) copyLog(ctx context.Context, id string, options client.ContainerLogsOptions, terminal bool, w io.Writer) error {
	body, err := r.api.ContainerLogs(ctx, id, options)
	if err != nil {
		return apiError(ctx, err)
	}
	defer func() { _ = body.Close() }()
	if terminal {
		_, err = io.Copy(w, body)
	} else {
		_, err = stdcopy.StdCopy(w, w, body)
	}
	return err
}

// stamped takes messages that begin with their time, one with each Write. It
// passes over those up to seen.
type stamped struct {
	w          io.Writer
	keep       bool // the time stays
	seen, last string
}

func (s *stamped) Write(p []byte) (int, error) {
	at, text, ok := bytes.Cut(p, []byte(" "))
	if !ok {
		return s.w.Write(p)
	}
	if string(at) <= s.seen { // the format is fixed, and so ordered
		return len(p), nil
	}
	s.last = string(at)
	if s.keep {
		text = p
	}
	if _, err := s.w.Write(text); err != nil {
		return 0, err
	}
	return len(p), nil
}
