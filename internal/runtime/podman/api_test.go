package podman

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// serve returns a Runtime that talks to the handlers, by method and path below
// /libpod.
func serve(t *testing.T, handlers map[string]http.HandlerFunc) *Runtime {
	t.Helper()
	dir, err := os.MkdirTemp("", "sandbox-test-") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "api.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{
		ReadHeaderTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, path, _ := strings.Cut(r.URL.Path, "/libpod")
			if path == "/_ping" {
				w.Header().Set("Libpod-API-Version", "4.3.1")
				return
			}
			handler, ok := handlers[r.Method+" "+path]
			if !ok {
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(http.StatusNotFound)
				fmt.Fprintf(w, `{"cause":"nothing","message":"nothing at %s","response":404}`, path)
				return
			}
			handler(w, r)
		}),
	}}
	server.Start()
	t.Cleanup(server.Close)
	r, err := connect(t.Context(), "podman", socket)
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

// answer answers with the text.
func answer(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }
}

func TestInfo(t *testing.T) {
	r := serve(t, nil)
	info, err := r.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := runtime.Info{Engine: "podman", Version: "4.3.1", Rootless: os.Geteuid() != 0, CgroupVersion: info.CgroupVersion, Socket: r.socket}
	if info != want || info.CgroupVersion < 1 || info.CgroupVersion > 2 {
		t.Errorf("got %+v, want %+v", info, want)
	}
}

// What Podman 4.3 and 6 answer differs in fields that sandbox does not read.
func TestContainer(t *testing.T) {
	self := os.Getpid()
	for version, config := range map[string]string{
		"4.3": `{"Entrypoint":"/box","StopSignal":15,"Labels":{"sandbox.name":"x"}}`,
		"6.0": `{"Entrypoint":["/box"],"StopSignal":"SIGTERM","Labels":{"sandbox.name":"x"}}`,
	} {
		t.Run(version, func(t *testing.T) {
			r := serve(t, map[string]http.HandlerFunc{"GET /containers/one/json": answer(fmt.Sprintf(`{
				"Id":"0123456789abcdef","Name":"one","Image":"123","ImageName":"localhost/x:1","Created":"2026-01-02T03:04:05Z",
				"State":{"Status":"running","Pid":%d,"ConmonPid":%d,"StartedAt":"2026-01-02T03:04:06Z","FinishedAt":"0001-01-01T00:00:00Z",
					"Health":{"Status":"healthy"}},
				"Config":%s,
				"HostConfig":{"PortBindings":{"90/tcp":[{"HostIp":"127.0.0.1","HostPort":"9090"}],"80/tcp":[{"HostIp":"","HostPort":"8080"}],"53/udp":[{"HostPort":"53"}]}},
				"NetworkSettings":{"Networks":{"net":{"IPAddress":"10.89.0.2","MacAddress":"fa:cb:b0:31:2c:af","Aliases":["web","0123456789ab"]},"off":{"IPAddress":""}}}}`, self, self, config))})
			c, err := r.Container(t.Context(), "one")
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			want, err := json.Marshal(runtime.Container{
				ID: "0123456789abcdef", Name: "one", Image: "localhost/x:1", ImageID: "sha256:123", Labels: map[string]string{"sandbox.name": "x"},
				State: "running", Health: "healthy", PID: self,
				Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Started: time.Date(2026, 1, 2, 3, 4, 6, 0, time.UTC),
				Ports:   []runtime.Port{{HostPort: 8080, Container: 80}, {HostIP: "127.0.0.1", HostPort: 9090, Container: 90}},
				IPs:     map[string]string{"net": "10.89.0.2"},
				MACs:    map[string]string{"net": "fa:cb:b0:31:2c:af"},
				Aliases: map[string][]string{"net": {"web"}, "off": nil},
			})
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestStates(t *testing.T) {
	const gone = math.MaxInt32 - 1 // above any pid_max
	self := os.Getpid()
	for _, test := range []struct {
		status   string
		pid, mon int
		want     string
	}{
		{"running", self, self, "running"},
		{"running", gone, self, "running"}, // its monitor is about to tell
		{"running", gone, gone, "exited"},
		{"running", 0, 0, "exited"},
		{"paused", gone, gone, "exited"},
		{"stopped", 0, 0, "exited"},
		{"exited", 0, 0, "exited"},
		{"created", 0, 0, "created"},
	} {
		var c inspected
		c.State.Status, c.State.PID, c.State.MonitorPID = test.status, test.pid, test.mon
		if got := c.container().State; got != test.want {
			t.Errorf("%+v: %q", test, got)
		}
	}
}

func TestErrors(t *testing.T) {
	r := serve(t, map[string]http.HandlerFunc{
		"POST /containers/create": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprint(w, `{"cause":"image not known","message":"localhost/x: image not known","response":500}`)
		},
		"GET /containers/json": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			fmt.Fprint(w, `it broke`)
		},
		"GET /networks/json": answer(`{"not":"a list"`),
	})
	_, err := r.Container(t.Context(), "missing")
	if !errors.Is(err, runtime.ErrNotFound) || !strings.Contains(err.Error(), `"missing"`) {
		t.Errorf("404: %v", err)
	}
	if _, err = r.CreateContainer(t.Context(), runtime.ContainerSpec{}); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("500 for a missing image: %v", err)
	}
	_, err = r.Containers(t.Context(), nil)
	if err == nil || errors.Is(err, runtime.ErrNotFound) || !strings.Contains(err.Error(), "it broke") {
		t.Errorf("500: %v", err)
	}
	if _, err = r.Networks(t.Context(), nil); err == nil {
		t.Error("half an answer was taken")
	}
}

func TestPull(t *testing.T) {
	r := serve(t, map[string]http.HandlerFunc{
		"POST /images/pull": func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Query().Get("reference") == "example.com/none" {
				fmt.Fprint(w, `{"stream":"Trying to pull example.com/none\n"}`+"\n"+`{"error":"no such manifest"}`)
				return
			}
			fmt.Fprint(w, `{"stream":"Copying blob\n"}`+"\n"+`{"images":["123"],"id":"123"}`)
		},
		"GET /images/123/json": answer(`{"Id":"123","RepoTags":["example.com/x:1"],"Size":7}`),
	})
	var lines []string
	image, err := r.PullImage(t.Context(), "example.com/x:1", func(line string) { lines = append(lines, line) })
	if err != nil || image.ID != "sha256:123" || image.Size != 7 || !slices.Equal(lines, []string{"Copying blob"}) {
		t.Errorf("%+v, %q, %v", image, lines, err)
	}
	_, err = r.PullImage(t.Context(), "example.com/none", func(string) {})
	if err == nil || !strings.Contains(err.Error(), "no such manifest") {
		t.Errorf("error %v", err)
	}
}

