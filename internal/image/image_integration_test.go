//go:build integration

package image_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/image"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/detect"
)

const testName = "imagetest"

// A real build: the base image is passed in, the host's certificates are there
// for RUN steps and not in the image, an unchanged image is not built again,
// and a failing step is named.
func TestBuildForReal(t *testing.T) {
	engine, _, err := detect.Open(t.Context(), detect.Choice{}, t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	clean(t, engine)
	t.Cleanup(func() { clean(t, engine) })
	labels := map[string]string{runtime.LabelName: testName}

	base := t.TempDir()
	program := exec.Command("go", "build", "-trimpath", "-o", filepath.Join(base, "box"),
		"github.com/sandbox-stack/sandbox/internal/runtime/runtimetest/boxcmd")
	program.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := program.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	write(t, filepath.Join(base, "Dockerfile"), "FROM scratch\nCOPY box /box\nENTRYPOINT [\"/box\"]\n")
	platform, err := image.Build(t.Context(), engine, image.AppBuild{Stack: testName, Name: "base", Context: base, Labels: labels}, event.Discard)
	if err != nil {
		t.Fatal(err)
	}

	ca := filepath.Join(t.TempDir(), "ca.crt")
	write(t, ca, "the host's certificates as of "+time.Now().String()) // an engine may know the same step
	t.Setenv("SSL_CERT_FILE", ca)
	app := t.TempDir()
	write(t, filepath.Join(app, "Dockerfile"), `ARG BASE_IMAGE=example.com/never-asked
FROM $BASE_IMAGE
ARG NODE_EXTRA_CA_CERTS
RUN ["/box", "env", "NODE_EXTRA_CA_CERTS"]
RUN ["/box", "read", "/etc/ssl/certs/ca-certificates.crt"]
COPY greeting /greeting
`)
	write(t, filepath.Join(app, "greeting"), "hello")
	b := image.AppBuild{Stack: testName, Name: "app", Context: app, BaseRef: platform.Ref, Labels: labels}
	log := &lines{}
	first, err := image.Build(t.Context(), engine, b, log)
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	if !first.Changed || !strings.Contains(log.String(), "the host's certificates") || !strings.Contains(log.String(), "/etc/ssl/certs/ca-certificates.crt") {
		t.Errorf("%+v; the build says:\n%s", first, log)
	}
	second, err := image.Build(t.Context(), engine, b, log)
	if err != nil || second.Changed || second.ID != first.ID {
		t.Errorf("again: %+v, %v", second, err)
	}
	if text := run(t, engine, first.Ref, "read", "/greeting"); text != "hello" {
		t.Errorf("the image says %q", text)
	}
	if text := run(t, engine, first.Ref, "read", "/etc/ssl/certs/ca-certificates.crt"); strings.Contains(text, "certificates\n") || strings.Contains(text, "the host's") {
		t.Errorf("the host's certificates are in the image: %q", text)
	}
	if text := run(t, engine, first.Ref, "env", "NODE_EXTRA_CA_CERTS"); strings.TrimSpace(text) != "" {
		t.Errorf("the build's variable is in the image: %q", text)
	}

	write(t, filepath.Join(app, "Dockerfile"), "ARG BASE_IMAGE\nFROM $BASE_IMAGE\nRUN [\"/box\", \"read\", \"/missing\"]\n")
	_, err = image.Build(t.Context(), engine, b, event.Discard)
	var f *fault.Error
	if !errors.As(err, &f) || !strings.Contains(f.Why, "/missing") || !strings.Contains(strings.Join(f.Log, "\n"), "no such file") {
		t.Errorf("a failing step: %+v", err)
	}
}

// clean removes what this test, now or earlier, has created.
func clean(t *testing.T, engine runtime.Runtime) {
	t.Helper()
	labels := map[string]string{runtime.LabelName: testName}
	containers, err := engine.Containers(context.Background(), labels)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range containers {
		if err := engine.RemoveContainer(context.Background(), c.ID); err != nil {
			t.Error(err)
		}
	}
	images, err := engine.Images(context.Background(), labels)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range images {
		for _, name := range i.Names {
			if err := engine.RemoveImage(context.Background(), name); err != nil {
				t.Error(err)
			}
		}
	}
}

// run runs the image's program to its end and returns its output.
func run(t *testing.T, engine runtime.Runtime, ref string, cmd ...string) string {
	t.Helper()
	c, err := engine.CreateContainer(t.Context(), runtime.ContainerSpec{
		Name: "sandbox-imagetest", Image: ref, Cmd: cmd, Labels: map[string]string{runtime.LabelName: testName},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := engine.RemoveContainer(t.Context(), c.ID); err != nil {
			t.Error(err)
		}
	}()
	if err := engine.StartContainer(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder // following ends with the container
	if err := engine.Logs(t.Context(), c.ID, runtime.LogOptions{Follow: true}, &out); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out.String())
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// lines is a Reporter that keeps the log.
type lines struct{ strings.Builder }

func (l *lines) Progress(event.Progress) {}

func (l *lines) Log(_, line string) { l.WriteString(line + "\n") }
