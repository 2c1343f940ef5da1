//go:build integration

package box

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sandbox-stack/sandbox/internal/agent"
	"github.com/sandbox-stack/sandbox/internal/agent/proxy"
	"github.com/sandbox-stack/sandbox/internal/agent/receiver"
	"github.com/sandbox-stack/sandbox/internal/inject"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/detect"
)

const testSandbox = "boxtest"

// openEngine returns the real engine, with what an earlier test left removed and a
// network for this one.
func openEngine(t *testing.T) (rt runtime.Runtime, network runtime.Network) {
	t.Helper()
	ctx := context.Background() // outlives the test, for the clean-up
	rt, _, err := detect.Open(ctx, detect.Choice{}, t.TempDir(), nil)
	require.NoError(t, err, "this test needs a container engine")
	labels := map[string]string{runtime.LabelName: testSandbox}
	clean := func() {
		containers, err := rt.Containers(ctx, labels)
		assert.NoError(t, err)
		for _, c := range containers {
			assert.NoError(t, rt.RemoveContainer(ctx, c.ID))
		}
		networks, err := rt.Networks(ctx, labels)
		assert.NoError(t, err)
		for _, n := range networks {
			assert.NoError(t, rt.RemoveNetwork(ctx, n.Name))
		}
	}
	clean()
	t.Cleanup(func() {
		clean()
		assert.NoError(t, rt.Close())
	})
	network, err = rt.CreateNetwork(ctx, "sandbox-"+testSandbox, labels)
	require.NoError(t, err)
	return rt, network
}

// anyImage returns an image of those that stacks have anyway.
func anyImage(t *testing.T, rt runtime.Runtime) string {
	t.Helper()
	list, err := rt.Images(t.Context(), nil)
	require.NoError(t, err)
	for _, img := range list {
		for _, name := range img.Names {
			if strings.Contains(name, "sandbox/prometheus:") {
				return name
			}
		}
	}
	t.Skip("no Prometheus image in the engine's store: sandbox up minimal brings one")
	return ""
}

// build compiles the program, as the one that runs here is the test.
func build(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sandbox")
	cmd := exec.Command("go", "build", "-tags", "remote exclude_graphdriver_btrfs containers_image_openpgp", "-o", path, "./cmd/sandbox")
	cmd.Dir = "../../.."
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	return path
}

func TestAgentsInContainers(t *testing.T) {
	rt, network := openEngine(t)
	spec := Spec{
		Sandbox: testSandbox, Run: "run-1", Network: network.Name, Image: anyImage(t, rt),
		Cache: t.TempDir(), Program: build(t),
	}

	t.Run("receiver", func(t *testing.T) {
		s := spec
		s.Component, s.Alias, s.Port, s.Args = "drill/receiver", "receiver", agent.PortReceiver, []string{"receiver"}
		b, err := Ensure(t.Context(), rt, s)
		require.NoError(t, err)
		resp, err := http.Post(b.URL+"/notify/team", "application/json", strings.NewReader(`{"version": "4", "status": "firing", "alerts": [{"status": "firing", "labels": {"alertname": "A"}}]}`))
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		list, err := receiver.Fetch(t.Context(), b.URL)
		require.NoError(t, err)
		require.Len(t, list, 1)
		assert.Equal(t, "team", list[0].Receiver)

		again, err := Ensure(t.Context(), rt, s)
		require.NoError(t, err)
		assert.False(t, again.Changed)
		assert.Equal(t, b.ID, again.ID)
		assert.EventuallyWithT(t, func(c *assert.CollectT) {
			health := Health(t.Context(), rt, s)
			assert.True(c, health.State.Healthy(), "%+v", health)
		}, time.Minute, 100*time.Millisecond)
		require.NoError(t, Remove(t.Context(), rt, s))
		_, err = Find(t.Context(), rt, s)
		assert.ErrorIs(t, err, runtime.ErrNotFound)
	})

	t.Run("proxy", func(t *testing.T) {
		info, err := rt.Info(t.Context())
		require.NoError(t, err)
		if info.Rootless {
			t.Skip("the containers of a rootless engine have no address that this host reaches")
		}
		s := spec
		s.Component, s.Alias, s.Port, s.Args = "drill/upstream", "upstream", agent.PortReceiver, []string{"receiver"}
		_, err = Ensure(t.Context(), rt, s)
		require.NoError(t, err)
		for name, c := range map[string]struct {
			spec inject.ProxySpec
			want int
		}{
			"delay": {inject.ProxySpec{Latency: 300 * time.Millisecond}, http.StatusOK},
			"http":  {inject.ProxySpec{Status: 503, Latency: 300 * time.Millisecond}, http.StatusServiceUnavailable},
		} {
			t.Run(name, func(t *testing.T) {
				c.spec.Listen, c.spec.Upstream = 4566, fmt.Sprintf("upstream:%d", agent.PortReceiver)
				text, err := json.Marshal(c.spec)
				require.NoError(t, err)
				s := spec
				s.Component, s.Alias, s.Port, s.Args = "drill/proxy-"+name, "proxy-"+name, agent.PortProxy, []string{"proxy"}
				s.Env = map[string]string{proxy.Variable: string(text)}
				b, err := Ensure(t.Context(), rt, s)
				require.NoError(t, err)
				began := time.Now()
				resp, err := http.Get("http://" + net.JoinHostPort(b.IPs[network.Name], strconv.Itoa(c.spec.Listen)) + agent.PathHealth)
				require.NoError(t, err)
				require.NoError(t, resp.Body.Close())
				assert.Equal(t, c.want, resp.StatusCode)
				assert.GreaterOrEqual(t, time.Since(began), c.spec.Latency)
			})
		}
	})

	t.Run("one that can't do it says why", func(t *testing.T) {
		s := spec
		s.Component, s.Alias, s.Port, s.Args = "drill/bad", "bad", agent.PortProxy, []string{"proxy"}
		_, err := Ensure(t.Context(), rt, s)
		require.ErrorContains(t, err, "stopped right after its start")
		_, err = Find(t.Context(), rt, s)
		assert.ErrorIs(t, err, runtime.ErrNotFound)
	})
}
