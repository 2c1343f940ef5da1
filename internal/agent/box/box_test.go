package box

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sandbox-stack/sandbox/internal/agent"
	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// engine is an engine whose containers all answer at one HTTP server. Methods that
// a box has no business with are nil and would panic.
type engine struct {
	runtime.Runtime
	port       int
	rootless   bool
	imageID    string
	log        string
	startErr   error
	onStart    func(*runtime.Container)
	created    []runtime.ContainerSpec
	containers map[string]runtime.Container
}

func newEngine(t *testing.T, h http.HandlerFunc) *engine {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	u, err := url.Parse(srv.URL)
	require.NoError(t, err)
	port, err := strconv.Atoi(u.Port())
	require.NoError(t, err)
	return &engine{port: port, imageID: "sha256:1", containers: map[string]runtime.Container{}}
}

func (e *engine) Info(context.Context) (runtime.Info, error) {
	return runtime.Info{Engine: "test", Rootless: e.rootless}, nil
}

func (e *engine) Image(_ context.Context, ref string) (runtime.Image, error) {
	if e.imageID == "" {
		return runtime.Image{}, fmt.Errorf("image %s: %w", ref, runtime.ErrNotFound)
	}
	return runtime.Image{ID: e.imageID}, nil
}

func (e *engine) CreateContainer(_ context.Context, spec runtime.ContainerSpec) (runtime.Container, error) {
	e.created = append(e.created, spec)
	c := runtime.Container{
		ID: fmt.Sprintf("id-%d", len(e.created)), Name: spec.Name, Labels: maps.Clone(spec.Labels), State: "created",
		Ports: []runtime.Port{{HostIP: "127.0.0.1", HostPort: e.port, Container: spec.Ports[0].Container}},
	}
	e.containers[c.ID] = c
	return c, nil
}

func (e *engine) StartContainer(_ context.Context, id string) error {
	if e.startErr != nil {
		return e.startErr
	}
	c := e.containers[id]
	c.State, c.Started = "running", time.Now()
	if e.onStart != nil {
		e.onStart(&c)
	}
	e.containers[id] = c
	return nil
}

func (e *engine) RemoveContainer(_ context.Context, id string) error {
	delete(e.containers, id)
	return nil
}

func (e *engine) Container(_ context.Context, nameOrID string) (runtime.Container, error) {
	for _, c := range e.containers {
		if c.ID == nameOrID || c.Name == nameOrID {
			return c, nil
		}
	}
	return runtime.Container{}, fmt.Errorf("container %s: %w", nameOrID, runtime.ErrNotFound)
}

func (e *engine) Containers(_ context.Context, labels map[string]string) ([]runtime.Container, error) {
	var list []runtime.Container
	for _, c := range e.containers {
		if runtime.MatchLabels(c.Labels, labels) {
			list = append(list, c)
		}
	}
	return list, nil
}

func (e *engine) Logs(_ context.Context, _ string, _ runtime.LogOptions, w io.Writer) error {
	_, err := io.WriteString(w, e.log)
	return err
}

// change edits the only container.
func (e *engine) change(f func(*runtime.Container)) {
	for id, c := range e.containers {
		f(&c)
		e.containers[id] = c
	}
}

// aSpec describes a receiver whose program is a file of the test.
func aSpec(t *testing.T) Spec {
	t.Helper()
	dir := t.TempDir()
	s := Spec{
		Sandbox: "demo", Run: "run-1", Component: "drill/receiver", Alias: "receiver", Network: "sandbox-demo",
		Image: "localhost/alertmanager:1", Args: []string{"receiver"}, Port: agent.PortReceiver,
		Mounts: []runtime.Mount{{Source: "/data", Target: "/data", ReadOnly: true}},
		Cache:  filepath.Join(dir, "cache"), Program: filepath.Join(dir, "program"),
	}
	require.NoError(t, os.WriteFile(s.Program, []byte("version 1"), 0o700))
	return s
}

func ensure(t *testing.T, e *engine, s Spec, changed bool) Box {
	t.Helper()
	b, err := Ensure(t.Context(), e, s)
	require.NoError(t, err)
	assert.Equal(t, changed, b.Changed)
	return b
}

