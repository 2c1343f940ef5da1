//go:build integration

package inject

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/detect"
	"github.com/sandbox-stack/sandbox/internal/stack"
)

const (
	itName  = "it-inject"
	itImage = "localhost/sandbox/it-inject:box"
	// itTime bounds a wait. It is as long as a node takes to be ready again on a
	// machine that has other things to do: only a failure takes that long.
	itTime = 5 * time.Minute
	itPoll = 100 * time.Millisecond
)

// removeIt removes from the engine what these tests, or a run of them that was
// killed, have left there.
func removeIt(ctx context.Context, rt runtime.Runtime) error {
	labels := map[string]string{runtime.LabelName: itName}
	containers, err := rt.Containers(ctx, labels)
	failed := []error{err}
	for _, c := range containers {
		failed = append(failed, rt.RemoveContainer(ctx, c.ID))
	}
	networks, err := rt.Networks(ctx, labels)
	failed = append(failed, err)
	for _, n := range networks {
		failed = append(failed, rt.RemoveNetwork(ctx, n.Name))
	}
	images, err := rt.Images(ctx, labels)
	failed = append(failed, err)
	for _, i := range images {
		failed = append(failed, rt.RemoveImage(ctx, i.ID))
	}
	return errors.Join(failed...)
}

// realEngine is a World with the machine's engine, where a container serves
// HTTP as the component "web", and another is there to ask it.
func realEngine(t *testing.T) (w World, reach func() error, published func() error) {
	t.Helper()
	rt, _, err := detect.Open(t.Context(), detect.Choice{}, t.TempDir(), nil)
	require.NoError(t, err)
	labels := map[string]string{runtime.LabelName: itName}
	clean := func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), itTime)
		defer cancel()
		return removeIt(ctx, rt)
	}
	t.Cleanup(func() { assert.NoError(t, rt.Close()) })
	require.NoError(t, clean())
	t.Cleanup(func() { assert.NoError(t, clean()) })
	boxImage(t, rt)
	_, err = rt.CreateNetwork(t.Context(), itName, labels)
	require.NoError(t, err)
	start := func(spec runtime.ContainerSpec, component string) runtime.Container {
		spec.Image, spec.Network = itImage, itName
		spec.Labels = map[string]string{runtime.LabelName: itName, runtime.LabelComponent: component}
		c, err := rt.CreateContainer(t.Context(), spec)
		require.NoError(t, err)
		require.NoError(t, rt.StartContainer(t.Context(), c.ID))
		c, err = rt.Container(t.Context(), c.ID)
		require.NoError(t, err)
		return c
	}
	web := start(runtime.ContainerSpec{
		Name: itName + "-web", Cmd: []string{"serve", "8080"}, Aliases: []string{"web"}, Ports: []runtime.Port{{Container: 8080}},
	}, "web")
	require.Len(t, web.Ports, 1)
	client := start(runtime.ContainerSpec{Name: itName + "-client", Cmd: []string{"wait"}}, "client")
	reach = func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		var out bytes.Buffer
		exit, err := rt.Exec(ctx, client.ID, runtime.ExecSpec{Cmd: []string{"/box", "get", "http://web:8080/"}, Stdout: &out, Stderr: &out})
		if err == nil && exit != 0 {
			err = fmt.Errorf("exit code %d: %s", exit, &out)
		}
		return err
	}
	published = func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", web.Ports[0].HostPort), nil)
		if err != nil {
			return err
		}
		req.Close = true
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	}
	w = World{
		Sandbox: itName, Run: "test", Network: itName, Engine: rt,
		Containers: func(ctx context.Context, component string) ([]runtime.Container, error) {
			return rt.Containers(ctx, map[string]string{runtime.LabelName: itName, runtime.LabelComponent: component})
		},
		Revive: func(context.Context, string) error { return nil },
	}
	return w, reach, published
}

// boxImage builds the image of the one program that the containers run.
func boxImage(t *testing.T, rt runtime.Runtime) {
	t.Helper()
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", filepath.Join(dir, "box"),
		"github.com/sandbox-stack/sandbox/internal/runtime/runtimetest/boxcmd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nCOPY box /box\nENTRYPOINT [\"/box\"]\n"), 0o600))
	_, err = rt.BuildImage(t.Context(), runtime.BuildSpec{Context: dir, Tag: itImage, Labels: map[string]string{runtime.LabelName: itName}},
		func(line string) { t.Log(line) })
	require.NoError(t, err)
}

func TestFaultsOfARealContainer(t *testing.T) {
	w, reach, published := realEngine(t)
	well := func(t *testing.T, what string) {
		t.Helper()
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			assert.NoError(c, reach())
			assert.NoError(c, published())
		}, itTime, itPoll, what)
	}
	well(t, "at first")
	for _, tc := range []struct {
		name  string
		in    Injector
		fresh func() Injector
	}{
		{"pause", newPause(stack.Inject{Pause: &stack.ContainerFault{Component: "web"}}, w), func() Injector { return newPause(stack.Inject{}, w) }},
		{"stop", newStop(stack.Inject{Stop: &stack.ContainerFault{Component: "web"}}, w), func() Injector { return newStop(stack.Inject{}, w) }},
		{"cut", newCutComponent(&stack.CutFault{Component: "web"}, w), func() Injector { return newCutComponent(nil, w) }},
	} {
		for _, round := range []string{"first", "second"} {
			t.Run(tc.name+" "+round, func(t *testing.T) {
				rec, err := tc.in.Prepare(t.Context())
				require.NoError(t, err)
				well(t, "prepared")
				require.NoError(t, tc.in.Inject(t.Context(), kept(t, rec)))
				require.Error(t, reach(), "over the network")
				require.Error(t, published(), "at the published port")
				_, err = tc.in.Prepare(t.Context())
				invalid(t, err, "web")
				for _, time := range []string{"undone", "undone again"} {
					require.NoError(t, tc.fresh().Undo(t.Context(), kept(t, rec)))
					well(t, time)
				}
			})
		}
	}
}

func TestANodeOfARealEngineKeepsItsAddress(t *testing.T) {
	w, reach, _ := realEngine(t)
	all := w.Containers
	w.Containers = func(ctx context.Context, _ string) ([]runtime.Container, error) { return all(ctx, "web") }
	before, err := all(t.Context(), "web")
	require.NoError(t, err)
	in := newCutComponent(&stack.CutFault{Component: clusterComponent}, w)
	rec, err := in.Prepare(t.Context())
	require.NoError(t, err)
	require.NoError(t, in.Inject(t.Context(), kept(t, rec)))
	require.Error(t, reach())
	for range 2 {
		require.NoError(t, newCutComponent(nil, w).Undo(t.Context(), kept(t, rec)))
		after, err := all(t.Context(), "web")
		require.NoError(t, err)
		require.Len(t, after, 1)
		assert.Equal(t, before[0].IPs, after[0].IPs)
		assert.Equal(t, before[0].Aliases, after[0].Aliases)
		require.EventuallyWithT(t, func(c *assert.CollectT) { assert.NoError(c, reach()) }, itTime, itPoll)
	}
}

// lockedBuffer can be read while a command writes to it.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
