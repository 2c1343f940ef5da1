package aws

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// engine is an engine that holds one container at most. Methods that it lacks
// panic, so a test notices an unexpected call.
type engine struct {
	runtime.Runtime
	imageID string
	port    int // on which the container's service answers
	c       *runtime.Container
	logs    string
	dies    bool // whether a started container ends at once
	lost    bool // whether the engine has lost track of the container
	calls   []string
}

func (e *engine) Image(context.Context, string) (runtime.Image, error) {
	return runtime.Image{ID: e.imageID}, nil
}

func (e *engine) Container(_ context.Context, name string) (runtime.Container, error) {
	if e.c == nil || (e.c.Name != name && e.c.ID != name) {
		return runtime.Container{}, fmt.Errorf("container %s: %w", name, runtime.ErrNotFound)
	}
	return *e.c, nil
}

func (e *engine) CreateContainer(_ context.Context, spec runtime.ContainerSpec) (runtime.Container, error) {
	e.calls = append(e.calls, "create")
	e.c = &runtime.Container{
		ID: "id" + strconv.Itoa(len(e.calls)), Name: spec.Name, Labels: spec.Labels, State: "created",
		IPs:   map[string]string{spec.Network: "10.89.0.5"},
		Ports: []runtime.Port{{HostIP: "127.0.0.1", HostPort: e.port, Container: listenPort}},
	}
	return *e.c, nil
}

func (e *engine) StartContainer(context.Context, string) error {
	e.calls = append(e.calls, "start")
	if e.lost {
		return fmt.Errorf("start %s: %w", e.c.Name, runtime.ErrLost)
	}
	e.c.State, e.c.Started = "running", time.Now()
	if e.dies {
		e.c.State, e.c.ExitCode = "exited", 3
	}
	return nil
}

func (e *engine) RemoveContainer(context.Context, string) error {
	e.calls = append(e.calls, "remove")
	e.c, e.lost = nil, false
	return nil
}

func (e *engine) Logs(_ context.Context, _ string, _ runtime.LogOptions, w io.Writer) error {
	_, err := io.WriteString(w, e.logs)
	return err
}