func TestEnsureIsIdempotent(t *testing.T) {
	e := newEngine(t, agent.Healthy)
	s := aSpec(t)
	b := ensure(t, e, s, true)
	assert.Equal(t, fmt.Sprintf("http://127.0.0.1:%d", e.port), b.URL)
	assert.True(t, b.Running())
	s.Run = "run-2"
	ensure(t, e, s, false)

	require.Len(t, e.created, 1)
	spec := e.created[0]
	assert.Equal(t, "sandbox-demo-receiver", spec.Name)
	assert.Equal(t, []string{"/sandbox"}, spec.Entrypoint)
	assert.Equal(t, []string{"agent", "receiver"}, spec.Cmd)
	assert.Equal(t, []string{"receiver"}, spec.Aliases)
	assert.Equal(t, fmt.Sprintf("%d:%d", os.Getuid(), os.Getgid()), spec.User)
	assert.Equal(t, []runtime.Port{{HostIP: "127.0.0.1", Container: agent.PortReceiver}}, spec.Ports)
	assert.Equal(t, "run-1", spec.Labels[runtime.LabelRun])
	assert.Equal(t, "demo", spec.Labels[runtime.LabelName])
	assert.Equal(t, "drill/receiver", spec.Labels[runtime.LabelComponent])
	require.Len(t, spec.Mounts, 2)
	program := spec.Mounts[1]
	assert.Equal(t, runtime.Mount{Source: program.Source, Target: "/sandbox", ReadOnly: true}, program)
	content, err := os.ReadFile(program.Source)
	require.NoError(t, err)
	assert.Equal(t, "version 1", string(content))
	info, err := os.Stat(program.Source)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o755), info.Mode())
}

func TestARootlessEngineMapsItsUserToRoot(t *testing.T) {
	e := newEngine(t, agent.Healthy)
	e.rootless = true
	ensure(t, e, aSpec(t), true)
	assert.Equal(t, "0:0", e.created[0].User)
}

func TestWhatHasChangedOrEndedIsReplaced(t *testing.T) {
	for name, change := range map[string]func(*testing.T, *engine, *Spec){
		"another program": func(t *testing.T, _ *engine, s *Spec) {
			require.NoError(t, os.WriteFile(s.Program, []byte("version 2"), 0o700))
		},
		"another image":     func(_ *testing.T, e *engine, _ *Spec) { e.imageID = "sha256:2" },
		"another argument":  func(_ *testing.T, _ *engine, s *Spec) { s.Args = []string{"proxy"} },
		"it was stopped":    func(_ *testing.T, e *engine, _ *Spec) { e.change(func(c *runtime.Container) { c.State = "exited" }) },
		"its state is lost": func(_ *testing.T, e *engine, _ *Spec) { e.change(func(c *runtime.Container) { c.State = "created" }) },
	} {
		t.Run(name, func(t *testing.T) {
			e, s := newEngine(t, agent.Healthy), aSpec(t)
			ensure(t, e, s, true)
			change(t, e, &s)
			ensure(t, e, s, true)
			assert.Len(t, e.created, 2)
			assert.Len(t, e.containers, 1)
		})
	}
}

func TestRemove(t *testing.T) {
	e, s := newEngine(t, agent.Healthy), aSpec(t)
	require.NoError(t, Remove(t.Context(), e, s))
	ensure(t, e, s, true)
	_, err := Find(t.Context(), e, s)
	require.NoError(t, err)
	require.NoError(t, Remove(t.Context(), e, s))
	assert.Empty(t, e.containers)
	_, err = Find(t.Context(), e, s)
	assert.ErrorIs(t, err, runtime.ErrNotFound)
}

func TestAContainerOfOthersIsLeftAlone(t *testing.T) {
	e, s := newEngine(t, agent.Healthy), aSpec(t)
	e.containers["x"] = runtime.Container{ID: "x", Name: s.ContainerName(), State: "running"}
	_, err := Ensure(t.Context(), e, s)
	var f *fault.Error
	require.ErrorAs(t, err, &f)
	assert.Equal(t, fault.Conflict, f.Code)
	require.Error(t, Remove(t.Context(), e, s))
	assert.Len(t, e.containers, 1)
	assert.Equal(t, f.What, Health(t.Context(), e, s).Reason)
}

