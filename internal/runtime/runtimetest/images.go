package runtimetest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandbox-stack/sandbox/internal/runtime"
)

func testImages(t *testing.T, s *suite) {
	ctx := testContext(t)
	image, err := s.rt.Image(ctx, baseImage)
	must(t, err)
	if !strings.HasPrefix(image.ID, "sha256:") || !slices.Contains(image.Names, baseImage) || image.Labels[runtime.LabelName] != Name {
		t.Errorf("got %+v", image)
	}
	byID, err := s.rt.Image(ctx, image.ID)
	must(t, err)
	if byID.ID != image.ID {
		t.Errorf("by ID: %+v", byID)
	}
	images, err := s.rt.Images(ctx, s.labels)
	must(t, err)
	if !slices.ContainsFunc(images, func(i runtime.Image) bool { return i.ID == image.ID && slices.Contains(i.Names, baseImage) }) {
		t.Errorf("listed: %+v", images)
	}
	none, err := s.rt.Images(ctx, map[string]string{runtime.LabelName: "other-" + Name})
	must(t, err)
	if len(none) != 0 {
		t.Errorf("with another label: %+v", none)
	}
}

func testSaveAndLoad(t *testing.T, s *suite) {
	ctx := testContext(t)
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "Dockerfile"), "FROM "+baseImage+"\nCOPY file /file\n")
	writeFile(t, filepath.Join(dir, "file"), "content")
	const tag = "localhost/sandbox/runtimetest/saved:1"
	built := s.build(t, runtime.BuildSpec{Context: dir, Tag: tag, Labels: s.labels})

	path := filepath.Join(t.TempDir(), "image.tar")
	file, err := os.Create(path)
	must(t, err)
	must(t, s.rt.SaveImage(ctx, tag, file))
	must(t, file.Close())
	must(t, s.rt.RemoveImage(ctx, tag))
	_, err = s.rt.Image(ctx, tag)
	mustBe(t, err, runtime.ErrNotFound)

	file, err = os.Open(path)
	must(t, err)
	names, err := s.rt.LoadImage(ctx, file)
	must(t, err)
	_ = file.Close() // an HTTP client may have closed it
	if !slices.Contains(names, tag) {
		t.Errorf("loaded %q, want %s among them", names, tag)
	}
	loaded, err := s.rt.Image(ctx, tag)
	must(t, err)
	if loaded.ID != built.ID || loaded.Labels[runtime.LabelName] != Name {
		t.Errorf("loaded %+v, want %+v", loaded, built)
	}
	if _, err := s.rt.LoadImage(ctx, strings.NewReader("not an archive")); err == nil {
		t.Error("rubbish was loaded")
	}
}

func testBuild(t *testing.T, s *suite) {
	ctx := testContext(t)
	dir, mounted := t.TempDir(), t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "docker"), 0o755))
	writeFile(t, filepath.Join(dir, "docker", "app.Dockerfile"), `ARG BASE
FROM $BASE AS first
ARG TEXT
RUN ["/box", "read", "/host/ca"]
RUN ["/box", "write", "/text", "plain"]
COPY . /context/

FROM $BASE AS second
RUN ["/box", "exit", "9"]
`)
	writeFile(t, filepath.Join(dir, "kept"), "kept")
	writeFile(t, filepath.Join(dir, "dropped.log"), "dropped")
	writeFile(t, filepath.Join(dir, "docker", "app.Dockerfile.dockerignore"), "*.log\n")
	writeFile(t, filepath.Join(dir, ".dockerignore"), "kept\n") // the one beside the Dockerfile counts
	writeFile(t, filepath.Join(mounted, "ca"), "the host's CA")
	const tag = "localhost/sandbox/runtimetest/built:1"
	unique := time.Now().Format(time.RFC3339Nano) // a cached step says nothing
	var lines lineLog
	image, err := s.rt.BuildImage(ctx, runtime.BuildSpec{
		Context:    dir,
		Dockerfile: "docker/app.Dockerfile",
		Tag:        tag,
		Target:     "first",
		Args:       map[string]string{"BASE": baseImage, "TEXT": unique},
		Labels:     map[string]string{runtime.LabelName: Name, "sandbox.build": "abc"},
		Volumes:    []string{mounted + ":/host:ro"},
	}, lines.add)
	if err != nil {
		t.Fatalf("%v\n%s", err, lines.String())
	}
	if image.Labels["sandbox.build"] != "abc" || !slices.Contains(image.Names, tag) {
		t.Errorf("got %+v", image)
	}
	if !s.features.Build {
		return
	}
	if !strings.Contains(lines.String(), "the host's CA") {
		t.Errorf("the mounted file was not read, or the output is lost:\n%s", lines.String())
	}
	for path, want := range map[string]string{"/text": "plain", "/context/kept": "kept"} {
		if code, log := s.runBox(t, tag, "read", path); code != 0 || strings.TrimSpace(log) != want {
			t.Errorf("%s: code %d, %q", path, code, log)
		}
	}
	for _, path := range []string{"/context/dropped.log", "/host/ca"} {
		if code, log := s.runBox(t, tag, "read", path); code == 0 {
			t.Errorf("%s is part of the image: %q", path, log)
		}
	}
}

func testBuildFails(t *testing.T, s *suite) {
	if !s.features.Build {
		t.Skip("this runtime follows no instructions")
	}
	ctx := testContext(t)
	dir := t.TempDir()
	const tag = "localhost/sandbox/runtimetest/failed:1"
	writeFile(t, filepath.Join(dir, "Dockerfile"), "FROM "+baseImage+"\nRUN [\"/box\", \"read\", \"/nowhere\"]\n")
	var lines lineLog
	_, err := s.rt.BuildImage(ctx, runtime.BuildSpec{Context: dir, Tag: tag, Labels: s.labels}, lines.add)
	if err == nil {
		t.Fatal("a failing RUN step went unnoticed")
	}
	if !strings.Contains(lines.String(), "/nowhere") {
		t.Errorf("the output does not say why:\n%s", lines.String())
	}
	_, err = s.rt.Image(ctx, tag)
	mustBe(t, err, runtime.ErrNotFound)
	if _, err := s.rt.BuildImage(ctx, runtime.BuildSpec{Context: dir, Dockerfile: "missing", Tag: tag}, lines.add); err == nil {
		t.Error("a missing Dockerfile went unnoticed")
	}
}

// runBox runs the box of an image to its end.
func (s *suite) runBox(t *testing.T, image string, cmd ...string) (int, string) {
	t.Helper()
	spec := s.spec(t, cmd...)
	spec.Image = image
	ctx := testContext(t)
	c, err := s.rt.CreateContainer(ctx, spec)
	must(t, err)
	defer func() { must(t, s.rt.RemoveContainer(ctx, c.ID)) }()
	must(t, s.rt.StartContainer(ctx, c.ID))
	c = s.waitState(t, c.ID, "exited")
	return c.ExitCode, s.logs(t, c.ID, runtime.LogOptions{})
}