// serve answers as LocalStack does, and returns the port.
func serve(t *testing.T, services string) int {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != healthPath {
			t.Errorf("asked for %s", r.URL.Path)
		}
		fmt.Fprintf(w, `{"services":{%s},"edition":"community","version":"4.14.0"}`, services)
	}))
	t.Cleanup(srv.Close)
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func newEmulator(t *testing.T, rt runtime.Runtime, change func(*Config)) *Emulator {
	t.Helper()
	cfg := Config{Name: "web", Image: "localstack", Services: []string{"sqs", "s3", "s3"}}
	if change != nil {
		change(&cfg)
	}
	e, err := New(rt, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestEnsure(t *testing.T) {
	port := serve(t, `"s3":"running","sqs":"available","lambda":"error"`)
	rt := &engine{imageID: "sha256:1", port: port}
	ensure := func(e *Emulator, wantChanged bool, wantCalls ...string) {
		t.Helper()
		rt.calls = nil
		changed, err := e.Ensure(t.Context(), event.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if changed != wantChanged || !slices.Equal(rt.calls, wantCalls) {
			t.Errorf("changed %v by %v, want %v by %v", changed, rt.calls, wantChanged, wantCalls)
		}
	}
	e := newEmulator(t, rt, nil)
	ensure(e, true, "create", "start")
	ensure(e, false)
	ensure(newEmulator(t, rt, func(c *Config) { c.Labels = map[string]string{runtime.LabelRun: "2"} }), false)
	rt.c.State = "exited"
	ensure(e, true, "start")
	rt.c.State = "paused"
	ensure(e, true, "start")
	rt.c.State, rt.lost = "exited", true
	ensure(e, true, "start", "remove", "create", "start")
	ensure(newEmulator(t, rt, func(c *Config) { c.Memory = 1 << 30 }), true, "remove", "create", "start")
	rt.imageID = "sha256:2"
	ensure(newEmulator(t, rt, func(c *Config) { c.Memory = 1 << 30 }), true, "remove", "create", "start")

	url, err := e.Endpoint(t.Context())
	if err != nil || url != fmt.Sprintf("http://127.0.0.1:%d", port) {
		t.Errorf("endpoint %q, %v", url, err)
	}
	b, err := e.Binding(t.Context(), []string{"production"})
	if err != nil || b.Address != "10.89.0.5" || b.Port != listenPort || b.Region != DefaultRegion {
		t.Errorf("binding %+v, %v", b, err)
	}
}

func TestEnsureLeavesAForeignContainer(t *testing.T) {
	rt := &engine{c: &runtime.Container{ID: "x", Name: "sandbox-web-aws", State: "running"}}
	_, err := newEmulator(t, rt, nil).Ensure(t.Context(), event.Discard)
	if fault.CodeOf(err) != fault.Conflict {
		t.Errorf("error %v", err)
	}
	if len(rt.calls) != 0 {
		t.Errorf("touched it: %v", rt.calls)
	}
	if err := newEmulator(t, rt, nil).Delete(t.Context()); err != nil || rt.c == nil {
		t.Errorf("delete touched it: %v", err)
	}
}

func TestEnsureReportsADeadContainer(t *testing.T) {
	rt := &engine{dies: true, logs: "starting\nImportError: no module\n", port: 1}
	_, err := newEmulator(t, rt, nil).Ensure(t.Context(), event.Discard)
	var f *fault.Error
	if !errors.As(err, &f) {
		t.Fatalf("error %v", err)
	}
	if !strings.Contains(f.Why, "code 3") || !slices.Contains(f.Log, "ImportError: no module") || f.Try == "" {
		t.Errorf("fault %+v", f)
	}
}

func TestGenerationDiffersAfterARestart(t *testing.T) {
	rt := &engine{c: &runtime.Container{ID: "x", Name: "sandbox-web-aws", State: "running", Started: time.Unix(1, 0)}}
	e := newEmulator(t, rt, nil)
	before, err := e.Generation(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rt.c.Started = time.Unix(2, 0)
	after, err := e.Generation(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if before == after {
		t.Errorf("the same generation %q", before)
	}
}

func TestHealth(t *testing.T) {
	answering := serve(t, `"s3":"running","sqs":"error"`)
	running := func(port int, started time.Time) *runtime.Container {
		return &runtime.Container{
			ID: "x", Name: "sandbox-web-aws", State: "running", Started: started,
			Ports: []runtime.Port{{HostPort: port, Container: listenPort}},
		}
	}
	old := time.Now().Add(-time.Hour)
	for name, tc := range map[string]struct {
		c    *runtime.Container
		want map[string]event.State
	}{
		"absent": {nil, map[string]event.State{"aws": "failed", "aws/s3": "stale", "aws/sqs": "stale"}},
		"exited": {
			&runtime.Container{Name: "sandbox-web-aws", State: "exited"},
			map[string]event.State{"aws": "failed", "aws/s3": "stale", "aws/sqs": "stale"},
		},
		"starting": {running(1, time.Now()), map[string]event.State{"aws": "working", "aws/s3": "stale", "aws/sqs": "stale"}},
		"refusing": {running(1, old), map[string]event.State{"aws": "failed", "aws/s3": "stale", "aws/sqs": "stale"}},
		"one bad":  {running(answering, old), map[string]event.State{"aws": "degraded", "aws/s3": "ok", "aws/sqs": "failed"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := map[string]event.State{}
			for _, h := range newEmulator(t, &engine{c: tc.c}, nil).Health(t.Context()) {
				got[h.Component] = h.State
				if h.State != event.StateOK && h.Reason == "" {
					t.Errorf("%s is %s without a reason", h.Component, h.State)
				}
			}
			if !maps.Equal(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestLocalStackEnvLoadsTheServicesAndKeepsTheOthers(t *testing.T) {
	env := localStackEnv(newEmulator(t, &engine{}, nil).cfg)
	if env["SERVICES"] != "s3,sqs" || env["EAGER_SERVICE_LOADING"] != "1" || env["STRICT_SERVICE_LOADING"] != "0" {
		t.Errorf("environment %v", env)
	}
	if env["LOCALSTACK_HOST"] != "aws-emulator.aws.svc.cluster.local:4566" {
		t.Errorf("LOCALSTACK_HOST=%s", env["LOCALSTACK_HOST"])
	}
}
