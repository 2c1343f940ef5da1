package buildah

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/fake"
)

func TestFlags(t *testing.T) {
	got := strings.Join(Flags(runtime.BuildSpec{
		Context: "/c", Dockerfile: "d/f", Tag: "t:1", Target: "s", Volumes: []string{"/h:/v:ro"}, CPUShares: 7,
		Args: map[string]string{"B": "2", "A": "1"}, Labels: map[string]string{"l": "x y"},
	}, "/c/.dockerignore"), " ")
	want := "--tag t:1 --force-rm --format=docker --file /c/d/f --ignorefile /c/.dockerignore --target s " +
		"--build-arg A=1 --build-arg B=2 --label l=x y --cpu-shares 7 --volume /h:/v:ro -- /c"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestWithoutBuildah(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := New(fake.New(nil), t.TempDir())
	if fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "Buildah is not installed") || !strings.Contains(err.Error(), "Try: ") {
		t.Errorf("got %v", err)
	}
}

// What Buildah says when it fails reaches the log, and nothing is handed over.
func TestFailingBuild(t *testing.T) {
	bin := t.TempDir()
	for name, text := range map[string]string{
		"buildah": "#!/bin/sh\necho \"called with $1\"\necho 'it broke' >&2\nexit 2\n",
		"nice":    "#!/bin/sh\nshift 2\nexec \"$@\"\n",
	} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	context := t.TempDir()
	if err := os.WriteFile(filepath.Join(context, "Dockerfile"), []byte("FROM scratch\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	engine := fake.New(nil)
	b, err := New(engine, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	_, err = b.BuildImage(t.Context(), runtime.BuildSpec{Context: context, Tag: "t:1"}, func(line string) { lines = append(lines, line) })
	if err == nil || !strings.Contains(err.Error(), `build image "t:1": buildah build: exit status 2`) {
		t.Errorf("got %v", err)
	}
	if got := strings.Join(lines, "\n"); got != "called with build\nit broke" {
		t.Errorf("log: %s", got)
	}
	if _, err := b.BuildImage(t.Context(), runtime.BuildSpec{Context: t.TempDir(), Tag: "t:1"}, func(string) {}); err == nil {
		t.Error("a missing Dockerfile went unnoticed")
	}
}

func TestImages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "Dockerfile")
	const text = "ARG BASE\nFROM $BASE AS one\nfrom --platform=linux/amd64 base:1\nCOPY --from=one /a /b\nRUN --mount=type=bind,from=tools:2,target=/t x\n# FROMAGE\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := images(path, runtime.BuildSpec{Args: map[string]string{"BASE": "localhost/x:1", "CA": "/etc/ca", "TEXT": "two words"}})
	if err != nil || strings.Join(got, " ") != "base:1 localhost/x:1 one tools:2" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := images(path+".missing", runtime.BuildSpec{}); err == nil {
		t.Error("a missing Dockerfile went unnoticed")
	}
}
