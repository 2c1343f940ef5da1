package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sandbox-stack/sandbox/images"
	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/fake"
)

// recorder is a Reporter that keeps what it is told.
type recorder struct {
	mu       sync.Mutex
	progress []event.Progress
	lines    []string
}

func (r *recorder) Progress(p event.Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.progress = append(r.progress, p)
}

func (r *recorder) Log(source, line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, source+": "+line)
}

// scripted makes archives that the fake engine reads.
type scripted struct {
	names  []string
	err    error
	built  int
	halves bool // the archive breaks off
}

func (s *scripted) Names() ([]string, error) { return s.names, nil }

func (s *scripted) Plan(name string) (Artifact, error) {
	return Artifact{Name: name, Version: "1.0", Ref: "localhost/sandbox/" + name + ":1.0-abc"}, nil
}

func (s *scripted) Build(_ context.Context, name string, _ event.Reporter) (Artifact, error) {
	s.built++
	a, _ := s.Plan(name)
	return a, s.err
}

var errHalf = errors.New("half an archive")

func (s *scripted) WriteArchive(_ context.Context, a Artifact, w io.Writer) error {
	text := fmt.Sprintf(`{"ID":"sha256:%s","Names":[%q]}`, a.Name, a.Ref)
	if s.halves {
		if _, err := io.WriteString(w, text[:10]); err != nil {
			return err
		}
		return errHalf
	}
	_, err := io.WriteString(w, text)
	return err
}

