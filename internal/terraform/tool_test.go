package terraform

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
)

// recorder is a Reporter that keeps what it hears.
type recorder struct {
	mu       sync.Mutex
	progress []event.Progress
	lines    []string
	onLine   func(line string)
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
	if r.onLine != nil {
		r.onLine(line)
	}
}

func (r *recorder) log() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.lines, "\n")
}

// write lays out files below dir.
func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// module returns a module of the files, in a workspace of its own.
func module(t *testing.T, files map[string]string, change ...func(*Config)) *Module {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "src"), files)
	cfg := Config{
		Name: "infra", SourceDir: filepath.Join(dir, "src"), Workspace: filepath.Join(dir, "ws"),
		CacheDir: filepath.Join(dir, "cache"), Endpoint: "http://127.0.0.1:4566", Generation: "one",
	}
	for _, c := range change {
		c(&cfg)
	}
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// asFault returns the fault in err's chain and fails the test without one.
func asFault(t *testing.T, err error) *fault.Error {
	t.Helper()
	var f *fault.Error
	if !errors.As(err, &f) {
		t.Fatalf("error is no fault: %v", err)
	}
	return f
}

// fakeTool puts a program on the PATH that answers "version -json".
func fakeTool(t *testing.T, name, version string) string {
	t.Helper()
	dir := t.TempDir()
	script := "#!/bin/sh\necho '{\"terraform_version\": \"" + version + "\", \"platform\": \"linux_amd64\", \"provider_selections\": {}}'\n"
	if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	return filepath.Join(dir, name)
}

func TestDetectFindsWhicheverIsThere(t *testing.T) {
	path := fakeTool(t, "tofu", "1.12.6")
	for _, want := range []string{"", "auto", "tofu", path} {
		tool, err := Detect(context.Background(), want)
		if err != nil {
			t.Fatalf("Detect(%q): %v", want, err)
		}
		if tool.Name != "tofu" || tool.Path != path || tool.Version != "1.12.6" || tool.host() != tofuHost {
			t.Errorf("Detect(%q) = %+v", want, tool)
		}
	}
}

func TestDetectFaults(t *testing.T) {
	t.Run("none installed", func(t *testing.T) {
		t.Setenv("PATH", t.TempDir())
		_, err := Detect(context.Background(), "auto")
		f := asFault(t, err)
		if f.Code != fault.Unavailable || f.What != "neither terraform nor tofu is installed" || f.Try == "" {
			t.Errorf("fault = %+v", f)
		}
	})
	t.Run("the wanted one is missing", func(t *testing.T) {
		fakeTool(t, "tofu", "1.12.6")
		_, err := Detect(context.Background(), "terraform")
		if f := asFault(t, err); f.What != "terraform is not installed" {
			t.Errorf("fault = %+v", f)
		}
	})
	t.Run("too old", func(t *testing.T) {
		fakeTool(t, "terraform", "1.3.9")
		_, err := Detect(context.Background(), "")
		f := asFault(t, err)
		if f.Code != fault.Unavailable || !strings.Contains(f.What, "1.3.9") || !strings.Contains(f.Why, "1.5.0") {
			t.Errorf("fault = %+v", f)
		}
	})
}
