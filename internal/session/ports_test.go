package session

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/fake"
	"github.com/sandbox-stack/sandbox/internal/stack"
	"github.com/sandbox-stack/sandbox/internal/state"
)

// listen takes a port of this machine and returns it.
func listen(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).Port
}

func TestATakenPortNamesItsProcessAndLeavesNothing(t *testing.T) {
	useEngine(t)
	w := wanted(t, "demo")
	w.Stack.Spec.Ports = stack.Ports{AWS: listen(t), Prometheus: free(t), Alertmanager: free(t), Grafana: free(t)}
	_, err := Start(t.Context(), w, Options{})
	var f *fault.Error
	if !errors.As(err, &f) || f.Code != fault.Conflict {
		t.Fatalf("got %v, want a conflict", err)
	}
	for _, want := range []string{fmt.Sprintf("port %d for aws", w.Stack.Spec.Ports.AWS), fmt.Sprintf("process %d", os.Getpid())} {
		if !strings.Contains(f.What, want) {
			t.Errorf("%q does not say %q", f.What, want)
		}
	}
	if names, err := state.List(); err != nil || len(names) != 0 {
		t.Errorf("left %v, %v", names, err)
	}
}

func free(t *testing.T) int {
	t.Helper()
	p, err := freePort(nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAutoPortsAreKept(t *testing.T) {
	engine := useEngine(t)
	w := wanted(t, "demo")
	w.Stack.Spec.Ports = stack.Ports{AWS: listen(t), Prometheus: listen(t), Alertmanager: listen(t), Grafana: listen(t)}
	s, err := Start(t.Context(), w, Options{AutoPorts: true})
	if err != nil {
		t.Fatal(err)
	}
	first := s.ports
	for key, p := range first {
		if p == 0 {
			t.Errorf("no port for %s", key)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// What our own container publishes stays, and so does what was recorded,
	// also without being asked again.
	engine.AddImage(runtime.Image{ID: "sha256:1", Names: []string{"x"}})
	held := free(t)
	c, err := engine.CreateContainer(t.Context(), runtime.ContainerSpec{
		Name: "sandbox-demo-prometheus", Image: "x", Ports: []runtime.Port{{HostIP: loopback, HostPort: held, Container: 9090}},
		Labels: map[string]string{runtime.LabelName: "demo", runtime.LabelComponent: "observe/prometheus"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := engine.StartContainer(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	s, err = Start(t.Context(), w, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.ports["prometheus"] != held || s.ports["aws"] != first["aws"] {
		t.Errorf("ports %v, want prometheus on %d and the rest of %v", s.ports, held, first)
	}
}

// publish lets a container of the sandbox publish a port for its emulator.
func publish(t *testing.T, engine *fake.Runtime, sandbox string, hostPort int, running bool) {
	t.Helper()
	engine.AddImage(runtime.Image{ID: "sha256:1", Names: []string{"x"}})
	c, err := engine.CreateContainer(t.Context(), runtime.ContainerSpec{
		Name: "sandbox-" + sandbox + "-aws", Image: "x",
		Ports:  []runtime.Port{{HostIP: loopback, HostPort: hostPort, Container: 4566}},
		Labels: map[string]string{runtime.LabelName: sandbox, runtime.LabelComponent: "aws"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if !running {
		return
	}
	if err := engine.StartContainer(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
}

// A port that is not free is ours where our own running container has it.
func TestAPortHeldByOurOwnContainer(t *testing.T) {
	for name, tc := range map[string]struct {
		sandbox string
		running bool
		paused  bool
		kept    bool
	}{
		"ours":              {"demo", true, false, true},
		"ours, paused":      {"demo", true, true, true},
		"ours, stopped":     {"demo", false, false, false},
		"another sandbox's": {"other", true, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			engine := useEngine(t)
			w := wanted(t, "demo")
			taken := listen(t) // the engine's proxy, or whoever took it meanwhile
			w.Stack.Spec.Ports = stack.Ports{AWS: taken, Prometheus: free(t), Alertmanager: free(t), Grafana: free(t)}
			publish(t, engine, tc.sandbox, taken, tc.running)
			if tc.paused {
				if err := engine.PauseContainer(t.Context(), "sandbox-demo-aws"); err != nil {
					t.Fatal(err)
				}
			}
			s, err := Start(t.Context(), w, Options{})
			if !tc.kept {
				if fault.CodeOf(err) != fault.Conflict {
					t.Fatalf("got %v, want a conflict", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if s.ports["aws"] != taken {
				t.Errorf("ports %v, want aws on %d", s.ports, taken)
			}
		})
	}
}

func TestAutoPortsLeaveATakenOne(t *testing.T) {
	engine := useEngine(t)
	w := wanted(t, "demo")
	taken := listen(t)
	w.Stack.Spec.Ports = stack.Ports{AWS: taken, Prometheus: free(t), Alertmanager: free(t), Grafana: free(t)}
	publish(t, engine, "demo", taken, false) // it had the port before another process took it
	s, err := Start(t.Context(), w, Options{AutoPorts: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	seen := map[int]string{taken: "another process"}
	for key, p := range s.ports {
		if by, known := seen[p]; known || p == 0 {
			t.Errorf("port %d for %s is that of %s", p, key, by)
		}
		seen[p] = key
	}
}

func TestAStackWithoutAWSAndMetricsPublishesNothing(t *testing.T) {
	useEngine(t)
	w := wanted(t, "demo")
	w.Stack.Spec.AWS.Emulator = "none"
	off := false
	w.Stack.Spec.Observability.Enabled = &off
	s, err := Start(t.Context(), w, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if len(s.ports) != 0 {
		t.Errorf("ports %v", s.ports)
	}
}
