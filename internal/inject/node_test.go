package inject

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/fake"
)

func TestAScriptThatBreaksSomethingEndsBeforeItIsUndone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, interrupt := context.WithCancel(t.Context())
		defer interrupt()
		ran, killed, hangs := 0, false, false
		engine := fake.New(map[string]fake.Program{
			"init": func(ctx context.Context, _ fake.Process) int { <-ctx.Done(); return 0 },
			"sh": func(ctx context.Context, _ fake.Process) int {
				ran++
				interrupt() // while the engine starts it
				if hangs {
					<-ctx.Done()
				}
				killed = ctx.Err() != nil
				return 0
			},
		})
		defer func() { require.NoError(t, engine.Close()) }()
		engine.AddImage(runtime.Image{Names: []string{"i"}})
		c, err := engine.CreateContainer(t.Context(), runtime.ContainerSpec{Name: "node-1", Image: "i", Cmd: []string{"init"}})
		require.NoError(t, err)
		require.NoError(t, engine.StartContainer(t.Context(), c.ID))
		w := World{Engine: engine, Node: engine.Container}

		_, err = w.breakOnNode(ctx, "node-1", "cut-1", "iptables")
		require.NoError(t, err)
		assert.False(t, killed, "it comes to its end")
		_, err = w.breakOnNode(ctx, "node-1", "cut-1", "iptables")
		require.ErrorIs(t, err, context.Canceled)
		assert.Equal(t, 1, ran, "none begins after the interrupt")

		ctx, interrupt = context.WithCancel(t.Context())
		defer interrupt()
		hangs = true
		began := time.Now()
		_, err = w.breakOnNode(ctx, "node-1", "cut-1", "iptables")
		require.ErrorIs(t, err, context.Canceled)
		assert.Equal(t, breakTime, time.Since(began), "of the time in the bubble")
		synctest.Wait()
		assert.True(t, killed)
	})
}