func TestWhatDoesNotRunIsExplainedAndRemoved(t *testing.T) {
	for name, c := range map[string]struct {
		prepare func(*engine)
		code    fault.Code
		why     string
		log     []string
	}{
		"no image":      {func(e *engine) { e.imageID = "" }, fault.Unavailable, "", nil},
		"no start":      {func(e *engine) { e.startErr = errors.New("no such network") }, fault.Failed, "no such network", nil},
		"a quick death": {func(e *engine) { e.onStart = func(c *runtime.Container) { c.State, c.ExitCode = "exited", 3 } }, fault.Failed, "exit code 3", []string{"bad", "flag"}},
	} {
		t.Run(name, func(t *testing.T) {
			e, s := newEngine(t, agent.Healthy), aSpec(t)
			e.log = "bad\nflag\n"
			c.prepare(e)
			_, err := Ensure(t.Context(), e, s)
			var f *fault.Error
			require.ErrorAs(t, err, &f)
			assert.Equal(t, c.code, f.Code)
			assert.Contains(t, err.Error(), c.why)
			assert.Equal(t, c.log, f.Log)
			assert.Empty(t, e.containers)
		})
	}
}

func TestHealth(t *testing.T) {
	status := http.StatusOK
	e, s := newEngine(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }), aSpec(t)
	e.log = "the end\n"
	h := Health(t.Context(), e, s)
	assert.Equal(t, event.StateFailed, h.State)
	assert.Equal(t, "its container is not there", h.Reason)

	b := ensure(t, e, s, true)
	h = Health(t.Context(), e, s)
	assert.Equal(t, event.Health{Component: "drill/receiver", State: event.StateOK, URL: b.URL, Since: b.Started}, h)

	status = http.StatusServiceUnavailable
	h = Health(t.Context(), e, s)
	assert.Equal(t, event.StateWorking, h.State)
	assert.Equal(t, "not ready: 503 Service Unavailable", h.Reason)
	e.change(func(c *runtime.Container) { c.Started = c.Started.Add(-time.Hour) })
	h = Health(t.Context(), e, s)
	assert.Equal(t, event.StateFailed, h.State)
	assert.Equal(t, "sandbox logs drill/receiver", h.Try)

	e.change(func(c *runtime.Container) { c.State, c.ExitCode = "exited", 137 })
	h = Health(t.Context(), e, s)
	assert.Equal(t, "its container is exited, exit code 137: the end", h.Reason)
}

func TestProgramsOfOtherSystemsCantRun(t *testing.T) {
	_, err := executable("", "darwin")
	var f *fault.Error
	require.ErrorAs(t, err, &f)
	assert.Equal(t, fault.Unavailable, f.Code)
	assert.Contains(t, f.Why, "darwin")
	require.NoError(t, Supported(aSpec(t).Program))
}

func TestOldCopiesAreRemovedUnlessTheyAreInUse(t *testing.T) {
	e, s := newEngine(t, agent.Healthy), aSpec(t)
	old := time.Now().Add(-2 * expiry)
	copyOf := func(content string) string {
		require.NoError(t, os.WriteFile(s.Program, []byte(content), 0o700))
		p, err := install(t.Context(), e, s.Cache, s.Program)
		require.NoError(t, err)
		require.FileExists(t, p.path)
		return p.path
	}
	used, unused, again := copyOf("used"), copyOf("unused"), copyOf("again")
	e.containers["x"] = runtime.Container{ID: "x", Labels: map[string]string{labelProgram: filepath.Base(filepath.Dir(used))}}
	for _, p := range []string{used, unused, again} {
		require.NoError(t, os.Chtimes(filepath.Dir(p), old, old))
	}
	copyOf("again")
	recent := copyOf("new")
	assert.FileExists(t, used)
	assert.FileExists(t, again)
	assert.FileExists(t, recent)
	assert.NoDirExists(t, filepath.Dir(unused))
}
