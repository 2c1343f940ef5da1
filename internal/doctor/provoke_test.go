package doctor

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/image"
	sandbox "github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/fake"
)

// How a check was made to fail.
const (
	forReal    = "real"     // the machine, or this process, was put into that state
	fromRecord = "recorded" // recorded files of a machine in that state
	inMemory   = "fake"     // the engine in memory, which passes the conformance suite
)

// provocation makes a check find something wrong.
type provocation struct {
	check string
	how   string
	state State
	what  string // matches Finding.What
	make  func(t *testing.T) Result
}

// TestEveryCheckFails makes every check find what it is there to find. The
// names of the subtests say whether that was real.
func TestEveryCheckFails(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range provocations() {
		seen[p.check] = true
		t.Run(strings.ReplaceAll(p.check, "/", "-")+"/"+p.how, func(t *testing.T) {
			t.Parallel()
			r := p.make(t)
			if r.State != p.state || !regexp.MustCompile(p.what).MatchString(r.What) {
				t.Fatalf("got %s %q (%s), want %s matching %q", r.State, r.What, r.Why, p.state, p.what)
			}
			if r.Why == "" || r.Fix == "" {
				t.Errorf("it does not say why, or what to try: %+v", r)
			}
			t.Logf("%s\n  %s\n  Try: %s", r.What, r.Why, r.Fix)
		})
	}
	for _, c := range Checks() {
		if !seen[c.ID] {
			t.Errorf("nothing makes %s fail", c.ID)
		}
	}
}

func provocations() []provocation {
	var list []provocation
	for _, part := range [][]provocation{engineProvocations, kernelProvocations, resourceProvocations, networkProvocations, sandboxProvocations} {
		list = append(list, part...)
	}
	return list
}

const nobody = 65534

// withoutPrograms is a PATH with no program at all.
func withoutPrograms(t *testing.T) []string { return []string{"PATH=" + t.TempDir()} }

