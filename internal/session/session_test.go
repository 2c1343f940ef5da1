package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/plan"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/fake"
	"github.com/sandbox-stack/sandbox/internal/stack"
	"github.com/sandbox-stack/sandbox/internal/state"
	"github.com/sandbox-stack/sandbox/internal/steps"
)

// useEngine makes the engine of every session a fake one, in a home of its own.
func useEngine(t *testing.T) *fake.Runtime {
	t.Helper()
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	engine := fake.New(nil)
	old := openEngine
	openEngine = func(context.Context, string) (runtime.Runtime, error) { return engine, nil }
	t.Cleanup(func() { openEngine = old })
	return engine
}

func wanted(t *testing.T, name string) Wanted {
	t.Helper()
	w, err := Load("web-app", name)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

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
	p, err := freePort()
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

func TestTheRecordOutlivesTheStackFile(t *testing.T) {
	useEngine(t)
	dir := filepath.Join(t.TempDir(), "mine")
	if err := os.CopyFS(dir, os.DirFS("../../stacks/minimal")); err != nil {
		t.Fatal(err)
	}
	w, err := Load(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Start(t.Context(), w, Options{AutoPorts: true, Images: "packages"})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.setRef(plan.NodeImage, "localhost/sandbox/node:1"), s.Close()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, stack.FileName), []byte("broken: ["), 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := recorded("minimal")
	if err != nil {
		t.Fatal(err)
	}
	if again.stack.Dir != w.Stack.Dir || len(again.stack.Spec.Releases) != 1 || again.opt.Images != "packages" ||
		again.ref(plan.NodeImage) != "localhost/sandbox/node:1" || again.ports["prometheus"] != s.ports["prometheus"] {
		t.Errorf("read back %+v of %+v", again, s)
	}
	name, err := One("")
	if err != nil || name != "minimal" {
		t.Errorf("the only sandbox: %q, %v", name, err)
	}
}

func TestDownGoesByLabels(t *testing.T) {
	engine := useEngine(t)
	ctx := t.Context()
	ours, foreign := map[string]string{runtime.LabelName: "demo"}, map[string]string{runtime.LabelName: "other"}
	engine.AddImage(runtime.Image{ID: "sha256:1", Names: []string{"built"}, Labels: ours})
	engine.AddImage(runtime.Image{ID: "sha256:2", Names: []string{"platform"}})
	for i, c := range []runtime.ContainerSpec{
		{Name: "sandbox-demo-aws", Labels: ours},
		{Name: "renamed", Labels: ours},
		{Name: "sandbox-demo-prometheus", Labels: foreign},
		{Name: "sandbox-demo-x"},
	} {
		c.Image = "platform"
		if _, err := engine.CreateContainer(ctx, c); err != nil {
			t.Fatal(i, err)
		}
	}
	for name, labels := range map[string]map[string]string{"sandbox-demo": ours, "sandbox-other": foreign} {
		if _, err := engine.CreateNetwork(ctx, name, labels); err != nil {
			t.Fatal(err)
		}
	}
	engine.AddVolume(runtime.Volume{Name: "v", Labels: ours})
	dir, err := state.Open("demo")
	if err != nil {
		t.Fatal(err)
	}

	var finished event.RunFinished
	sink := event.SinkFunc(func(e event.Envelope) error {
		if e.RunFinished != nil {
			finished = *e.RunFinished
		}
		return nil
	})
	if err := Down(ctx, "demo", false, sink); err != nil {
		t.Fatal(err)
	}
	if !finished.OK {
		t.Error("the run did not end well")
	}
	left, err := engine.Containers(ctx, nil)
	if err != nil || len(left) != 2 {
		t.Errorf("containers: %+v, %v; want the two that are not ours", left, err)
	}
	if nets, err := engine.Networks(ctx, nil); err != nil || len(nets) != 1 || nets[0].Name != "sandbox-other" {
		t.Errorf("networks: %+v, %v", nets, err)
	}
	if vols, err := engine.Volumes(ctx, nil); err != nil || len(vols) != 0 {
		t.Errorf("volumes: %+v, %v", vols, err)
	}
	if imgs, err := engine.Images(ctx, nil); err != nil || len(imgs) != 2 {
		t.Errorf("images: %+v, %v; want both kept", imgs, err)
	}
	if _, err := os.Stat(dir.Path()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the state folder is left: %v", err)
	}
	if err := Down(ctx, "demo", true, sink); err != nil {
		t.Fatal("again:", err)
	}
	if imgs, err := engine.Images(ctx, nil); err != nil || len(imgs) != 1 || imgs[0].Names[0] != "platform" {
		t.Errorf("images: %+v, %v; want the built one gone", imgs, err)
	}
}

func TestAllFindsWhatHasNoRecord(t *testing.T) {
	engine := useEngine(t)
	if _, err := state.Open("recorded"); err != nil {
		t.Fatal(err)
	}
	if _, err := engine.CreateNetwork(t.Context(), "n", map[string]string{runtime.LabelName: "lost"}); err != nil {
		t.Fatal(err)
	}
	got, err := All(t.Context())
	if err != nil || !slices.Equal(got, []string{"lost", "recorded"}) {
		t.Errorf("got %v, %v", got, err)
	}
}

// Grafana is the one component that a stack can do without.
func TestAnImageFromNowhere(t *testing.T) {
	useEngine(t)
	for _, tc := range []struct {
		image  string
		strict bool
		off    bool
	}{{plan.GrafanaImage, false, true}, {plan.GrafanaImage, true, false}, {"no-such-image", false, false}} {
		s, err := Start(t.Context(), wanted(t, "demo"), Options{AutoPorts: true, Images: "packages", Strict: tc.strict})
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.ensurePlatform(t.Context(), tc.image, event.Discard)
		var off *steps.Off
		if errors.As(err, &off) != tc.off || (!tc.off && fault.CodeOf(err) != fault.Unavailable) {
			t.Errorf("%s, strict %v: %v", tc.image, tc.strict, err)
		}
		if tc.off {
			if h := s.observers()[2].Probe(t.Context())[0]; h.State != event.StateOff || h.Reason != off.Reason {
				t.Errorf("health of grafana: %+v", h)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEveryItemOfAPlanHasAPart(t *testing.T) {
	useEngine(t)
	s := newSession("demo", wanted(t, "demo").Stack, Options{}, nil)
	for _, it := range plan.Build(s.stack) {
		if s.part(it) == nil {
			t.Errorf("no part for %s", it.ID)
		}
	}
	if _, err := s.part(plan.Item{Kind: "new", ID: "new"})(t.Context(), event.Discard); err == nil {
		t.Error("an unknown kind of item must be an error")
	}
}

func TestSeveralNodesNeedTheRegistry(t *testing.T) {
	useEngine(t)
	w := wanted(t, "demo")
	w.Stack.Spec.Cluster.Nodes = 2
	_, err := Start(t.Context(), w, Options{AutoPorts: true, Images: "packages"})
	if fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "a cluster of 2 nodes") {
		t.Errorf("got %v", err)
	}
}

func TestNeeds(t *testing.T) {
	useEngine(t)
	s := newSession("demo", wanted(t, "demo").Stack, Options{}, nil)
	got := s.needs()["release/web-app"]
	slices.Sort(got)
	if want := []string{"aws", "image/web-app", "terraform/infra"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestImageRef(t *testing.T) {
	got := imageRef("localhost:5000/a/b:1.2")
	if got.Repository != "localhost:5000/a/b" || got.Tag != "1.2" {
		t.Errorf("got %+v", got)
	}
}

func TestMergedLogs(t *testing.T) {
	source := func(name, text string) logSource {
		return logSource{name, func(_ context.Context, w io.Writer) error {
			_, err := io.WriteString(w, text)
			return err
		}}
	}
	var out bytes.Buffer
	sources := []logSource{source("aws", "one\r\ntwo"), source("release/x", "\x1b[31mred\x1b[0m\n")}
	if err := mergeLogs(t.Context(), sources, false, &out); err != nil {
		t.Fatal(err)
	}
	if want := "aws       | one\naws       | two\nrelease/x | red\n"; out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
	}
	out.Reset()
	if err := mergeLogs(t.Context(), sources[:1], true, &out); err != nil {
		t.Fatal(err)
	}
	if out.String() != "one\ntwo\n" {
		t.Errorf("a single source needs no prefix: %q", out.String())
	}
	broken := logSource{"aws", func(context.Context, io.Writer) error { return errors.New("engine gone") }}
	if err := mergeLogs(t.Context(), []logSource{broken}, false, &out); err == nil || !strings.Contains(err.Error(), "engine gone") {
		t.Errorf("got %v", err)
	}
}
