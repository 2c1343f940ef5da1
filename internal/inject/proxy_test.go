package inject

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sandbox-stack/sandbox/internal/stack"
)

func TestTheEmulatorIsLedThroughAProxyAndBack(t *testing.T) {
	w, proxies, calls := proxyWorld(t, kubeWith())
	in, err := New(stack.Inject{HTTP: &stack.HTTPFault{Component: "aws", Status: 500, Method: "POST", Path: "/orders", Percent: 50}}, w)
	require.NoError(t, err)
	rec, err := in.Prepare(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "answer 500 to 50 % of the POST requests for /orders to aws", rec.What)
	assert.Equal(t, []string{"component aws"}, rec.Targets)
	assert.Equal(t, LevelCluster, rec.Level)
	require.NoError(t, Undo(t.Context(), kept(t, rec), w), "before it is injected")

	require.NoError(t, in.Inject(t.Context(), kept(t, rec)))
	name := "proxy-" + short(rec.ID)
	assert.Equal(t, map[string]ProxySpec{
		name: {Listen: 4566, Upstream: "10.89.0.24:4566", Status: 500, Method: "POST", Path: "/orders", Percent: 50},
	}, proxies)
	for range 2 {
		require.NoError(t, Undo(t.Context(), kept(t, rec), w))
		assert.Empty(t, proxies)
	}
	assert.Equal(t, []string{"lead :0", "lead 10.89.9.1:4566", "lead :0", "lead :0"}, *calls)
}

func TestTheProxyStaysWhileTheEmulatorIsLedToIt(t *testing.T) {
	w, proxies, _ := proxyWorld(t, kubeWith())
	in, err := New(stack.Inject{Delay: &stack.DelayFault{Component: "aws", Latency: stack.Duration(time.Second)}}, w)
	require.NoError(t, err)
	rec, err := in.Prepare(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "delay what is sent to aws by 1s", rec.What)
	require.NoError(t, in.Inject(t.Context(), rec))
	w.LeadEmulator = func(context.Context, string, int) error { return errors.New("no cluster") }
	require.ErrorContains(t, Undo(t.Context(), kept(t, rec), w), "no cluster")
	assert.Len(t, proxies, 1)
}

func TestHTTPFaultsHaveDefaults(t *testing.T) {
	w, _, _ := proxyWorld(t, kubeWith(shop(nil)))
	in, err := New(stack.Inject{HTTP: &stack.HTTPFault{Service: "shop"}}, w)
	require.NoError(t, err)
	rec, err := in.Prepare(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "answer 503 to all requests to production/shop", rec.What)
	var d detour
	require.NoError(t, rec.read(&d))
	assert.Equal(t, ProxySpec{Status: 503, Percent: 100}, d.Spec)
}

func TestConnectionsPastTheProxyAreCut(t *testing.T) {
	w, _, _ := proxyWorld(t, kubeWith())
	in, err := New(stack.Inject{Delay: &stack.DelayFault{Component: "aws", Latency: stack.Duration(time.Second)}}, w)
	require.NoError(t, err)
	rec, err := in.Prepare(t.Context())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- in.Sustain(ctx, rec) }()
	require.Eventually(t, func() bool {
		calls := strings.Join(w.Engine.(interface{ Calls() []string }).Calls(), "\n")
		return strings.Contains(calls, "conntrack -D -p tcp") && strings.Contains(calls, "sandbox 10.96.0.9 10.89.0.24")
	}, 10*time.Second, 5*time.Millisecond)
	cancel()
	require.NoError(t, <-ended)
}