var engineProvocations = []provocation{
	{"engine/installed", forReal, Fail, "^no container engine is installed$", func(t *testing.T) Result {
		return inChild(t, "engine/installed", condition{env: withoutPrograms(t)})
	}},
	{"engine/installed", fromRecord, Fail, "^Docker's command is not installed$", func(t *testing.T) Result {
		h := recorded(nil, "apt-get")
		h.Choose = func(context.Context) (Choice, error) {
			return Choice{Engine: "docker", Host: "unix:///run/docker.sock"}, nil
		}
		return check(t, h, Need{}, "engine/installed")
	}},
	{"engine/installed", fromRecord, Fail, "^Podman is not installed$", func(t *testing.T) Result {
		h := recorded(nil, "docker", "apt-get")
		h.Choose = func(context.Context) (Choice, error) { return Choice{Engine: "podman"}, nil }
		return check(t, h, Need{}, "engine/installed")
	}},
	{"engine/permission", forReal, Fail, `^no permission for the engine's socket /.*/podman.sock$`, func(t *testing.T) Result {
		dir := t.TempDir()
		socket := filepath.Join(dir, "podman.sock")
		listen(t, socket)
		if err := os.Chmod(socket, 0); err != nil {
			t.Fatal(err)
		}
		open(t, dir)
		if err := os.Chmod(socket, 0); err != nil {
			t.Fatal(err)
		}
		return inChild(t, "engine/permission", condition{uid: nobody, env: []string{
			"PATH=" + program(t, "podman", "exit 1"), "CONTAINER_HOST=unix://" + socket,
		}})
	}},
	// The same with Podman's own service, stopped, is in integration_test.go.
	{"engine/running", forReal, Fail, `^Podman does not answer within 5s$`, func(t *testing.T) Result {
		socket := filepath.Join(t.TempDir(), "podman.sock")
		listen(t, socket)
		h := recorded(nil, "podman")
		h.OpenEngine = func(ctx context.Context) (Engine, error) { return nil, ask(ctx, socket) }
		return check(t, h, Need{}, "engine/running")
	}},
	{"engine/running", fromRecord, Fail, `^the Podman service did not start$`, func(t *testing.T) Result {
		h := recorded(nil, "podman")
		h.OpenEngine = func(context.Context) (Engine, error) {
			return nil, &fault.Error{
				Code: fault.Unavailable, What: "the Podman service did not start", Why: "it ended: exit status 125", Try: "podman info",
				Log: []string{"cannot clone: Operation not permitted", "Error: cannot re-exec process"},
			}
		}
		r := check(t, h, Need{}, "engine/running")
		if !strings.HasSuffix(r.Why, ": Error: cannot re-exec process") {
			t.Errorf("Podman's own word is missing: %s", r.Why)
		}
		return r
	}},
	{"engine/version", forReal, Fail, `^podman 3\.4\.4 is too old$`, func(t *testing.T) Result {
		return inChild(t, "engine/version", condition{env: []string{"PATH=" + program(t, "podman", "echo podman version 3.4.4")}})
	}},
	{"engine/version", forReal, Warn, `^podman does not tell its version$`, func(t *testing.T) Result {
		return inChild(t, "engine/version", condition{env: []string{"PATH=" + program(t, "podman", "echo broken >&2; exit 125")}})
	}},
	{"engine/runtime", fromRecord, Fail, `^Podman needs runc on this machine$`, func(t *testing.T) Result {
		return check(t, recorded(map[string]string{"/usr/bin/crun": ""}, "podman", "apt-get"), Need{}, "engine/runtime")
	}},
	{"engine/runtime", fromRecord, Fail, `^neither crun nor runc is installed$`, func(t *testing.T) Result {
		return check(t, recorded(map[string]string{"/sys/fs/cgroup/cgroup.controllers": "cpu memory pids"}, "podman"), Need{}, "engine/runtime")
	}},
	{"engine/network", fromRecord, Fail, `^Podman lacks aardvark-dns$`, func(t *testing.T) Result {
		return check(t, recorded(map[string]string{"/usr/lib/podman/netavark": "", "/usr/bin/conmon": "", "/usr/sbin/nft": ""}, "podman"), Need{}, "engine/network")
	}},
	{"rootless/ids", forReal, Fail, `^(user nobody has 0 IDs in /etc/subuid|newuidmap is not installed)$`, func(t *testing.T) Result {
		asOther(t)
		return inChild(t, "rootless/ids", condition{uid: nobody, env: []string{"PATH=" + program(t, "podman", "exit 1")}})
	}},
	{"rootless/ids", fromRecord, Fail, `^user ann has 1000 IDs in /etc/subgid$`, func(t *testing.T) Result {
		h := recorded(map[string]string{
			"/etc/subuid": "bob:1:9\nann:100000:65536\n", "/etc/subgid": "ann:100000:1000\n",
			"/usr/bin/newuidmap": "", "/usr/bin/newgidmap": "",
		}, "podman")
		h.User = User{UID: 1000, Name: "ann"}
		return check(t, h, Need{}, "rootless/ids")
	}},
	{"rootless/namespaces", fromRecord, Fail, `^user namespaces are switched off$`, func(t *testing.T) Result {
		h := recorded(map[string]string{"/proc/sys/user/max_user_namespaces": "15000\n", "/proc/sys/kernel/unprivileged_userns_clone": "0\n"}, "podman")
		h.User = User{UID: 1000, Name: "ann"}
		return check(t, h, Need{}, "rootless/namespaces")
	}},
	{"rootless/cgroup", forReal, Fail, `^(a rootless cluster needs cgroup v2|user nobody has no session of systemd's)$`, func(t *testing.T) Result {
		asOther(t)
		return inChild(t, "rootless/cgroup", condition{uid: nobody, env: []string{"PATH=" + program(t, "podman", "exit 1")}})
	}},
	{"rootless/cgroup", fromRecord, Fail, `^a rootless cluster needs cgroup v2$`, func(t *testing.T) Result {
		h := v1(nil, "apt-get") // before Podman is installed
		h.User = User{UID: 1000, Name: "ann"}
		return check(t, h, Need{}, "rootless/cgroup")
	}},
	{"rootless/cgroup", fromRecord, Fail, `^user ann lacks the cgroup controllers cpu$`, func(t *testing.T) Result {
		h := recorded(map[string]string{
			"/sys/fs/cgroup/cgroup.controllers":                                              "cpu memory pids",
			"/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/cgroup.controllers": "memory pids\n",
		}, "podman")
		h.User = User{UID: 1000, Name: "ann"}
		return check(t, h, Need{}, "rootless/cgroup")
	}},
}

// asOther skips a test that is about another user, where it can't become one.
func asOther(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to become a user without anything")
	}
}

// listen opens a socket that takes connections and never answers.
func listen(t *testing.T, socket string) {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
}

// ask waits for an HTTP answer from the socket.
func ask(ctx context.Context, socket string) error {
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://engine/_ping", http.NoBody)
	if err != nil {
		return err
	}
	res, err := c.Do(req)
	if err != nil {
		return err
	}
	return res.Body.Close()
}

