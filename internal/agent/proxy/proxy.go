// Package proxy breaks what passes it, for drills: it holds answers back, or gives
// an error in their place.
package proxy

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"github.com/sandbox-stack/sandbox/internal/agent"
	"github.com/sandbox-stack/sandbox/internal/inject"
)

// Variable is the environment variable that holds the inject.ProxySpec as JSON.
const Variable = "SANDBOX_PROXY"

// injected is the body of an answer that a proxy gives in place of another.
const injected = "injected by a drill of sandbox"

// Parse reads a ProxySpec from JSON.
func Parse(text string) (inject.ProxySpec, error) {
	var spec inject.ProxySpec
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		return spec, fmt.Errorf("read %s: %w", Variable, err)
	}
	if spec.Listen < 1 || spec.Listen > 65535 {
		return spec, fmt.Errorf("read %s: no port to listen on: %d", Variable, spec.Listen)
	}
	if _, _, err := net.SplitHostPort(spec.Upstream); err != nil {
		return spec, fmt.Errorf("read %s: upstream: %w", Variable, err)
	}
	return spec, nil
}

// Run passes on what comes to spec.Listen until ctx ends, and says at the health
// address that it does so.
func Run(ctx context.Context, spec inject.ProxySpec, health string, out io.Writer) error {
	address := fmt.Sprintf(":%d", spec.Listen)
	g, ctx := errgroup.WithContext(ctx)
	if spec.Status != 0 {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		g.Go(func() error { return agent.ServeListener(ctx, l, Handler(spec, out), out) })
	} else {
		stop, err := tcp(spec, address, out)
		if err != nil {
			return err
		}
		defer stop()
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+agent.PathHealth, agent.Healthy)
	g.Go(func() error { return agent.Serve(ctx, health, mux, out) })
	return g.Wait()
}

// tcp starts to pass on connections of any protocol, holding back what the
// upstream sends.
func tcp(spec inject.ProxySpec, address string, out io.Writer) (stop func(), err error) {
	lines := zerolog.New(zerolog.ConsoleWriter{
		Out: out, NoColor: true, PartsExclude: []string{zerolog.TimestampFieldName},
	}).Level(zerolog.WarnLevel)
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), lines)
	p := toxiproxy.NewProxy(server, "drill", address, spec.Upstream)
	toxic, err := json.Marshal(map[string]any{
		"type": "latency", "stream": "downstream",
		"attributes": map[string]int64{"latency": spec.Latency.Milliseconds(), "jitter": spec.Jitter.Milliseconds()},
	})
	if err != nil {
		return nil, fmt.Errorf("describe the delay: %w", err)
	}
	if _, err := p.Toxics.AddToxicJson(strings.NewReader(string(toxic))); err != nil {
		return nil, fmt.Errorf("set the delay: %w", err)
	}
	if err := p.Start(); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return p.Stop, nil
}

// Handler passes HTTP requests on, but answers those that match with the status.
func Handler(spec inject.ProxySpec, out io.Writer) http.Handler {
	upstream := &url.URL{Scheme: "http", Host: spec.Upstream}
	next := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(upstream)
			r.Out.Host = r.In.Host // the emulator reads the bucket from it
			for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
				if values, ok := r.In.Header[name]; ok {
					r.Out.Header[name] = values
				}
			}
		},
		// As it comes: nothing is unpacked or held back on the way.
		Transport:     &http.Transport{Proxy: nil, DisableCompression: true, MaxIdleConnsPerHost: 32, IdleConnTimeout: 30 * time.Second},
		FlushInterval: -1,
		ErrorLog:      log.New(out, "", 0),
	}
	share := &spread{percent: spec.Percent}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !hold(r.Context(), spec.Latency, spec.Jitter) {
			return
		}
		if matches(spec, r) && share.next() {
			http.Error(w, injected, spec.Status)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func matches(spec inject.ProxySpec, r *http.Request) bool {
	return (spec.Method == "" || r.Method == spec.Method) && strings.HasPrefix(r.URL.Path, spec.Path)
}

// hold waits for the latency, and reports whether somebody still wants an answer.
func hold(ctx context.Context, latency, jitter time.Duration) bool {
	if jitter > 0 {
		latency += rand.N(2*jitter) - jitter
	}
	if latency <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(latency)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// spread chooses a share of requests evenly: what is left over of one counts for
// the next. The same requests so give the same answers each time.
type spread struct {
	percent int // 0 is all

	mu   sync.Mutex
	left int
}

func (s *spread) next() bool {
	if s.percent <= 0 || s.percent >= 100 {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left += s.percent
	if s.left < 100 {
		return false
	}
	s.left -= 100
	return true
}
