package inject

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/fake"
	"github.com/sandbox-stack/sandbox/internal/stack"
)

// kept returns the record as another process reads it.
func kept(t *testing.T, rec Record) Record {
	t.Helper()
	data, err := json.Marshal(rec)
	require.NoError(t, err)
	var read Record
	require.NoError(t, json.Unmarshal(data, &read))
	return read
}

// invalid asserts that the error is of the user's, and says all of the words.
func invalid(t *testing.T, err error, words ...string) {
	t.Helper()
	require.Error(t, err)
	assert.Equal(t, fault.Invalid, fault.CodeOf(err), "%v", err)
	for _, word := range words {
		assert.Contains(t, err.Error(), word)
	}
}

const testNetwork = "sandbox-t"

// engineWorld is a World with an engine that runs a container of component aws
// and two of the cluster. What is called of the rest goes to calls.
func engineWorld(t *testing.T, calls *[]string) (World, *fake.Runtime) {
	t.Helper()
	engine := fake.New(nil)
	t.Cleanup(func() { require.NoError(t, engine.Close()) })
	engine.AddImage(runtime.Image{Names: []string{"i"}})
	_, err := engine.CreateNetwork(t.Context(), testNetwork, nil)
	require.NoError(t, err)
	for name, component := range map[string]string{"t-aws": "aws", "t-node-1": "cluster", "t-node-2": "cluster"} {
		c, err := engine.CreateContainer(t.Context(), runtime.ContainerSpec{
			Name: name, Image: "i", Network: testNetwork, Aliases: []string{component + "-alias"},
			Labels: map[string]string{runtime.LabelName: "t", runtime.LabelComponent: component},
		})
		require.NoError(t, err)
		require.NoError(t, engine.StartContainer(t.Context(), c.ID))
	}
	return World{
		Sandbox: "t", Run: "r", Network: testNetwork, Engine: engine,
		Containers: func(ctx context.Context, component string) ([]runtime.Container, error) {
			return engine.Containers(ctx, map[string]string{runtime.LabelName: "t", runtime.LabelComponent: component})
		},
		Revive: func(_ context.Context, component string) error {
			*calls = append(*calls, "revive "+component)
			return nil
		},
	}, engine
}

func states(t *testing.T, w World, component string) []string {
	t.Helper()
	list, err := w.Containers(t.Context(), component)
	require.NoError(t, err)
	var all []string
	for _, c := range list {
		all = append(all, c.State)
	}
	return all
}

func TestPauseIsUndoneFromItsRecord(t *testing.T) {
	w, engine := engineWorld(t, nil)
	in, err := New(stack.Inject{Pause: &stack.ContainerFault{Component: "cluster"}}, w)
	require.NoError(t, err)
	rec, err := in.Prepare(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "pause cluster", rec.What)
	assert.Equal(t, []string{"component cluster"}, rec.Targets)
	assert.Equal(t, LevelEngine, rec.Level)
	assert.Regexp(t, `^pause-[0-9a-f]{6}$`, rec.ID)
	assert.Equal(t, []string{"running", "running"}, states(t, w, "cluster"), "preparing changes nothing")

	require.NoError(t, Undo(t.Context(), kept(t, rec), w), "before it is injected")
	require.NoError(t, in.Inject(t.Context(), kept(t, rec)))
	assert.Equal(t, []string{"paused", "paused"}, states(t, w, "cluster"))
	assert.Equal(t, []string{"running"}, states(t, w, "aws"))

	require.NoError(t, engine.RemoveContainer(t.Context(), "t-node-2"))
	for range 2 {
		require.NoError(t, Undo(t.Context(), kept(t, rec), w))
		assert.Equal(t, []string{"running"}, states(t, w, "cluster"))
	}
}

func TestStopIsUndoneAndRevived(t *testing.T) {
	var calls []string
	w, engine := engineWorld(t, &calls)
	in, err := New(stack.Inject{Stop: &stack.ContainerFault{Component: "aws"}}, w)
	require.NoError(t, err)
	rec, err := in.Prepare(t.Context())
	require.NoError(t, err)
	require.NoError(t, in.Inject(t.Context(), rec))
	assert.Equal(t, []string{"exited"}, states(t, w, "aws"))

	engine.Fail = func(method, _ string) error {
		if method == "StartContainer" {
			return errors.New("no")
		}
		return nil
	}
	require.ErrorContains(t, Undo(t.Context(), kept(t, rec), w), "mend the container t-aws: no")
	assert.Empty(t, calls)

	engine.Fail = nil
	for range 2 {
		require.NoError(t, Undo(t.Context(), kept(t, rec), w))
		assert.Equal(t, []string{"running"}, states(t, w, "aws"))
	}
	assert.Equal(t, []string{"revive aws", "revive aws"}, calls)

	require.NoError(t, engine.RemoveContainer(t.Context(), "t-aws"))
	require.NoError(t, Undo(t.Context(), kept(t, rec), w), "its container is gone")
	assert.Len(t, calls, 3, "what is gone is brought back as well")
}

