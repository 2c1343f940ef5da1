package packages

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
)

// fakeHost stands in for the tools of a host and counts their runs.
type fakeHost struct {
	mu      sync.Mutex
	runs    map[string]int
	fail    map[string]error
	before  map[string]func()
	missing string
}

func (h *fakeHost) lookPath(tool string) error {
	if tool == h.missing {
		return os.ErrNotExist
	}
	return nil
}

func (h *fakeHost) run(ctx context.Context, c command, onLine func(string)) error {
	h.mu.Lock()
	h.runs[c.name]++
	err := h.fail[c.name]
	h.mu.Unlock()
	if before := h.before[c.name]; before != nil {
		before()
	}
	onLine(c.name + " says something")
	if err != nil {
		return err
	}
	switch c.name {
	case "go":
		dir := c.args[slices.Index(c.args, "-o")+1]
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, "hello"), []byte("program"), 0o755)
	case "mmdebstrap":
		w := tar.NewWriter(c.stdout)
		for _, name := range []string{"./usr/bin/bash", "./usr/share/zoneinfo/UTC"} {
			if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o755}); err != nil {
				return err
			}
		}
		return w.Close()
	}
	return ctx.Err()
}

func newTestBuilder(t *testing.T, host *fakeHost) *Builder {
	t.Helper()
	host.runs = map[string]int{}
	return &Builder{
		recipes: recipes(goodRecipe), cache: t.TempDir(), caFile: "/nonexistent", runner: host, goSlot: semaphore.NewWeighted(1),
	}
}

func TestBuild(t *testing.T) {
	host := &fakeHost{}
	b := newTestBuilder(t, host)
	if _, ok, err := b.Cached("hello"); ok || err != nil {
		t.Fatalf("Cached before the build = %t, %v", ok, err)
	}
	a, err := b.Build(t.Context(), "hello", event.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if want := "localhost/sandbox/hello:1.0.0-" + a.Hash[:12]; a.Ref != want {
		t.Errorf("ref = %s, want %s", a.Ref, want)
	}
	image, err := a.image()
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if got := config.Config.Entrypoint; !slices.Equal(got, []string{"/usr/bin/hello"}) {
		t.Errorf("entrypoint = %v", got)
	}
	if got := config.Config.Healthcheck; got == nil || got.Interval != 2*time.Second {
		t.Errorf("healthcheck = %+v, want an interval of 2s", got)
	}
	if cached, ok, err := b.Cached("hello"); err != nil || !ok || cached.ImageID != a.ImageID || a.ImageID == "" {
		t.Errorf("Cached = %+v, %t, %v, want what was built", cached, ok, err)
	}

	runs := host.runs["go"]
	if _, err := b.Build(t.Context(), "hello", event.Discard); err != nil {
		t.Fatal(err)
	}
	if host.runs["go"] != runs {
		t.Error("a finished artifact was built again")
	}

	var archive bytes.Buffer
	if err := b.WriteArchive(t.Context(), a, &archive); err != nil {
		t.Fatal(err)
	}
	if names := tarNames(t, &archive); !slices.Contains(names, "manifest.json") {
		t.Errorf("archive holds %v, want a manifest.json", names)
	}
}

func tarNames(t *testing.T, r io.Reader) []string {
	t.Helper()
	var names []string
	for in := tar.NewReader(r); ; {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, header.Name)
	}
}

