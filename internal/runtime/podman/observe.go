package podman

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// sample is what a container had used at a moment.
type sample struct {
	cpu  uint64 // nanoseconds of CPU since its start
	when uint64 // nanoseconds since the epoch
}

// Stats returns one sample of the containers' resource use. CPU is the mean
// since this Runtime's previous sample of the container, and since the
// container's start at the first one.
func (r *Runtime) Stats(ctx context.Context, ids []string) ([]runtime.Stats, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	var report struct {
		Error *string
		Stats []struct {
			ContainerID string
			Name        string
			CPU         float64 // percent of one core, since the start
			CPUNano     uint64
			SystemNano  uint64
			MemUsage    int64
			MemLimit    int64
		}
	}
	params := url.Values{"stream": {"false"}, "containers": ids}
	if err := r.get(ctx, "/containers/stats", params, &report); err != nil {
		return nil, fmt.Errorf("read the containers' resource use: %w", err)
	}
	stats := make([]runtime.Stats, 0, len(report.Stats))
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range report.Stats {
		now, cpu := sample{cpu: s.CPUNano, when: s.SystemNano}, s.CPU/100
		if last, ok := r.samples[s.ContainerID]; ok && now.when > last.when && now.cpu >= last.cpu {
			cpu = float64(now.cpu-last.cpu) / float64(now.when-last.when)
		}
		r.samples[s.ContainerID] = now
		stats = append(stats, runtime.Stats{ID: s.ContainerID, Name: s.Name, CPU: cpu, Memory: s.MemUsage, Limit: s.MemLimit})
	}
	return stats, nil
}

// Events delivers what happens to the containers with the labels.
func (r *Runtime) Events(ctx context.Context, labels map[string]string) (<-chan runtime.Event, error) {
	params, err := labelFilter(nil, map[string][]string{"type": {"container"}})
	if err != nil {
		return nil, err
	}
	params.Set("stream", "true")
	// Without a start the service sends its whole history first. The moment
	// is taken before the request, so that nothing is lost in between.
	params.Set("since", time.Now().Format(time.RFC3339Nano))
	body, err := r.open(ctx, request{method: http.MethodGet, path: "/events", params: params})
	if err != nil {
		return nil, fmt.Errorf("listen to events: %w", err)
	}
	events := make(chan runtime.Event)
	go func() {
		defer close(events)
		defer func() { _ = body.Close() }()
		answers := json.NewDecoder(body)
		for {
			var m eventMessage
			if err := answers.Decode(&m); err != nil {
				return // ctx has ended, or the engine has gone away
			}
			if !runtime.MatchLabels(m.Actor.Attributes, labels) {
				continue
			}
			select {
			case events <- m.event():
			case <-ctx.Done():
				return
			}
		}
	}()
	return events, nil
}

// eventMessage is an event as the API sends it; labels are among the actor's
// attributes.
type eventMessage struct {
	Action string `json:"Action"`
	Actor  struct {
		ID         string            `json:"ID"`
		Attributes map[string]string `json:"Attributes"`
	} `json:"Actor"`
	TimeNano int64 `json:"timeNano"`
}

func (m eventMessage) event() runtime.Event {
	e := runtime.Event{
		Time:   time.Unix(0, m.TimeNano),
		Action: m.Action,
		ID:     m.Actor.ID,
		Name:   m.Actor.Attributes["name"],
		Labels: map[string]string{},
	}
	if e.Action == "died" {
		e.Action = "die"
	}
	if code, err := strconv.Atoi(m.Actor.Attributes["containerExitCode"]); err == nil {
		e.ExitCode = code
	}
	for key, value := range m.Actor.Attributes {
		if key != "name" && key != "image" && key != "containerExitCode" {
			e.Labels[key] = value
		}
	}
	return e
}