// resolver returns a Resolver whose registry example.com is up or down.
func resolver(t *testing.T, engine runtime.Runtime, mode Mode, up bool, b *scripted) *Resolver {
	t.Helper()
	pins, err := parsePins(map[string]images.Pin{
		"node":    {Ref: "example.com/node:v1@sha256:" + strings.Repeat("a", 64)},
		"grafana": {Ref: "example.com/grafana:11"},
	})
	if err != nil {
		t.Fatal(err)
	}
	p := newProbe()
	p.get = func(context.Context, string) (int, error) {
		if up {
			return 401, nil
		}
		return 0, errors.New("no route")
	}
	r, err := newResolver(engine, mode, b, pins, p)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var nodeRef = "example.com/node@sha256:" + strings.Repeat("a", 64)

func TestEnsure(t *testing.T) {
	for _, test := range []struct {
		name   string
		image  string
		mode   Mode
		up     bool
		stored string
		broken bool // the registry does not deliver
		want   Source
		ref    string
		reason string
	}{
		{name: "in the store", image: "node", up: true, stored: nodeRef, want: SourceStore, ref: nodeRef},
		{name: "built earlier", image: "node", up: true, stored: "localhost/sandbox/node:1.0-abc", want: SourceStore, ref: "localhost/sandbox/node:1.0-abc"},
		{name: "an older recipe's", image: "node", stored: "localhost/sandbox/node:1.0-old", want: SourcePackages, ref: "localhost/sandbox/node:1.0-abc"},
		{name: "registry", image: "node", up: true, want: SourceRegistry, ref: nodeRef},
		{name: "packages", image: "node", want: SourcePackages, ref: "localhost/sandbox/node:1.0-abc"},
		{name: "packages wanted", image: "node", mode: Packages, up: true, stored: nodeRef, want: SourcePackages, ref: "localhost/sandbox/node:1.0-abc"},
		{name: "registry wanted", image: "node", mode: Registry, reason: "the registry example.com can't be reached, and packages are not used"},
		{name: "registry fails", image: "node", up: true, broken: true, want: SourcePackages, ref: "localhost/sandbox/node:1.0-abc"},
		{name: "without packages", image: "grafana", reason: "the registry example.com can't be reached, and it has no package source"},
		{name: "without packages, registry fails", image: "grafana", up: true, broken: true, reason: "the registry does not deliver it, and it has no package source"},
		{name: "without digest", image: "grafana", up: true, want: SourceRegistry, ref: "example.com/grafana:11"},
		{name: "without registry", image: "nodejs", up: true, want: SourcePackages, ref: "localhost/sandbox/nodejs:1.0-abc"},
		{name: "unknown", image: "other", reason: "no registry has it, and it has no package source"},
	} {
		t.Run(test.name, func(t *testing.T) {
			engine := fake.New(nil)
			if !test.broken {
				engine.Registry = map[string]runtime.Image{nodeRef: {}, "example.com/grafana:11": {}}
			}
			if test.stored != "" {
				engine.AddImage(runtime.Image{Names: []string{test.stored}})
			}
			got, err := resolver(t, engine, test.mode, test.up, &scripted{names: []string{"node", "nodejs"}}).Ensure(t.Context(), test.image, &recorder{})
			if test.reason != "" {
				var unavailable *Unavailable
				if !errors.As(err, &unavailable) || unavailable.Name != test.image || !strings.HasPrefix(unavailable.Reason, test.reason) {
					t.Fatalf("error %v, want the reason %q", err, test.reason)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Source != test.want || got.Ref != test.ref || got.Version == "" {
				t.Errorf("got %+v", got)
			}
			if stored, err := engine.Image(t.Context(), got.Ref); err != nil || stored.ID != got.ID {
				t.Errorf("in the store: %+v, %v", stored, err)
			}
		})
	}
}

func TestEnsureFailures(t *testing.T) {
	broken := errors.New("no space left")
	b := &scripted{names: []string{"node"}, err: broken}
	if _, err := resolver(t, fake.New(nil), Auto, false, b).Ensure(t.Context(), "node", event.Discard); !errors.Is(err, broken) {
		t.Errorf("a failed build: %v", err)
	}
	b = &scripted{names: []string{"node"}, halves: true}
	if _, err := resolver(t, fake.New(nil), Auto, false, b).Ensure(t.Context(), "node", event.Discard); !errors.Is(err, errHalf) {
		t.Errorf("a broken archive: %v", err)
	}
	engine := fake.New(nil)
	engine.Fail = func(method, _ string) error {
		if method == "Image" {
			return broken
		}
		return nil
	}
	b = &scripted{names: []string{"node"}}
	if _, err := resolver(t, engine, Auto, false, b).Ensure(t.Context(), "node", event.Discard); !errors.Is(err, broken) || b.built != 0 {
		t.Errorf("a failing engine: %v, built %d times", err, b.built)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := resolver(t, fake.New(nil), Auto, true, b).Ensure(ctx, "node", event.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func TestList(t *testing.T) {
	engine := fake.New(nil)
	engine.AddImage(runtime.Image{Names: []string{"localhost/sandbox/node:1.0-abc"}, Size: 42})
	list, err := resolver(t, engine, Auto, false, &scripted{names: []string{"node", "nodejs"}}).List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []Status{
		{Name: "grafana", Version: "11", Reason: "the registry example.com can't be reached, and it has no package source"},
		{Name: "node", Version: "1.0", Source: SourceStore, Ref: "localhost/sandbox/node:1.0-abc", Present: true, Size: 42},
		{Name: "nodejs", Version: "1.0", Source: SourcePackages, Ref: "localhost/sandbox/nodejs:1.0-abc"},
	}
	if !slices.Equal(list, want) {
		t.Errorf("got  %+v\nwant %+v", list, want)
	}
	list, err = resolver(t, fake.New(nil), Registry, true, &scripted{}).List(t.Context())
	if err != nil || len(list) != 2 || list[1] != (Status{Name: "node", Version: "v1", Source: SourceRegistry, Ref: nodeRef}) {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestNewResolver(t *testing.T) {
	if _, err := NewResolver(fake.New(nil), "elsewhere", nil); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("an unknown mode: %v", err)
	}
	r, err := NewResolver(fake.New(nil), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"node", "localstack", "prometheus", "alertmanager", "grafana", "nodejs"} {
		if p := r.pins[name]; !p.verified || p.host == "" || p.version == "" || !strings.Contains(p.ref, "@sha256:") || strings.Count(p.ref, ":") != 1 {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

func TestParsePin(t *testing.T) {
	digest := "sha256:" + strings.Repeat("b", 64)
	for ref, want := range map[string]pin{
		"docker.io/kindest/node:v1@" + digest: {ref: "docker.io/kindest/node@" + digest, host: "docker.io", version: "v1", verified: true},
		"registry.k8s.io/x/y:v2":              {ref: "registry.k8s.io/x/y:v2", host: "registry.k8s.io", version: "v2"},
		"localhost:5000/x:1":                  {ref: "localhost:5000/x:1", host: "localhost:5000", version: "1"},
	} {
		if got, err := parsePin(ref); err != nil || got != want {
			t.Errorf("%s: %+v, %v", ref, got, err)
		}
	}
	if _, err := parsePin("Not A Ref"); err == nil {
		t.Error("rubbish was taken for a reference")
	}
}

// Each registry is asked once, whoever asks and however often.
func TestProbe(t *testing.T) {
	var mu sync.Mutex
	asked := map[string]int{}
	p := newProbe()
	p.get = func(_ context.Context, url string) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		asked[url]++
		switch url {
		case "https://registry-1.docker.io/v2/":
			return 401, nil
		case "https://open.example/v2/":
			return 200, nil
		case "https://proxied.example/v2/":
			return 403, nil
		}
		return 0, errors.New("no route")
	}
	var group sync.WaitGroup
	for range 5 {
		for host, want := range map[string]bool{"docker.io": true, "open.example": true, "proxied.example": false, "gone.example": false} {
			group.Go(func() {
				if err := p.reach(t.Context(), host); (err == nil) != want {
					t.Errorf("%s: %v", host, err)
				}
			})
		}
	}
	group.Wait()
	for url, n := range asked {
		if n != 1 {
			t.Errorf("%s was asked %d times", url, n)
		}
	}
}