func TestBuildContinuesAfterAnInterruption(t *testing.T) {
	host := &fakeHost{fail: map[string]error{"mmdebstrap": errors.New("mirror gone")}}
	b := newTestBuilder(t, host)
	compiled := filepath.Join(b.cache, "parts", "go-hello-????????????")
	host.before = map[string]func(){"mmdebstrap": func() {
		waitFor(func() bool {
			found, err := filepath.Glob(compiled)
			return err != nil || len(found) == 1
		})
	}}
	if _, err := b.Build(t.Context(), "hello", event.Discard); err == nil {
		t.Fatal("the build succeeded without its Debian system")
	}
	if found := glob(t, compiled); len(found) != 1 {
		t.Fatalf("compiled in time: %v, want one part", found)
	}
	host.fail = nil
	if _, err := b.Build(t.Context(), "hello", event.Discard); err != nil {
		t.Fatal(err)
	}
	if host.runs["go"] != 1 || host.runs["mmdebstrap"] != 2 {
		t.Errorf("runs = %v, want the finished part to be used and the failed one done again", host.runs)
	}
	if left := glob(t, filepath.Join(b.cache, "*", "*.partial")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// waitFor waits a good while at most. A build calls it, so that what it waited for
// is for the test to judge.
func waitFor(done func() bool) {
	deadline := time.After(time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			return
		}
	}
}

func TestInterruptedPartIsBuiltAfresh(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "part")
	if err := os.MkdirAll(filepath.Join(dir+".partial", "garbage"), 0o700); err != nil {
		t.Fatal(err)
	}
	cached, err := once(t.Context(), dir, nil, func(partial string) error {
		return os.WriteFile(filepath.Join(partial, "good"), nil, 0o600)
	})
	if err != nil || cached {
		t.Fatalf("once = %t, %v", cached, err)
	}
	if exists(filepath.Join(dir, "garbage")) || !exists(filepath.Join(dir, "good")) {
		t.Error("the part holds what an interrupted build left")
	}
}

func TestConcurrentBuildsShareTheWork(t *testing.T) {
	host := &fakeHost{}
	b := newTestBuilder(t, host)
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			if _, err := b.Build(t.Context(), "hello", event.Discard); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if host.runs["go"] != 1 || host.runs["mmdebstrap"] != 1 {
		t.Errorf("runs = %v, want one of each", host.runs)
	}
}

func TestMissingToolsAreNamedTogether(t *testing.T) {
	b := newTestBuilder(t, &fakeHost{missing: "mmdebstrap"})
	_, err := b.Build(t.Context(), "hello", event.Discard)
	var problem *fault.Error
	if !errors.As(err, &problem) || problem.Code != fault.Unavailable || !strings.Contains(problem.Try, "apt-get install mmdebstrap") {
		t.Errorf("error = %v, want the package to install", err)
	}
}

func TestFailedToolShowsItsLastLines(t *testing.T) {
	b := newTestBuilder(t, &fakeHost{fail: map[string]error{"go": errors.New("exit status 1")}})
	_, err := b.Build(t.Context(), "hello", event.Discard)
	var problem *fault.Error
	if !errors.As(err, &problem) || len(problem.Log) == 0 || problem.Reason() != "go says something" {
		t.Errorf("error = %#v, want the tool's last line", err)
	}
}

func TestUnknownRecipeNamesTheKnown(t *testing.T) {
	_, err := newTestBuilder(t, &fakeHost{}).Build(t.Context(), "hallo", event.Discard)
	if err == nil || !strings.Contains(err.Error(), "[hello]") {
		t.Errorf("error = %v, want the known recipes", err)
	}
}

// recorder keeps what a build reports.
type recorder struct {
	mu    sync.Mutex
	texts []string
}

func (r *recorder) Progress(p event.Progress) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.texts = append(r.texts, p.Text)
}

func (r *recorder) Log(string, string) {}

func TestBoardIsNeverSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seen := &recorder{}
		b := newBoard(seen, 2)
		build, base := b.begin("go build x"), b.begin("debian bookworm")
		build.set("%d packages compiled", 7)
		time.Sleep(heartbeat + time.Second) //nolint:forbidigo // virtual time
		base.end()
		base.end()
		time.Sleep(heartbeat) //nolint:forbidigo // virtual time
		build.wait(true)
		other := b.begin("compile pause")
		build.end()
		other.end()
		b.close()
		want := []string{
			"go build x",
			"go build x · debian bookworm",
			"go build x, 7 packages compiled, 5s · debian bookworm, 5s",
			"go build x, 7 packages compiled, 6s",
			"go build x, 7 packages compiled, 10s",
			"compile pause · 1 waiting",
			"compile pause",
		}
		if !slices.Equal(seen.texts, want) {
			t.Errorf("progress\n%s\nwant\n%s", strings.Join(seen.texts, "\n"), strings.Join(want, "\n"))
		}
	})
}
