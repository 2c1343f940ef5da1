//go:build integration

package docker_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// serveImage is a registry that holds one image for everybody, as public ones
// do, and returns its reference.
func serveImage(t *testing.T) string {
	t.Helper()
	image, err := random.Image(1000, 2)
	if err != nil {
		t.Fatal(err)
	}
	about, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	about.OS, about.Architecture = "linux", goruntime.GOARCH
	if image, err = mutate.ConfigFile(image, about); err != nil {
		t.Fatal(err)
	}
	content := map[string][]byte{}
	kind := map[string]string{}
	add := func(path string, data []byte, err error, mediaType string) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		content[path], kind[path] = data, mediaType
	}
	manifest, err := image.RawManifest()
	add("/v2/base/manifests/1", manifest, err, "application/vnd.docker.distribution.manifest.v2+json")
	digest, err := image.Digest()
	add("/v2/base/manifests/"+digest.String(), manifest, err, "application/vnd.docker.distribution.manifest.v2+json")
	config, err := image.RawConfigFile()
	add("/v2/base/blobs/"+hashOf(t, image.ConfigName).String(), config, err, "application/octet-stream")
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range layers {
		data, err := layer.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		text := make([]byte, sizeOf(t, layer))
		_, err = data.Read(text)
		add("/v2/base/blobs/"+hashOf(t, layer.Digest).String(), text, err, "application/octet-stream")
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Anybody gets a token, and needs one.
		if r.URL.Path == "/token" {
			_, _ = w.Write([]byte(`{"token":"anybody"}`))
			return
		}
		if r.Header.Get("Authorization") != "Bearer anybody" {
			w.Header().Set("Www-Authenticate", `Bearer realm="http://`+r.Host+`/token",service="test",scope="repository:base:pull"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		data, ok := content[r.URL.Path]
		if !ok && r.URL.Path != "/v2/" {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", kind[r.URL.Path])
		if strings.Contains(r.URL.Path, "/manifests/") {
			w.Header().Set("Docker-Content-Digest", digest.String())
		}
		_, _ = w.Write(data) // the client tells what it lacks
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://") + "/base:1"
}

func hashOf(t *testing.T, f func() (v1.Hash, error)) v1.Hash {
	t.Helper()
	h, err := f()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func sizeOf(t *testing.T, layer v1.Layer) int64 {
	t.Helper()
	size, err := layer.Size()
	if err != nil {
		t.Fatal(err)
	}
	return size
}

// A base image that the daemon does not have comes from its registry, also
// where files are mounted into the build.
func TestBaseFromRegistry(t *testing.T) {
	r := open(t, start(t))
	ref := serveImage(t)
	dir := t.TempDir()
	for name, text := range map[string]string{"Dockerfile": "ARG BASE\nFROM ${BASE}\nCOPY file /file\n", "file": "x"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const tag = "localhost/sandbox/dockertest/based:1"
	image, err := r.BuildImage(t.Context(), runtime.BuildSpec{
		Context: dir, Tag: tag, Args: map[string]string{"BASE": ref}, Volumes: []string{filepath.Join(dir, "file") + ":/host:ro"},
		Labels: map[string]string{runtime.LabelName: "dockertest"},
	}, func(line string) { t.Log(line) })
	if err != nil || image.ID == "" {
		t.Errorf("%+v, %v", image, err)
	}
	pulled, err := r.PullImage(t.Context(), ref, func(line string) { t.Log(line) })
	if err != nil || pulled.ID == "" {
		t.Errorf("%+v, %v", pulled, err)
	}
	for _, name := range []string{tag, ref} {
		if err := r.RemoveImage(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
}
