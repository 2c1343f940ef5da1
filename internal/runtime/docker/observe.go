package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"
	"golang.org/x/sync/errgroup"

	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// sample is what a container had used at a moment.
type sample struct {
	cpu  uint64 // nanoseconds of CPU since its start
	when time.Time
}

// Stats returns one sample of the containers' resource use. CPU is the mean
// since this Runtime's previous sample of the container, and since the
// container's start at the first one.
func (r *Runtime) Stats(ctx context.Context, ids []string) ([]runtime.Stats, error) {
	taken := make([]*runtime.Stats, len(ids))
	group, ctx := errgroup.WithContext(ctx)
	for i, id := range ids {
		group.Go(func() error {
			s, err := r.stat(ctx, id)
			taken[i] = s
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("read the containers' resource use: %w", err)
	}
	var stats []runtime.Stats
	for _, s := range taken {
		if s != nil {
			stats = append(stats, *s)
		}
	}
	return stats, nil
}

// stat samples one container; nil where it does not run.
func (r *Runtime) stat(ctx context.Context, id string) (*runtime.Stats, error) {
	result, err := r.api.ContainerStats(ctx, id, client.ContainerStatsOptions{})
	if errdefs.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, apiError(ctx, err)
	}
	var s container.StatsResponse
	err = json.NewDecoder(result.Body).Decode(&s)
	if err := errors.Join(err, result.Body.Close()); err != nil {
		return nil, fmt.Errorf("read Docker's answer: %w", err)
	}
	if s.Read.Year() <= 1 {
		return nil, nil
	}
	c, err := r.Container(ctx, id) // newer daemons leave the name out
	if errors.Is(err, runtime.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	last, ok := r.samples[c.ID]
	r.mu.Unlock()
	if !ok {
		last.when = c.Started
	}
	now := sample{cpu: s.CPUStats.CPUUsage.TotalUsage, when: s.Read}
	out := &runtime.Stats{ID: c.ID, Name: c.Name, Memory: used(s.MemoryStats), Limit: int64(s.MemoryStats.Limit)}
	if elapsed := now.when.Sub(last.when); elapsed > 0 && now.cpu >= last.cpu {
		out.CPU = float64(now.cpu-last.cpu) / float64(elapsed)
	}
	r.mu.Lock()
	r.samples[c.ID] = now
	r.mu.Unlock()
	return out, nil
}

// used is the memory in use without what the kernel can take back at once, as
// Docker's own command counts.
func used(m container.MemoryStats) int64 {
	for _, key := range []string{"total_inactive_file", "inactive_file"} { // cgroup v1, v2
		if cache, ok := m.Stats[key]; ok && cache < m.Usage {
			return int64(m.Usage - cache)
		}
	}
	return int64(m.Usage)
}

// Events delivers what happens to the containers with the labels.
func (r *Runtime) Events(ctx context.Context, labels map[string]string) (<-chan runtime.Event, error) {
	// The moment is taken before the request, so that nothing is lost between.
	stream := r.api.Events(ctx, client.EventsListOptions{
		Since:   time.Now().Format(time.RFC3339Nano),
		Filters: labelFilter(labels).Add("type", string(events.ContainerEventType)),
	})
	select {
	case err := <-stream.Err:
		return nil, fmt.Errorf("listen to events: %w", apiError(ctx, err))
	default:
	}
	out := make(chan runtime.Event)
	go func() {
		defer close(out)
		for {
			select {
			case m := <-stream.Messages:
				select {
				case out <- event(m):
				case <-ctx.Done():
					return
				}
			case <-stream.Err: //nolint:errcheck // it only tells the end
				return // ctx has ended, or the engine has gone away
			}
		}
	}()
	return out, nil
}

// event is a message in the runtime's terms; labels are among its attributes.
func event(m events.Message) runtime.Event {
	action, _, _ := strings.Cut(string(m.Action), ": ") // "health_status: healthy"
	if action == string(events.ActionDestroy) {
		action = "remove"
	}
	e := runtime.Event{
		Time:   time.Unix(0, m.TimeNano),
		Action: action,
		ID:     m.Actor.ID,
		Name:   m.Actor.Attributes["name"],
		Labels: map[string]string{},
	}
	if code, err := strconv.Atoi(m.Actor.Attributes["exitCode"]); err == nil {
		e.ExitCode = code
	}
	for key, value := range m.Actor.Attributes {
		if key != "name" && key != "image" && key != "exitCode" {
			e.Labels[key] = value
		}
	}
	return e
}
