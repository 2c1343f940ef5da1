package podman

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// Logs writes the container's output to w, both streams merged.
func (r *Runtime) Logs(ctx context.Context, id string, opt runtime.LogOptions, w io.Writer) error {
	params := url.Values{"stdout": {"true"}, "stderr": {"true"}}
	if opt.Follow {
		params.Set("follow", "true")
	}
	switch {
	case opt.Tail > 0:
		params.Set("tail", strconv.Itoa(opt.Tail))
	case opt.Tail < 0:
		params.Set("tail", "0")
	}
	if !opt.Since.IsZero() {
		params.Set("since", opt.Since.Format(time.RFC3339Nano))
	}
	if opt.Timestamps {
		params.Set("timestamps", "true")
	}
	body, err := r.open(ctx, request{method: http.MethodGet, path: "/containers/%s/logs", params: params, args: []string{id}})
	if err != nil {
		return fmt.Errorf("read the log of container %s: %w", id, err)
	}
	defer func() { _ = body.Close() }()
	if err := demux(body, w, w); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("read the log of container %s: %w", id, err)
	}
	return nil
}
