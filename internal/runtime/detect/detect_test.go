package detect

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

// machine is what Find looks at, empty.
type machine struct {
	t    *testing.T
	path string
}

func newMachine(t *testing.T) machine {
	t.Helper()
	m := machine{t: t, path: t.TempDir()}
	t.Setenv("PATH", m.path)
	t.Setenv("HOME", t.TempDir())
	for _, name := range []string{
		Variable, "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "CONTAINER_HOST", "XDG_RUNTIME_DIR",
	} {
		t.Setenv(name, "")
	}
	return m
}

// install puts a program of that name on the PATH.
func (m machine) install(name string) {
	m.t.Helper()
	if err := os.WriteFile(filepath.Join(m.path, name), nil, 0o755); err != nil {
		m.t.Fatal(err)
	}
}

// engine serves what both engines' clients ask, as Docker or as Podman.
func (m machine) engine(component string) string {
	m.t.Helper()
	dir, err := os.MkdirTemp("", "sandbox-test-") // t.TempDir may be too long for a socket
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	listener, err := net.Listen("unix", filepath.Join(dir, "engine.sock"))
	if err != nil {
		m.t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{
		ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Api-Version", "1.41")
			w.Header().Set("Ostype", "linux")
			if strings.HasSuffix(r.URL.Path, "/version") {
				fmt.Fprintf(w, `{"Version":"1","Components":[{"Name":%q}]}`, component)
			}
		}),
	}}
	server.Start()
	m.t.Cleanup(server.Close)
	return "unix://" + listener.Addr().String()
}

// context writes a context of Docker's and makes it the current one.
func (m machine) context(name, host string) {
	m.t.Helper()
	dir := filepath.Join(os.Getenv("HOME"), ".docker")
	sum := sha256.Sum256([]byte(name))
	meta := filepath.Join(dir, "contexts", "meta", hex.EncodeToString(sum[:]))
	if err := errors.Join(
		os.MkdirAll(meta, 0o700),
		os.WriteFile(filepath.Join(meta, "meta.json"), fmt.Appendf(nil, `{"Name":%q,"Endpoints":{"docker":{"Host":%q,"SkipTLSVerify":false}}}`, name, host), 0o600),
		os.WriteFile(filepath.Join(dir, "config.json"), fmt.Appendf(nil, `{"auths":{},"currentContext":%q}`, name), 0o600),
	); err != nil {
		m.t.Fatal(err)
	}
}

func TestAuto(t *testing.T) {
	for name, test := range map[string]struct {
		set    func(m machine) (host string)
		engine string
		why    string
	}{
		"only Podman is installed": {func(m machine) string {
			m.install("podman")
			return ""
		}, Podman, "it is installed, and Docker does not run"},
		"DOCKER_HOST names it": {func(m machine) string {
			m.install("podman")
			host := m.engine("Engine")
			m.t.Setenv("DOCKER_HOST", host)
			return host
		}, Docker, "DOCKER_HOST names it"},
		"CONTAINER_HOST names it": {func(m machine) string {
			m.install("podman")
			m.context("mine", m.engine("Engine"))
			host := m.engine("Podman Engine")
			m.t.Setenv("CONTAINER_HOST", host)
			return host
		}, Podman, "CONTAINER_HOST names it"},
		"both are named and run": {func(m machine) string {
			m.install("podman")
			m.t.Setenv("DOCKER_HOST", m.engine("Engine"))
			host := m.engine("Podman Engine")
			m.t.Setenv("CONTAINER_HOST", host)
			return host
		}, Podman, "it runs, and is preferred to Docker, which runs too"},
		"both are named, Docker runs": {func(m machine) string {
			m.install("podman")
			host := m.engine("Engine")
			m.t.Setenv("DOCKER_HOST", host)
			m.t.Setenv("CONTAINER_HOST", "unix:///nowhere/podman.sock")
			return host
		}, Docker, "it runs, and no service of Podman's does"},
		"the context's Docker runs": {func(m machine) string {
			m.install("podman")
			host := m.engine("Engine")
			m.context("mine", host)
			return host
		}, Docker, "it runs, and no service of Podman's does"},
		"DOCKER_HOST is Podman": {func(m machine) string {
			m.install("podman")
			host := m.engine("Podman Engine")
			m.t.Setenv("DOCKER_HOST", host)
			return host
		}, Podman, "it is what DOCKER_HOST names"},
		"the context's Docker is Podman": {func(m machine) string {
			m.install("podman")
			m.context("mine", m.engine("Podman Engine"))
			return ""
		}, Podman, "it is installed, and Docker does not run"},
	} {
		t.Run(name, func(t *testing.T) {
			host := test.set(newMachine(t))
			got, err := Find(t.Context(), Choice{})
			if err != nil {
				t.Fatal(err)
			}
			if got.Engine != test.engine || got.Why != test.why || got.Host != host || !got.Auto {
				t.Errorf("got %+v, want %s on %q because %s", got, test.engine, host, test.why)
			}
		})
	}
}