func TestContainersAreStoppedSideBySide(t *testing.T) {
	w, engine := engineWorld(t, nil)
	in, err := New(stack.Inject{Stop: &stack.ContainerFault{Component: "cluster"}}, w)
	require.NoError(t, err)
	rec, err := in.Prepare(t.Context())
	require.NoError(t, err)
	limited, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var stopping sync.WaitGroup
	stopping.Add(2)
	both := make(chan struct{})
	go func() { stopping.Wait(); close(both) }()
	engine.Fail = func(method, _ string) error {
		if method != "StopContainer" {
			return nil
		}
		stopping.Done()
		select {
		case <-both:
			return nil
		case <-limited.Done():
			return errors.New("one after the other")
		}
	}
	require.NoError(t, in.Inject(limited, rec))
	assert.Equal(t, []string{"exited", "exited"}, states(t, w, "cluster"))

	engine.Fail = func(method, _ string) error {
		if method == "StopContainer" {
			return errors.New("no")
		}
		return nil
	}
	require.ErrorContains(t, in.Inject(t.Context(), rec), "stop the container t-node-")
}

func TestWhatDoesNotRunIsNotBroken(t *testing.T) {
	w, engine := engineWorld(t, nil)
	require.NoError(t, engine.StopContainer(t.Context(), "t-aws", time.Second))
	for kind, spec := range map[string]stack.Inject{
		"pause": {Pause: &stack.ContainerFault{Component: "aws"}},
		"stop":  {Stop: &stack.ContainerFault{Component: "aws"}},
	} {
		in, err := New(spec, w)
		require.NoError(t, err, kind)
		_, err = in.Prepare(t.Context())
		invalid(t, err, "aws does not run", "t-aws is exited")
	}
	_, err := newCutComponent(&stack.CutFault{Component: "aws"}, w).Prepare(t.Context())
	invalid(t, err, "aws does not run")
	_, err = newCutComponent(&stack.CutFault{Component: "observe/grafana"}, w).Prepare(t.Context())
	invalid(t, err, "observe/grafana has no container")
	w.Network = "another"
	_, err = newCutComponent(&stack.CutFault{Component: "cluster"}, w).Prepare(t.Context())
	invalid(t, err, "t-node-1 is not on the network another")
}

func TestCutNodesGetTheirAddressesBack(t *testing.T) {
	w, engine := engineWorld(t, nil)
	before, err := w.Containers(t.Context(), "cluster")
	require.NoError(t, err)
	in := newCutComponent(&stack.CutFault{Component: "cluster"}, w)
	rec, err := in.Prepare(t.Context())
	require.NoError(t, err)
	assert.Equal(t, LevelEngine, rec.Level)
	require.NoError(t, in.Inject(t.Context(), kept(t, rec)))
	list, err := w.Containers(t.Context(), "cluster")
	require.NoError(t, err)
	for _, c := range list {
		assert.Empty(t, c.IPs[testNetwork])
	}
	for range 2 {
		require.NoError(t, newCutComponent(nil, w).Undo(t.Context(), kept(t, rec)))
		list, err = w.Containers(t.Context(), "cluster")
		require.NoError(t, err)
		for i, c := range list {
			assert.Equal(t, before[i].IPs, c.IPs)
			assert.Equal(t, before[i].Aliases, c.Aliases)
		}
	}

	// Somebody else has the address of the first.
	require.NoError(t, in.Inject(t.Context(), kept(t, rec)))
	refused := 0
	engine.Fail = func(method, subject string) error {
		if method == "ConnectNetwork" && subject == testNetwork+" "+before[0].ID && refused == 0 {
			refused++
			return errors.New("the address is taken")
		}
		return nil
	}
	require.NoError(t, newCutComponent(nil, w).Undo(t.Context(), kept(t, rec)))
	assert.Equal(t, 1, refused)
	list, err = w.Containers(t.Context(), "cluster")
	require.NoError(t, err)
	for _, c := range list {
		assert.NotEmpty(t, c.IPs[testNetwork])
	}
	engine.Fail = func(method, _ string) error {
		if method == "ConnectNetwork" {
			return errors.New("refused")
		}
		return nil
	}
	require.NoError(t, in.Inject(t.Context(), kept(t, rec)))
	require.ErrorContains(t, newCutComponent(nil, w).Undo(t.Context(), kept(t, rec)), "refused")
}

func TestPodsFindTheEmulatorAfterItWasCut(t *testing.T) {
	var calls []string
	w, engine := engineWorld(t, &calls)
	client := kubeWith()
	w.Kube = client.give
	w.LeadEmulator = func(_ context.Context, address string, port int) error {
		calls = append(calls, "lead "+address)
		if len(calls) == 1 {
			return errors.New("no cluster")
		}
		return nil
	}
	w.Node = func(ctx context.Context, _ string) (runtime.Container, error) {
		return engine.Container(ctx, "t-node-1")
	}
	c, err := engine.Container(t.Context(), "t-aws")
	require.NoError(t, err)
	in := newCutComponent(&stack.CutFault{Component: "aws"}, w)
	rec, err := in.Prepare(t.Context())
	require.NoError(t, err)
	assert.Equal(t, LevelEngine, rec.Level)
	require.NoError(t, in.Inject(t.Context(), rec))

	require.ErrorContains(t, newCutComponent(nil, w).Undo(t.Context(), kept(t, rec)), "no cluster")
	require.NoError(t, newCutComponent(nil, w).Undo(t.Context(), kept(t, rec)))
	assert.Equal(t, []string{"lead ", "lead "}, calls)
	after, err := engine.Container(t.Context(), "t-aws")
	require.NoError(t, err)
	assert.NotEmpty(t, after.IPs[testNetwork])
	assert.Equal(t, []string{"aws-alias"}, after.Aliases[testNetwork])
	all := strings.Join(engine.Calls(), "\n")
	assert.Contains(t, all, "conntrack -D -p tcp")
	assert.Contains(t, all, "sandbox 10.96.0.9 "+c.IPs[testNetwork], "what hangs at the old address is cut")
}
