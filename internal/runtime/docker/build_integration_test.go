//go:build integration

package docker_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sandbox-stack/sandbox/internal/runtime"
)

const boxTag = "localhost/sandbox/dockertest/box:1"

var testLabels = map[string]string{runtime.LabelName: "dockertest"}

// box builds the image of the suite's program.
func box(t *testing.T, r runtime.Runtime) {
	t.Helper()
	dir := folder(t, "FROM scratch\nCOPY box /box\n")
	build := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(dir, "box"),
		"github.com/sandbox-stack/sandbox/internal/runtime/runtimetest/boxcmd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	if _, err := r.BuildImage(t.Context(), runtime.BuildSpec{Context: dir, Tag: boxTag, Labels: testLabels}, func(line string) { t.Log(line) }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.RemoveImage(context.Background(), boxTag); err != nil {
			t.Error(err)
		}
	})
}

func folder(t *testing.T, dockerfile string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A build that is given up ends at once, and leaves nothing of what it needed.
func TestBuildCanceled(t *testing.T) {
	r := open(t, start(t))
	box(t, r)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	dir := folder(t, "FROM "+boxTag+"\nARG UNIQUE\nRUN [\"/box\", \"wait\"]\n")
	canceled := time.Time{}
	_, err := r.BuildImage(ctx, runtime.BuildSpec{
		Context: dir, Tag: "localhost/sandbox/dockertest/never:1", Labels: testLabels,
		Args: map[string]string{"UNIQUE": time.Now().String()}, Volumes: []string{dir + ":/host:ro"},
	}, func(line string) {
		if strings.Contains(line, "ready") {
			canceled = time.Now()
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || canceled.IsZero() || time.Since(canceled) > 30*time.Second {
		t.Errorf("got %v, %s after it was given up", err, time.Since(canceled))
	}
	images, err := r.Images(t.Context(), testLabels)
	if err != nil || len(images) != 1 {
		t.Errorf("images %+v, %v; want the box alone", images, err)
	}
}

// A Dockerfile may name its syntax, an image on a public registry, also where
// that can't be reached.
func TestSyntaxDirective(t *testing.T) {
	r := open(t, start(t))
	box(t, r)
	const tag = "localhost/sandbox/dockertest/syntax:1"
	dir := folder(t, "# syntax=docker/dockerfile:1\nFROM "+boxTag+"\nARG UNIQUE\nRUN [\"/box\", \"read\", \"/host/Dockerfile\"]\n")
	var lines []string
	_, err := r.BuildImage(t.Context(), runtime.BuildSpec{
		Context: dir, Tag: tag, Labels: testLabels, Args: map[string]string{"UNIQUE": time.Now().String()}, Volumes: []string{dir + ":/host:ro"},
	}, func(line string) { lines = append(lines, line) })
	t.Log(strings.Join(lines, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(lines, "\n"), "# syntax=docker/dockerfile:1\n") {
		t.Error("the mounted file was not read")
	}
	if err := r.RemoveImage(t.Context(), tag); err != nil {
		t.Error(err)
	}
}
