package observe

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// engine is an engine whose containers all answer at one HTTP server. Methods
// that the adapter has no business with are nil and would panic.
type engine struct {
	runtime.Runtime
	port int

	mu         sync.Mutex
	imageID    string
	containers map[string]runtime.Container
	specs      map[string]runtime.ContainerSpec
	created    int
	stopped    []string
	log        string
	startErr   error
	lost       string // the ID that StartContainer has lost track of
	onStart    func(*runtime.Container)
}

func newEngine(t *testing.T, handler http.Handler) *engine {
	t.Helper()
	srv := httptest.NewServer(handler)
	t.Cleanup(srv.Close)
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		t.Fatal(err)
	}
	return &engine{
		port: port, imageID: "sha256:1", containers: map[string]runtime.Container{}, specs: map[string]runtime.ContainerSpec{},
	}
}

func (e *engine) Info(context.Context) (runtime.Info, error) {
	return runtime.Info{Engine: "test"}, nil
}

func (e *engine) Image(_ context.Context, ref string) (runtime.Image, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.imageID == "" {
		return runtime.Image{}, fmt.Errorf("image %s: %w", ref, runtime.ErrNotFound)
	}
	return runtime.Image{ID: e.imageID}, nil
}

func (e *engine) CreateContainer(_ context.Context, spec runtime.ContainerSpec) (runtime.Container, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.created++
	c := runtime.Container{
		ID: fmt.Sprintf("id-%d", e.created), Name: spec.Name, Labels: maps.Clone(spec.Labels), State: "created",
		Ports: []runtime.Port{{HostIP: "127.0.0.1", HostPort: e.port, Container: spec.Ports[0].Container}},
	}
	e.containers[c.ID], e.specs[c.ID] = c, spec
	return c, nil
}

func (e *engine) StartContainer(_ context.Context, id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.startErr != nil {
		return e.startErr
	}
	if id == e.lost {
		return fmt.Errorf("start %s: %w", id, runtime.ErrLost)
	}
	c := e.containers[id]
	c.State, c.Started = "running", time.Now()
	if e.onStart != nil {
		e.onStart(&c)
	}
	e.containers[id] = c
	return nil
}

func (e *engine) StopContainer(_ context.Context, id string, _ time.Duration) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stopped = append(e.stopped, id)
	return nil
}

func (e *engine) RemoveContainer(_ context.Context, id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.containers, id)
	return nil
}

func (e *engine) Container(_ context.Context, nameOrID string) (runtime.Container, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.containers {
		if c.ID == nameOrID || c.Name == nameOrID {
			return c, nil
		}
	}
	return runtime.Container{}, fmt.Errorf("container %s: %w", nameOrID, runtime.ErrNotFound)
}

func (e *engine) Logs(_ context.Context, _ string, _ runtime.LogOptions, w io.Writer) error {
	_, err := io.WriteString(w, e.log)
	return err
}

// change edits the only container.
func (e *engine) change(f func(*runtime.Container)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id, c := range e.containers {
		f(&c)
		e.containers[id] = c
	}
}

// spec returns the description of the only container.
func (e *engine) spec(t *testing.T) runtime.ContainerSpec {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.containers) != 1 {
		t.Fatalf("%d containers, want one", len(e.containers))
	}
	for id := range e.containers {
		return e.specs[id]
	}
	return runtime.ContainerSpec{}
}

// fakeProm answers like a Prometheus and counts reloads.
type fakeProm struct {
	mu       sync.Mutex
	reloads  int
	refuse   string // the answer to a reload, "" accepts
	notReady bool
	api      map[string]string // path → data
}

func (f *fakeProm) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case r.URL.Path == "/-/ready" || r.URL.Path == "/api/health":
		if f.notReady {
			http.Error(w, "Service Unavailable", http.StatusServiceUnavailable)
		}
	case r.URL.Path == "/-/reload" && r.Method == http.MethodPost:
		f.reloads++
		if f.refuse != "" {
			http.Error(w, "failed to reload config: "+f.refuse, http.StatusInternalServerError)
		}
	case f.api[r.URL.Path] != "":
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"status":"success","data":%s}`, f.api[r.URL.Path])
	default:
		http.NotFound(w, r)
	}
}

// set changes the fake between two calls.
func (f *fakeProm) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeProm) reloaded() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reloads
}

const goodRules = `groups:
  - name: app
    rules:
      - alert: AppDown
        expr: up == 0
        for: 1m
`

// promConfigIn returns a configuration below dir with one rule file.
func promConfigIn(t *testing.T, dir string) PrometheusConfig {
	t.Helper()
	rules := filepath.Join(dir, "alerts.yaml")
	if _, err := os.Stat(rules); err != nil {
		if err := os.WriteFile(rules, []byte(goodRules), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return PrometheusConfig{
		Common: Common{Sandbox: "demo", Run: "run-1", Network: "sandbox-demo"},
		Image:  "localhost/sandbox/prometheus", Port: PortPrometheus, Dir: filepath.Join(dir, "prometheus"),
		Rules: []string{rules}, Alertmanager: true,
	}
}

// newCA returns a certificate that signs itself.
func newCA(t *testing.T) []byte {
	t.Helper()
	_, certificate := newCertificate(t)
	return certificate
}

// newCertificate returns a key and its certificate for the addresses, which
// signs itself.
func newCertificate(t *testing.T, addresses ...net.IP) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, IPAddresses: addresses,
		NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
