package session

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/detect"
	"github.com/sandbox-stack/sandbox/internal/runtime/fake"
	"github.com/sandbox-stack/sandbox/internal/state"
)

// useEngines makes docker and podman fakes of their own, and notes what each
// session asked for.
func useEngines(t *testing.T) (docker, podman *fake.Runtime, asked *[]detect.Choice) {
	t.Helper()
	docker = useEngine(t)
	podman = fake.New(nil)
	asked = &[]detect.Choice{}
	openEngine = func(_ context.Context, _ string, c detect.Choice) (runtime.Runtime, detect.Found, error) {
		*asked = append(*asked, c)
		if c.Engine == detect.Podman {
			return podman, detect.Found{Engine: detect.Podman, Why: "it was asked for"}, nil
		}
		return docker, detect.Found{Engine: detect.Docker, Host: "unix:///d.sock", Why: "it runs", Auto: true}, nil
	}
	enginesHere = func(context.Context) ([]detect.Choice, error) {
		return []detect.Choice{{Engine: detect.Podman}, {Engine: detect.Docker, Host: "unix:///d.sock"}}, nil
	}
	return docker, podman, asked
}

func TestASandboxStaysOnItsEngine(t *testing.T) {
	_, _, asked := useEngines(t)
	s, err := Start(t.Context(), wanted(t, "demo"), Options{AutoPorts: true})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Chosen(); !strings.HasSuffix(got, ": it runs") {
		t.Errorf("why: %q", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	t.Setenv(detect.Variable, detect.Podman)
	for _, open := range []func() (*Session, error){
		func() (*Session, error) { return Open(t.Context(), "demo") },
		func() (*Session, error) {
			return Start(t.Context(), wanted(t, "demo"), Options{AutoPorts: true, Runtime: detect.Auto})
		},
	} {
		s, err := open()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if c := (*asked)[len(*asked)-1]; c.Engine != detect.Docker || c.Host != "unix:///d.sock" || c.Why == "" {
			t.Errorf("asked for %+v", c)
		}
	}
	_, err = Start(t.Context(), wanted(t, "demo"), Options{Runtime: detect.Podman})
	var f *fault.Error
	if !errors.As(err, &f) || f.Code != fault.Conflict || !strings.Contains(f.What, "made with docker, not with podman") || !strings.Contains(f.Try, "sandbox down --name demo") {
		t.Errorf("on another engine: %v", err)
	}
	if err := Down(t.Context(), "demo", false, ignored); err != nil {
		t.Fatal(err)
	}
	if c := (*asked)[len(*asked)-1]; c.Engine != detect.Docker {
		t.Errorf("down asked for %+v", c)
	}
}

// An older record names the engine with its version only.
func TestAnOlderRecord(t *testing.T) {
	_, _, asked := useEngines(t)
	dir := filepath.Join(os.Getenv("XDG_STATE_HOME"), "sandbox", "old")
	const record = `{"schema":1,"name":"old","engine":"podman 4.3.1","created":"2026-11-24T08:00:00Z","updated":"2026-11-24T08:00:00Z"}`
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "sandbox.json"), []byte(record), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := Down(t.Context(), "old", false, ignored); err != nil {
		t.Fatal(err)
	}
	if got := *asked; len(got) != 1 || got[0].Engine != detect.Podman {
		t.Errorf("asked for %+v", got)
	}
}

// Without a record, what is left of a sandbox is found on whichever engine.
func TestLeftoversOnTheOtherEngine(t *testing.T) {
	docker, podman, _ := useEngines(t)
	for engine, name := range map[*fake.Runtime]string{docker: "here", podman: "there"} {
		if _, err := engine.CreateNetwork(t.Context(), "sandbox-"+name, map[string]string{runtime.LabelName: name}); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := All(t.Context()); err != nil || !slices.Equal(got, []string{"here", "there"}) {
		t.Errorf("all: %v, %v", got, err)
	}
	for _, name := range []string{"here", "there"} {
		if err := Down(t.Context(), name, false, ignored); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := All(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("left: %v, %v", got, err)
	}
}

// ignored is a sink of a run that is of no interest.
var ignored = event.SinkFunc(func(event.Envelope) error { return nil })

// kind runs the docker command: without it, nothing is made.
func TestDockerWithoutItsCommand(t *testing.T) {
	engine := likeDocker{useEngine(t)}
	openEngine = func(context.Context, string, detect.Choice) (runtime.Runtime, detect.Found, error) {
		return engine, detect.Found{Engine: detect.Docker}, nil
	}
	t.Setenv("PATH", t.TempDir())
	_, err := Start(t.Context(), wanted(t, "demo"), Options{AutoPorts: true})
	if fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "the docker command is not installed") || !strings.Contains(err.Error(), "Try: ") {
		t.Errorf("got %v", err)
	}
	if names, err := state.List(); err != nil || len(names) != 0 {
		t.Errorf("state of %v, %v", names, err)
	}
}

type likeDocker struct{ *fake.Runtime }

func (l likeDocker) Info(ctx context.Context) (runtime.Info, error) {
	info, err := l.Runtime.Info(ctx)
	info.Engine = detect.Docker
	return info, err
}