func TestNoEngine(t *testing.T) {
	m := newMachine(t)
	m.context("mine", "unix:///nowhere/docker.sock")
	_, err := Find(t.Context(), Choice{})
	if fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "no container engine is there") || !strings.Contains(err.Error(), "Try: ") {
		t.Errorf("nothing is there: %v", err)
	}
	m.install("docker")
	if _, err = Find(t.Context(), Choice{}); !strings.Contains(err.Error(), "Docker does not run") {
		t.Errorf("Docker is installed: %v", err)
	}
	if _, err = Here(t.Context()); err == nil {
		t.Error("an engine is here")
	}
}

// What is asked for is taken whether or not it runs: opening it tells.
func TestAskedFor(t *testing.T) {
	m := newMachine(t)
	host := m.engine("Engine")
	t.Setenv("DOCKER_HOST", host)
	for _, test := range []struct {
		choice   Choice
		variable string
		want     Found
	}{
		{Choice{Engine: Docker}, "", Found{Engine: Docker, Host: host, Why: "it was asked for"}},
		{Choice{Engine: Podman}, Docker, Found{Engine: Podman, Why: "it was asked for"}},
		{Choice{}, Podman, Found{Engine: Podman, Why: "SANDBOX_RUNTIME asks for it"}},
		{Choice{Engine: Docker, Host: "unix:///other.sock", Why: "recorded"}, "", Found{Engine: Docker, Host: "unix:///other.sock", Why: "recorded"}},
		{Choice{Engine: Podman, Host: "unix:///other.sock"}, "", Found{Engine: Podman, Host: "unix:///other.sock", Why: "it was asked for"}},
	} {
		t.Setenv(Variable, test.variable)
		got, err := Find(t.Context(), test.choice)
		if err != nil || got != test.want {
			t.Errorf("%+v, %q: got %+v, %v", test.choice, test.variable, got, err)
		}
	}
	t.Setenv(Variable, "dcoker")
	if _, err := Find(t.Context(), Choice{}); fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), `"dcoker"`) {
		t.Errorf("a misspelled one: %v", err)
	}
}