// The second sample's CPU is that of the time in between.
func TestStatsDifference(t *testing.T) {
	samples := []string{
		`{"Error":null,"Stats":[{"ContainerID":"abc","Name":"one","CPU":5,"CPUNano":1000,"SystemNano":1000000,"MemUsage":4096,"MemLimit":8192}]}`,
		`{"Error":null,"Stats":[{"ContainerID":"abc","Name":"one","CPU":5,"CPUNano":2001000,"SystemNano":2000000,"MemUsage":4096,"MemLimit":8192}]}`,
	}
	calls := 0
	r := serve(t, map[string]http.HandlerFunc{"GET /containers/stats": func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, samples[calls])
		calls++
	}})
	for _, want := range []float64{0.05, 2} {
		stats, err := r.Stats(t.Context(), []string{"abc"})
		if err != nil {
			t.Fatal(err)
		}
		if len(stats) != 1 || stats[0] != (runtime.Stats{ID: "abc", Name: "one", CPU: want, Memory: 4096, Limit: 8192}) {
			t.Errorf("got %+v, want CPU %v", stats, want)
		}
	}
}

func TestSpec(t *testing.T) {
	text, err := json.Marshal(generate(runtime.ContainerSpec{
		Name: "one", Image: "x", Cmd: []string{"a"}, Network: "net", Aliases: []string{"web"}, Memory: 1024, Restart: true,
		Ports:  []runtime.Port{{Container: 80}, {HostIP: "127.0.0.2", HostPort: 8080, Container: 81}},
		Mounts: []runtime.Mount{{Source: "/s", Target: "/t", ReadOnly: true}},
	}))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"host_ip":"127.0.0.1","container_port":80,"host_port":0`,
		`"host_ip":"127.0.0.2","container_port":81,"host_port":8080`,
		`"Networks":{"net":{"aliases":["web"]`,
		`"restart_policy":"unless-stopped"`,
		`"memory":{"limit":1024}`,
		`{"destination":"/t","type":"bind","source":"/s","options":["rbind","ro"]}`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
}

func TestBuildArgs(t *testing.T) {
	r := &Runtime{}
	got := strings.Join(r.buildArgs(runtime.BuildSpec{
		Context: "/c", Dockerfile: "d/f", Tag: "t:1", Target: "s", Volumes: []string{"/h:/v:ro"},
		Args: map[string]string{"B": "2", "A": "1"}, Labels: map[string]string{"l": "x y"},
	}, "/c/.dockerignore"), " ")
	want := "build --pull=missing --layers --tag t:1 --force-rm --format=docker --file /c/d/f --ignorefile /c/.dockerignore --target s " +
		"--build-arg A=1 --build-arg B=2 --label l=x y --volume /h:/v:ro -- /c"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	r = &Runtime{chosen: true, socket: "/x.sock"}
	if args := r.buildArgs(runtime.BuildSpec{Context: "/c"}, ""); !slices.Equal(args[:2], []string{"--url", "unix:///x.sock"}) {
		t.Errorf("with a chosen socket: %q", args)
	}
}

// A service that is stopped takes connections and does not answer: that is
// said, unless the caller has less patience.
func TestSilentService(t *testing.T) {
	usual := patience
	patience = 100 * time.Millisecond
	t.Cleanup(func() { patience = usual })
	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	socket := listener.Addr().String()
	_, err = open(t.Context(), "podman", false, Options{Socket: socket, StateDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "Podman does not answer on "+socket) ||
		!strings.Contains(err.Error(), "within 100ms") || !strings.Contains(err.Error(), "Try: ") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, _, err := dial(ctx, socket); errors.Is(err, errSilent) || !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		t.Errorf("with less patience: %v", err)
	}
}
