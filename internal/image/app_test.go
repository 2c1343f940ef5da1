package image

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/fake"
)

func app(t *testing.T) AppBuild {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "Dockerfile"), "ARG BASE_IMAGE\nFROM $BASE_IMAGE\nARG NODE_EXTRA_CA_CERTS\nCOPY . .\n")
	write(t, filepath.Join(dir, "server.js"), "1")
	return AppBuild{
		Stack: "shop", Name: "web", Context: dir, BaseRef: "base", Args: map[string]string{"A": "1"},
		Labels: map[string]string{runtime.LabelName: "shop"},
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func engineWithBase() *fake.Runtime {
	engine := fake.New(nil)
	engine.AddImage(runtime.Image{ID: "sha256:base1", Names: []string{"base"}})
	return engine
}

func TestBuildOnce(t *testing.T) {
	engine, b := engineWithBase(), app(t)
	first, err := Build(t.Context(), engine, b, event.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if !first.Changed || !regexp.MustCompile(`^localhost/sandbox/shop/web:[0-9a-f]{12}$`).MatchString(first.Ref) {
		t.Errorf("first: %+v", first)
	}
	stored, err := engine.Image(t.Context(), first.Ref)
	if err != nil || stored.ID != first.ID || stored.Labels[runtime.LabelName] != "shop" || !strings.HasPrefix(stored.Labels[LabelBuild], first.Ref[len(first.Ref)-12:]) {
		t.Errorf("stored: %+v, %v", stored, err)
	}
	b.Labels = map[string]string{runtime.LabelRun: "another run"} // no part of what is built
	second, err := Build(t.Context(), engine, b, event.Discard)
	if err != nil || second.Changed || second.Ref != first.Ref || second.ID != first.ID {
		t.Errorf("second: %+v, %v", second, err)
	}
	if !maps.Equal(b.Args, map[string]string{"A": "1"}) {
		t.Errorf("the caller's arguments were changed: %v", b.Args)
	}
}

func TestWhatCounts(t *testing.T) {
	b := app(t)
	ref := func(change func(*AppBuild, *fake.Runtime)) string {
		engine, b := engineWithBase(), b
		b.Args = maps.Clone(b.Args)
		change(&b, engine)
		built, err := Build(t.Context(), engine, b, event.Discard)
		if err != nil {
			t.Fatal(err)
		}
		return built.Ref
	}
	seen := map[string]string{ref(func(*AppBuild, *fake.Runtime) {}): "nothing"}
	for name, change := range map[string]func(*AppBuild, *fake.Runtime){
		"an argument": func(b *AppBuild, _ *fake.Runtime) { b.Args["A"] = "2" },
		"the target":  func(b *AppBuild, _ *fake.Runtime) { b.Target = "x" },
		"the base": func(_ *AppBuild, e *fake.Runtime) {
			e.AddImage(runtime.Image{ID: "sha256:base2", Names: []string{"base"}})
		},
		"the base's argument": func(b *AppBuild, _ *fake.Runtime) {
			b.BaseArg = "FROM"
		},
		"a file": func(b *AppBuild, _ *fake.Runtime) { write(t, filepath.Join(b.Context, "server.js"), "2") },
	} {
		r := ref(change)
		if other, ok := seen[r]; ok {
			t.Errorf("%s changed: the same image as with %s changed", name, other)
		}
		seen[r] = name
		write(t, filepath.Join(b.Context, "server.js"), "1")
	}
}

// capture keeps the spec of a build, and fails it.
type capture struct {
	*fake.Runtime
	spec  runtime.BuildSpec
	lines []string
	err   error
}

func (c *capture) BuildImage(_ context.Context, spec runtime.BuildSpec, log func(string)) (runtime.Image, error) {
	c.spec = spec
	for _, line := range c.lines {
		log(line)
	}
	return runtime.Image{ID: "sha256:x"}, c.err
}

func TestBuildTrustsTheHost(t *testing.T) {
	bundle := filepath.Join(t.TempDir(), "ca.crt")
	write(t, bundle, "certificates")
	t.Setenv("SSL_CERT_FILE", bundle)
	engine := &capture{Runtime: engineWithBase()}
	if _, err := Build(t.Context(), engine, app(t), event.Discard); err != nil {
		t.Fatal(err)
	}
	if want := []string{bundle + ":" + trustPath + ":ro"}; !slices.Equal(engine.spec.Volumes, want) {
		t.Errorf("volumes %q, want %q", engine.spec.Volumes, want)
	}
	want := map[string]string{"A": "1", "BASE_IMAGE": "base", "NODE_EXTRA_CA_CERTS": trustPath}
	if !maps.Equal(engine.spec.Args, want) {
		t.Errorf("arguments %v, want %v", engine.spec.Args, want)
	}
}

func TestBuildFails(t *testing.T) {
	broken := errors.New("exit status 1")
	engine := &capture{Runtime: engineWithBase(), err: broken}
	for i := range 30 {
		engine.lines = append(engine.lines, strings.Repeat("x", i))
	}
	engine.lines = append(engine.lines, "[1/2] STEP 3/9: RUN npm ci", "npm ERROR: no network", "npm notes")
	rep := &recorder{}
	b := app(t)
	_, err := Build(t.Context(), engine, b, rep)
	var f *fault.Error
	if !errors.As(err, &f) || f.Code != fault.Failed || !errors.Is(err, broken) {
		t.Fatalf("error %v", err)
	}
	if f.Why != "at step RUN npm ci: npm ERROR: no network" || len(f.Log) != keptLines || f.Log[keptLines-1] != "npm notes" || !strings.Contains(f.Try, filepath.Join(b.Context, "Dockerfile")) {
		t.Errorf("got %+v", f)
	}
	if !slices.ContainsFunc(rep.progress, func(p event.Progress) bool {
		return p.Text == "RUN npm ci" && p.Done == 3 && p.Total == 9
	}) {
		t.Errorf("progress %+v", rep.progress)
	}
	if len(rep.lines) != len(engine.lines) {
		t.Errorf("%d lines were passed on of %d", len(rep.lines), len(engine.lines))
	}
}

func TestBuildBadInput(t *testing.T) {
	b := app(t)
	b.Dockerfile = "missing"
	if _, err := Build(t.Context(), engineWithBase(), b, event.Discard); fault.CodeOf(err) != fault.Invalid || !strings.Contains(err.Error(), "missing") {
		t.Errorf("a missing Dockerfile: %v", err)
	}
	b = app(t)
	b.BaseRef = "absent"
	if _, err := Build(t.Context(), engineWithBase(), b, event.Discard); !errors.Is(err, runtime.ErrNotFound) {
		t.Errorf("a missing base image: %v", err)
	}
}

func TestStepLines(t *testing.T) {
	for line, want := range map[string]event.Progress{
		"STEP 1/5: FROM x":             {Text: "FROM x", Done: 1, Total: 5, Unit: "steps"},
		"[2/2] STEP 10/12: COPY . .":   {Text: "COPY . .", Done: 10, Total: 12, Unit: "steps"},
		"Step 2/3 : RUN echo STEP 1/2": {Text: "RUN echo STEP 1/2", Done: 2, Total: 3, Unit: "steps"},
		"echo STEP 1/2: no":            {Text: "sending the build context", Unit: "steps"},
	} {
		l := newBuildLog(event.Discard)
		l.line(line)
		if got := l.progress(0); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v", line, got)
		}
	}
}

// Work that is silent says that it goes on.
func TestHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rep := &recorder{}
		l := newBuildLog(event.Discard)
		l.line("STEP 1/2: RUN make")
		stop := report(t.Context(), rep, l.progress)
		time.Sleep(2*heartbeat + time.Millisecond) //nolint:forbidigo // the bubble's clock
		stop()
		var texts []string
		for _, p := range rep.progress {
			texts = append(texts, p.Text)
		}
		if want := []string{"RUN make", "RUN make (2s)", "RUN make (4s)"}; !slices.Equal(texts, want) {
			t.Errorf("progress %q, want %q", texts, want)
		}
	})
}