func TestAddress(t *testing.T) {
	for name, test := range map[string]struct {
		set   func(m machine)
		c     Choice
		host  string
		fails string
	}{
		"default":         {set: func(machine) {}, host: "unix:///var/run/docker.sock"},
		"DOCKER_HOST":     {set: func(m machine) { m.t.Setenv("DOCKER_HOST", "unix:///a.sock"); m.context("x", "unix:///b.sock") }, host: "unix:///a.sock"},
		"context":         {set: func(m machine) { m.context("x", "unix:///b.sock") }, host: "unix:///b.sock"},
		"default context": {set: func(m machine) { m.context("default", "unix:///b.sock") }, host: "unix:///var/run/docker.sock"},
		"DOCKER_CONTEXT": {set: func(m machine) {
			m.context("y", "unix:///y.sock")
			m.context("x", "unix:///x.sock")
			m.t.Setenv("DOCKER_CONTEXT", "y")
		}, host: "unix:///y.sock"},
		"unknown context":   {set: func(m machine) { m.t.Setenv("DOCKER_CONTEXT", "y") }, fails: `Docker's context "y" can't be used`},
		"context of others": {set: func(m machine) { m.context("x", "") }, fails: "holds no address of Docker"},
		"broken configuration": {set: func(m machine) {
			m.context("x", "unix:///x.sock")
			if err := os.WriteFile(filepath.Join(os.Getenv("HOME"), ".docker", "config.json"), []byte("{"), 0o600); err != nil {
				m.t.Fatal(err)
			}
		}, fails: "config.json"},
		"loopback":                       {set: func(m machine) { m.t.Setenv("DOCKER_HOST", "tcp://127.0.0.1:2375") }, host: "tcp://127.0.0.1:2375"},
		"localhost":                      {set: func(m machine) { m.t.Setenv("DOCKER_HOST", "tcp://localhost:2375") }, host: "tcp://localhost:2375"},
		"remote":                         {set: func(m machine) { m.t.Setenv("DOCKER_HOST", "tcp://me:secret@192.0.2.1:2375") }, fails: "another machine (tcp://me:xxxxx@192.0.2.1:2375, from DOCKER_HOST)"},
		"remote, wanted":                 {set: func(m machine) { m.t.Setenv("DOCKER_HOST", "tcp://192.0.2.1:2375") }, c: Choice{Remote: true}, host: "tcp://192.0.2.1:2375"},
		"remote context":                 {set: func(m machine) { m.context("far", "tcp://192.0.2.1:2376") }, fails: "from context far of"},
		"ssh":                            {set: func(m machine) { m.t.Setenv("DOCKER_HOST", "ssh://me@there") }, c: Choice{Remote: true}, fails: "by ssh"},
		"other scheme":                   {set: func(m machine) { m.t.Setenv("DOCKER_HOST", "fd://3") }, fails: `"fd" is neither unix nor tcp`},
		"no URL":                         {set: func(m machine) { m.t.Setenv("DOCKER_HOST", "://") }, fails: "not a URL"},
		"recorded, and a broken context": {set: func(m machine) { m.t.Setenv("DOCKER_CONTEXT", "y") }, c: Choice{Host: "unix:///b.sock"}, host: "unix:///b.sock"},
		"recorded":                       {set: func(m machine) { m.t.Setenv("DOCKER_HOST", "unix:///a.sock") }, c: Choice{Host: "unix:///b.sock"}, host: "unix:///b.sock"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			test.set(m)
			test.c.Engine = Docker
			got, err := Find(t.Context(), test.c)
			var f *fault.Error
			switch {
			case test.fails == "":
				if err != nil || got.Host != test.host || got.Remote() != test.c.Remote {
					t.Errorf("got %+v, %v", got, err)
				}
			case !errors.As(err, &f) || !strings.Contains(f.Error(), test.fails) || f.Try == "":
				t.Errorf("got %v, want %s and what to try", err, test.fails)
			}
		})
	}
}

func TestHere(t *testing.T) {
	m := newMachine(t)
	m.install("podman")
	m.context("mine", "unix:///nowhere/docker.sock")
	if got, err := Here(t.Context()); err != nil || len(got) != 1 || got[0].Engine != Podman {
		t.Errorf("Podman alone: %+v, %v", got, err)
	}
	host := m.engine("Engine")
	m.context("mine", host)
	got, err := Here(t.Context())
	if err != nil || len(got) != 2 || got[0] != (Choice{Engine: Docker, Host: host}) || got[1].Engine != Podman {
		t.Errorf("both: %+v, %v", got, err)
	}
	t.Setenv("CONTAINER_HOST", m.engine("Podman Engine"))
	got, err = Here(t.Context())
	if err != nil || len(got) != 2 || got[0].Engine != Podman || got[1] != (Choice{Engine: Docker, Host: host}) {
		t.Errorf("both, Podman named: %+v, %v", got, err)
	}
	t.Setenv(Variable, Docker)
	if got, err := Here(t.Context()); err != nil || len(got) != 1 || got[0].Engine != Docker {
		t.Errorf("one asked for: %+v, %v", got, err)
	}
}