var networkProvocations = []provocation{
	{"network/ports", forReal, Fail, `^taken: \d+ for aws by process \d+ \(.*doctor\.test.*\)$`, func(t *testing.T) Result {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		number := l.Addr().(*net.TCPAddr).Port
		return check(t, ThisHost(), Need{Strict: true, Ports: []Port{{Number: number, Component: "aws", Key: "aws"}}}, "network/ports")
	}},
	{"network/proxy", forReal, Fail, `^the proxy http://127\.0\.0\.1:\d+ does not answer$`, func(t *testing.T) Result {
		return inChild(t, "network/proxy", condition{env: []string{"HTTPS_PROXY=http://127.0.0.1:" + closedPort(t)}})
	}},
	{"network/proxy", forReal, Fail, `^HTTPS_PROXY is not the address of a proxy$`, func(t *testing.T) Result {
		return inChild(t, "network/proxy", condition{env: []string{"HTTPS_PROXY=http://[proxy"}})
	}},
	{"network/proxy", forReal, Warn, `also asked for this machine's own addresses$`, func(t *testing.T) Result {
		s := httptest.NewServer(http.NotFoundHandler())
		t.Cleanup(s.Close)
		return inChild(t, "network/proxy", condition{env: []string{"HTTPS_PROXY=" + s.URL, "NO_PROXY=", "no_proxy="}})
	}},
	{"network/ca", forReal, Fail, `holds no certificate$`, func(t *testing.T) Result {
		file := filepath.Join(t.TempDir(), "ca.pem")
		if err := os.WriteFile(file, []byte("no certificate\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return inChild(t, "network/ca", condition{env: []string{"SSL_CERT_FILE=" + file}})
	}},
	{"network/ca", forReal, Fail, `can't be read$`, func(t *testing.T) Result {
		return inChild(t, "network/ca", condition{env: []string{"SSL_CERT_FILE=" + t.TempDir() + "/gone.pem"}})
	}},
	{"network/ca", fromRecord, Fail, `^this machine has no file of certificate authorities$`, func(t *testing.T) Result {
		return check(t, recorded(nil, "apt-get"), Need{}, "network/ca")
	}},
	{"network/dns", forReal, Warn, `^no name can be resolved$`, func(t *testing.T) Result {
		return inChild(t, "network/dns", condition{wrap: []string{"unshare", "-Urn"}, need: Need{Registries: []string{"docker.io"}}})
	}},
	{"network/registry", forReal, Warn, `^127\.0\.0\.1:\d+ can't be reached$`, func(t *testing.T) Result {
		s := httptest.NewUnstartedServer(http.NotFoundHandler())
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.StartTLS() // signed by nobody that is trusted
		t.Cleanup(s.Close)
		h := building(t, ThisHost())
		r := check(t, h, Need{Registries: []string{strings.TrimPrefix(s.URL, "https://")}}, "network/registry")
		if !strings.Contains(r.Why, "not trusted here") || !strings.Contains(r.Fix, "update-ca-certificates") {
			t.Errorf("an unknown authority: %s; %s", r.Why, r.Fix)
		}
		return r
	}},
	{"network/registry", forReal, Warn, `^127\.0\.0\.1:\d+ can't be reached$`, func(t *testing.T) Result {
		return check(t, building(t, ThisHost()), Need{Registries: []string{"127.0.0.1:" + closedPort(t)}}, "network/registry")
	}},
	{"network/registry", forReal, Fail, `^127\.0\.0\.1:\d+ can't be reached$`, func(t *testing.T) Result {
		return check(t, building(t, ThisHost()), Need{Registries: []string{"127.0.0.1:" + closedPort(t)}, Images: "registry"}, "network/registry")
	}},
	{"network/packages", forReal, Fail, `^neither a registry nor Debian packages \(http://127.*\) can be reached$`, func(t *testing.T) Result {
		return check(t, building(t, ThisHost()), Need{Registries: []string{"127.0.0.1:" + closedPort(t)}}, "network/packages")
	}},
	{"network/clock", forReal, Fail, `^this clock is 1h0m0s ahead of that of 127`, func(t *testing.T) Result {
		return behind(t, time.Hour)
	}},
	{"network/clock", forReal, Warn, `^this clock is 1m0s behind that of 127`, func(t *testing.T) Result {
		return behind(t, -time.Minute)
	}},
	{"tools/terraform", fromRecord, Warn, `^neither is installed$`, func(t *testing.T) Result {
		h := recorded(nil)
		h.Terraform = func(context.Context) (string, error) {
			return "", fault.New(fault.Unavailable, "neither is installed", "not on the PATH", "install one")
		}
		return check(t, h, Need{Terraform: true}, "tools/terraform")
	}},
	{"tools/build", fromRecord, Fail, `^not installed: gcc, go, mmdebstrap$`, func(t *testing.T) Result {
		h := building(t, recorded(nil, "apt-get"))
		r := check(t, h, Need{Registries: []string{"127.0.0.1:" + closedPort(t)}}, "tools/build")
		if !strings.Contains(r.Fix, "mmdebstrap, and install Go") || !r.Fixable {
			t.Errorf("Go comes from elsewhere, the rest from packages: %+v", r)
		}
		return r
	}},
	{"tools/build", fromRecord, Fail, `^not installed: gcc, mmdebstrap$`, func(t *testing.T) Result {
		h := building(t, recorded(map[string]string{"/usr/bin/go": ""}, "apt-get"))
		return check(t, h, Need{Registries: []string{"127.0.0.1:" + closedPort(t)}}, "tools/build")
	}},
}

// building is a host that has no image and one source for it, which does not
// answer.
func building(t *testing.T, h *Host) *Host {
	h.Net.Registry = image.Reach
	url := "http://127.0.0.1:" + closedPort(t)
	h.Unbuilt = func(context.Context, Engine) ([]string, error) { return []string{"node"}, nil }
	h.Sources = func(context.Context, []string) ([]Source, error) {
		return []Source{{Name: "Debian packages", URL: url, Programs: []string{"gcc", "go", "mmdebstrap"}}}, nil
	}
	return h
}

// closedPort is a port that nobody listens on, nor can while the test runs: it is
// bound.
func closedPort(t *testing.T) string {
	t.Helper()
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Close(socket); err != nil {
			t.Error(err)
		}
	})
	unix.CloseOnExec(socket)
	if err := unix.Bind(socket, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	address, err := unix.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(address.(*unix.SockaddrInet4).Port)
}

// behind asks a server whose clock is behind this one by the duration.
func behind(t *testing.T, by time.Duration) Result {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", time.Now().Add(-by).UTC().Format(http.TimeFormat))
	}))
	t.Cleanup(s.Close)
	h := ThisHost()
	h.Sources = func(context.Context, []string) ([]Source, error) {
		return []Source{{Name: "Debian packages", URL: s.URL}}, nil
	}
	r := check(t, h, Need{}, "network/clock")
	r.What = regexp.MustCompile(`(1h0m|59m|1m|59|0m59|1h0m1|1m1|1h0m0|1m0)[0-9]*s`).ReplaceAllStringFunc(r.What, func(d string) string {
		if got, err := time.ParseDuration(d); err == nil {
			return got.Round(time.Minute).String() // a second more or less is the header's rounding
		}
		return d
	})
	return r
}

