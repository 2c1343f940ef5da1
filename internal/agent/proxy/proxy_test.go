package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sandbox-stack/sandbox/internal/agent"
	"github.com/sandbox-stack/sandbox/internal/inject"
)

// upstream answers what it was asked.
func upstream(t *testing.T) string {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		fmt.Fprintf(w, "%s %s %s %q %q", r.Method, r.Host, r.URL, body, r.Header.Values("X-Forwarded-For"))
	}))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

func ask(t *testing.T, method, url, host string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader("hi"))
	require.NoError(t, err)
	req.Host = host
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(text)
}

func TestParse(t *testing.T) {
	spec, err := Parse(`{"listen": 4566, "upstream": "10.0.0.1:4566", "latency": 1000000000}`)
	require.NoError(t, err)
	assert.Equal(t, inject.ProxySpec{Listen: 4566, Upstream: "10.0.0.1:4566", Latency: time.Second}, spec)
	for _, text := range []string{"", `{"upstream": "a:1"}`, `{"listen": 70000, "upstream": "a:1"}`, `{"listen": 1, "upstream": "a"}`} {
		_, err := Parse(text)
		require.ErrorContains(t, err, Variable, text)
	}
}

func TestErrorsAreForRequestsThatMatch(t *testing.T) {
	srv := httptest.NewServer(Handler(inject.ProxySpec{
		Upstream: upstream(t), Status: 503, Method: http.MethodPost, Path: "/orders",
	}, io.Discard))
	defer srv.Close()
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{http.MethodPost, "/orders", 503},
		{http.MethodPost, "/orders/1?a=b", 503},
		{http.MethodPut, "/orders", 200},
		{http.MethodPost, "/other", 200},
	} {
		status, body := ask(t, c.method, srv.URL+c.path, "bucket.s3.example")
		assert.Equal(t, c.want, status, c)
		if c.want == 200 {
			assert.Equal(t, fmt.Sprintf(`%s bucket.s3.example %s "hi" []`, c.method, c.path), body)
		} else {
			assert.Equal(t, injected+"\n", body)
		}
	}
}

func TestAShareIsSpreadEvenly(t *testing.T) {
	for percent, want := range map[int]string{
		0: "xxxxxxxxxx", 100: "xxxxxxxxxx", 50: ".x.x.x.x.x", 30: "...x..x..x", 10: ".........x",
	} {
		s, got := &spread{percent: percent}, ""
		for range 10 {
			if s.next() {
				got += "x"
			} else {
				got += "."
			}
		}
		assert.Equal(t, want, got, "%d %%", percent)
	}
}

func TestAnUpstreamThatIsGoneIsABadGateway(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	var log bytes.Buffer
	srv := httptest.NewServer(Handler(inject.ProxySpec{Upstream: l.Addr().String(), Status: 500, Path: "/x"}, &log))
	status, _ := ask(t, http.MethodGet, srv.URL, "")
	srv.Close()
	assert.Equal(t, http.StatusBadGateway, status)
	assert.Contains(t, log.String(), "connection refused")
}

func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		assert.True(t, hold(t.Context(), time.Second, 0))
		assert.Equal(t, time.Second, time.Since(began))

		for range 50 {
			began = time.Now()
			assert.True(t, hold(t.Context(), time.Second, 200*time.Millisecond))
			assert.InDelta(t, time.Second, time.Since(began), float64(200*time.Millisecond))
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		assert.False(t, hold(ctx, time.Hour, 0))
		assert.Equal(t, time.Second, time.Since(began))
	})
}

// freePort returns a port that was free a moment ago.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestRun(t *testing.T) {
	const latency = 120 * time.Millisecond
	for name, spec := range map[string]inject.ProxySpec{
		"a delay":          {Latency: latency},
		"a delayed answer": {Latency: latency, Status: 503, Path: "/none"},
	} {
		t.Run(name, func(t *testing.T) {
			spec.Listen, spec.Upstream = freePort(t), upstream(t)
			health := fmt.Sprintf("127.0.0.1:%d", freePort(t))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- Run(ctx, spec, health, io.Discard) }()

			require.Eventually(t, func() bool {
				resp, err := http.Get("http://" + health + agent.PathHealth)
				return err == nil && resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
			}, 10*time.Second, 10*time.Millisecond)
			began := time.Now()
			status, body := ask(t, http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/a", spec.Listen), "h")
			assert.Equal(t, 200, status)
			assert.Equal(t, `POST h /a "hi" []`, body)
			assert.GreaterOrEqual(t, time.Since(began), latency)

			cancel()
			require.NoError(t, <-done)
			_, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", spec.Listen))
			assert.Error(t, err, "nothing listens any more")
		})
	}
}

func TestRunSaysThatThePortIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", ":0")
	require.NoError(t, err)
	defer l.Close()
	for _, status := range []int{0, 503} {
		spec := inject.ProxySpec{Listen: l.Addr().(*net.TCPAddr).Port, Upstream: "127.0.0.1:1", Status: status}
		require.ErrorContains(t, Run(t.Context(), spec, "127.0.0.1:0", io.Discard), "address already in use")
	}
}
