package docker

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// daemon is what stands for one: its API's version, and handlers by method and
// path below it.
type daemon struct {
	api, os, component string
	handlers           map[string]http.HandlerFunc
}

var versioned = regexp.MustCompile(`^/v[0-9.]+`)

// serve returns the address of the daemon.
func (d daemon) serve(t *testing.T) string {
	t.Helper()
	server := &httptest.Server{Listener: listen(t), Config: &http.Server{
		ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			path := versioned.ReplaceAllString(r.URL.Path, "")
			switch handler, ok := d.handlers[r.Method+" "+path]; {
			case ok:
				handler(w, r)
			case path == "/_ping":
				w.Header().Set("Api-Version", d.api)
				w.Header().Set("Ostype", d.os)
			case path == "/version":
				fmt.Fprintf(w, `{"Version":"99.0","ApiVersion":%q,"Components":[{"Name":%q,"Version":"1"}]}`, d.api, d.component)
			default:
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(http.StatusNotFound)
				fmt.Fprintf(w, `{"message":"No such thing: %s"}`, path)
			}
		}),
	}}
	server.Start()
	t.Cleanup(server.Close)
	return "unix://" + server.Listener.Addr().String()
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	dir, err := os.MkdirTemp("", "sandbox-test-") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	listener, err := net.Listen("unix", filepath.Join(dir, "docker.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

func (d daemon) open(t *testing.T) *Runtime {
	t.Helper()
	r, err := Open(t.Context(), Options{Host: d.serve(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func answer(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }
}

// Every way in which a daemon can't be used is told with what to do.
func TestOpenSaysWhy(t *testing.T) {
	silent := listen(t) // takes connections and says nothing, as a stopped daemon
	closed := filepath.Join(t.TempDir(), "closed.sock")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: closed})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	if err := left.Close(); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ host, want string }{
		"too old":    {daemon{api: "1.40", os: "linux"}.serve(t), "Docker is too old\n  it serves API 1.40, and sandbox needs 1.41"},
		"windows":    {daemon{api: "1.45", os: "windows"}.serve(t), "Docker runs windows containers"},
		"podman":     {daemon{api: "1.41", os: "linux", component: "Podman Engine"}.serve(t), "is Podman\n"},
		"no socket":  {"unix:///nowhere/docker.sock", "Docker does not run\n  there is no socket /nowhere/docker.sock"},
		"left over":  {"unix://" + closed, "nothing listens on it"},
		"hanging":    {"unix://" + silent.Addr().String(), "said nothing for 200ms"},
		"no address": {"nonsense", "can't be used"},
		"refused":    {"tcp://127.0.0.1:1", "Docker can't be reached on tcp://127.0.0.1:1"},
	} {
		t.Run(name, func(t *testing.T) {
			patience := time.Minute // what answers may take its time
			if name == "hanging" {
				patience = 200 * time.Millisecond
			}
			err := Check(t.Context(), Options{Host: test.host, Patience: patience})
			var f *fault.Error
			if !errors.As(err, &f) || !strings.Contains(f.Error(), test.want) || f.Try == "" {
				t.Errorf("got %v, want %q and what to try", err, test.want)
			}
			if errors.Is(err, ErrPodman) != (name == "podman") {
				t.Errorf("ErrPodman in %v", err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Check(ctx, Options{Host: "unix://" + silent.Addr().String()}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	for cause, want := range map[error]string{fs.ErrPermission: "usermod -aG docker", syscall.EACCES: "usermod -aG docker"} {
		if err := cannotReach(t.Context(), DefaultHost, time.Second, cause); !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", cause, err)
		}
	}
	if text := redacted("tcp://me:secret@there:1"); strings.Contains(text, "secret") {
		t.Errorf("the password is shown: %s", text)
	}
}

// From API 1.48 on an image may have several platforms, and its own is asked for.
func TestSaveAsksForThePlatform(t *testing.T) {
	for api, want := range map[string]string{"1.47": "", "1.48": `{"architecture":"arm64","os":"linux","variant":"v8"}`} {
		var query []string
		r := daemon{api: api, os: "linux", handlers: map[string]http.HandlerFunc{
			"GET /images/x:1/json": answer(`{"Id":"sha256:1","Os":"linux","Architecture":"arm64","Variant":"v8"}`),
			"GET /images/get": func(w http.ResponseWriter, r *http.Request) {
				query = slices.Concat(r.URL.Query()["names"], r.URL.Query()["platform"])
				fmt.Fprint(w, "archive")
			},
		}}.open(t)
		var out bytes.Buffer
		if err := r.SaveImage(t.Context(), "x:1", &out); err != nil || out.String() != "archive" {
			t.Errorf("%s: %q, %v", api, out.String(), err)
		}
		expected := []string{"x:1"}
		if want != "" {
			expected = append(expected, want)
		}
		if !slices.Equal(query, expected) {
			t.Errorf("%s: asked for %q, want %q", api, query, expected)
		}
	}
}

func TestLoadAndPull(t *testing.T) {
	config := t.TempDir()
	t.Setenv("DOCKER_CONFIG", config)
	if err := os.WriteFile(filepath.Join(config, "config.json"), []byte(`{"auths":{"example.com":{"auth":"bWU6c2VjcmV0"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	pulled := false
	var auth []byte
	r := daemon{api: "1.41", os: "linux", handlers: map[string]http.HandlerFunc{
		"POST /images/load": answer("{\"stream\":\"Loaded image: a:1\\n\"}\n{\"stream\":\"Loaded image: localhost:5000/b:2\\n\"}\n"),
		"POST /images/create": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("fromImage") == "example.com/none" {
				fmt.Fprint(w, `{"error":"manifest unknown"}`)
				return
			}
			pulled = true
			auth, _ = base64.URLEncoding.DecodeString(r.Header.Get("X-Registry-Auth"))
			fmt.Fprint(w, `{"status":"Pulling from x","id":"1"}{"status":"Downloading","id":"a","progressDetail":{"current":1,"total":9}}{"status":"Status: new"}`)
		},
		"GET /images/example.com/x:1/json": func(w http.ResponseWriter, _ *http.Request) {
			if !pulled {
				w.WriteHeader(http.StatusNotFound)
				fmt.Fprint(w, `{"message":"No such image"}`)
				return
			}
			fmt.Fprint(w, `{"Id":"sha256:1","RepoTags":["example.com/x:1"],"Size":7,"Config":{"Labels":{"l":"v"}}}`)
		},
	}}.open(t)
	names, err := r.LoadImage(t.Context(), strings.NewReader("tar"))
	if err != nil || !slices.Equal(names, []string{"a:1", "localhost:5000/b:2"}) {
		t.Errorf("loaded %q, %v", names, err)
	}
	var lines []string
	image, err := r.PullImage(t.Context(), "example.com/x:1", func(line string) { lines = append(lines, line) })
	if err != nil || image.Size != 7 || image.Labels["l"] != "v" || !slices.Equal(lines, []string{"1: Pulling from x", "Status: new"}) {
		t.Errorf("%+v, %q, %v", image, lines, err)
	}
	if !strings.Contains(string(auth), `"username":"me","password":"secret"`) {
		t.Errorf("the user's credentials are not sent: %s", auth)
	}
	if _, err := r.PullImage(t.Context(), "example.com/none:1", func(string) {}); err == nil || !strings.Contains(err.Error(), "manifest unknown") {
		t.Errorf("error %v", err)
	}
}

// A container of Docker's own making, such as a node of kind's.
func TestInspected(t *testing.T) {
	var c container.InspectResponse
	text, err := os.ReadFile("testdata/node-20.10.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	got := inspected(c)
	if got.Name != "sandbox-x-control-plane" || got.State != "running" || got.PID != 4711 || got.Finished != (time.Time{}) || got.Started.IsZero() ||
		got.Image != "localhost/sandbox/node:1" || !strings.HasPrefix(got.ImageID, "sha256:") || got.IPs["sandbox-x"] != "10.201.0.4" ||
		got.Labels["io.x-k8s.kind.cluster"] != "sandbox-x" || got.Health != "" {
		t.Errorf("got %+v", got)
	}
	if want := []runtime.Port{{HostIP: "127.0.0.1", HostPort: 43969, Container: 6443}}; !slices.Equal(got.Ports, want) {
		t.Errorf("ports %+v, want %+v", got.Ports, want)
	}
}

func TestSpec(t *testing.T) {
	options, err := generate(runtime.ContainerSpec{
		Name: "one", Image: "x", Cmd: []string{"a"}, Network: "net", Aliases: []string{"web"}, Memory: 1024, CPUShares: 7, Restart: true,
		Env:    map[string]string{"B": "2", "A": "1"},
		Ports:  []runtime.Port{{Container: 80}, {HostIP: "127.0.0.2", HostPort: 8080, Container: 81}},
		Mounts: []runtime.Mount{{Source: "/s", Target: "/t", ReadOnly: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(options)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"Env":["A=1","B=2"]`, `"81/tcp":[{"HostIp":"127.0.0.2","HostPort":"8080"}]`, `"Name":"unless-stopped"`, `"Memory":1024`, `"CpuShares":7`,
		`"Aliases":["web"]`, `{"Type":"bind","Source":"/s","Target":"/t","ReadOnly":true}`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	for inside, list := range options.HostConfig.PortBindings {
		if inside.Num() == 80 && (len(list) != 1 || list[0].HostPort == "0" || list[0].HostIP.String() != "127.0.0.1") {
			t.Errorf("a free port: %+v", list)
		}
	}
	if _, err := generate(runtime.ContainerSpec{Ports: []runtime.Port{{HostIP: "nowhere", Container: 1}}}); err == nil {
		t.Error("an address that is none was taken")
	}
}

// The second sample's CPU is that of the time in between, and memory is without
// what the kernel only keeps.
func TestStatsDifference(t *testing.T) {
	samples := []string{
		`{"read":"2026-01-02T03:04:07Z","cpu_stats":{"cpu_usage":{"total_usage":500000000}},"memory_stats":{"usage":8192,"limit":99,"stats":{"total_inactive_file":4096}}}`,
		`{"read":"2026-01-02T03:04:08Z","name":"/one","id":"abc","cpu_stats":{"cpu_usage":{"total_usage":2500000000}},"memory_stats":{"usage":8192,"limit":99,"stats":{"inactive_file":4096}}}`,
	}
	calls := 0
	r := daemon{api: "1.41", os: "linux", handlers: map[string]http.HandlerFunc{
		"GET /containers/abc/stats": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, samples[calls])
			calls++
		},
		"GET /containers/abc/json":   answer(`{"Id":"abc","Name":"/one","State":{"Status":"running","StartedAt":"2026-01-02T03:04:06Z"}}`),
		"GET /containers/idle/stats": answer(`{"read":"0001-01-01T00:00:00Z","id":"idle"}`),
	}}.open(t)
	for _, want := range []float64{0.5, 2} {
		stats, err := r.Stats(t.Context(), []string{"abc", "idle", "gone"})
		if err != nil {
			t.Fatal(err)
		}
		if len(stats) != 1 || stats[0] != (runtime.Stats{ID: "abc", Name: "one", CPU: want, Memory: 4096, Limit: 99}) {
			t.Errorf("got %+v, want CPU %v", stats, want)
		}
	}
}

// A container that another call removes is waited for.
func TestRemovalInProgress(t *testing.T) {
	looks := 0
	r := daemon{api: "1.41", os: "linux", handlers: map[string]http.HandlerFunc{
		"DELETE /containers/abc": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusConflict)
			fmt.Fprint(w, `{"message":"removal of container abc is already in progress"}`)
		},
		"GET /containers/abc/json": func(w http.ResponseWriter, _ *http.Request) {
			if looks++; looks > 2 {
				w.WriteHeader(http.StatusNotFound)
				fmt.Fprint(w, `{"message":"No such container: abc"}`)
				return
			}
			fmt.Fprint(w, `{"Id":"abc","State":{"Status":"removing"}}`)
		},
		"DELETE /containers/busy": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusConflict)
			fmt.Fprint(w, `{"message":"it has to stay"}`)
		},
	}}.open(t)
	if err := r.RemoveContainer(t.Context(), "abc"); err != nil || looks != 3 {
		t.Errorf("%d looks, %v", looks, err)
	}
	if err := r.RemoveContainer(t.Context(), "busy"); err == nil || !strings.Contains(err.Error(), "it has to stay") {
		t.Errorf("error %v", err)
	}
}