var sandboxProvocations = []provocation{
	{"sandboxes/leftovers", inMemory, Warn, `^no state folder here has: lost \(1 container, 1 network\)$`, func(t *testing.T) Result {
		return withSandboxes(t, nil, "lost", "sandboxes/leftovers")
	}},
	{"sandboxes/leftovers", inMemory, Warn, `^nothing is left of: gone$`, func(t *testing.T) Result {
		return withSandboxes(t, []Sandbox{{Name: "gone", Recorded: true}, {Name: "new"}, {Name: "busy", Recorded: true, Busy: true}, {Name: "docked", Recorded: true, Engine: "docker"}}, "", "sandboxes/leftovers")
	}},
	{"sandboxes/others", inMemory, Skip, `^unknown: which sandboxes there are$`, func(t *testing.T) Result {
		h := recorded(nil, "podman")
		engine := fake.New(nil)
		engine.Fail = func(method, _ string) error {
			if method == "Containers" {
				return errors.New("the storage is locked")
			}
			return nil
		}
		h.OpenEngine = func(context.Context) (Engine, error) { return engine, nil }
		r := check(t, h, Need{}, "sandboxes/others")
		r.Fix = "nothing" // others are never a fault
		return r
	}},
}

// withSandboxes makes a check with the state folders, and with an engine that
// holds a network and a container of the named sandbox.
func withSandboxes(t *testing.T, folders []Sandbox, live, id string) Result {
	t.Helper()
	engine := fake.New(nil)
	engine.Registry = map[string]sandbox.Image{"localhost/app": {Names: []string{"localhost/app"}}}
	if live != "" {
		labels := map[string]string{sandbox.LabelName: live}
		if _, err := engine.CreateNetwork(t.Context(), "sandbox-"+live, labels); err != nil {
			t.Fatal(err)
		}
		if _, err := engine.PullImage(t.Context(), "localhost/app", func(string) {}); err != nil {
			t.Fatal(err)
		}
		c, err := engine.CreateContainer(t.Context(), sandbox.ContainerSpec{Name: "sandbox-" + live + "-aws", Image: "localhost/app", Labels: labels})
		if err != nil {
			t.Fatal(err)
		}
		if err := engine.StartContainer(t.Context(), c.ID); err != nil {
			t.Fatal(err)
		}
	}
	h := recorded(nil, "podman")
	h.OpenEngine = func(context.Context) (Engine, error) { return engine, nil }
	h.Sandboxes = func() ([]Sandbox, error) { return folders, nil }
	h.Owner = func(c sandbox.Container) string { return c.Labels[sandbox.LabelName] }
	return check(t, h, Need{}, id)
}
