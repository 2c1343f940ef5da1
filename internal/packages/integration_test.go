//go:build integration

package packages

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sandbox-stack/sandbox/images"
	"github.com/sandbox-stack/sandbox/internal/event"
)

const tinyRecipe = `
name: tiny
version: 1.0.0
kind: image
description: the smallest thing that runs
debian: {suite: bookworm, variant: extract, packages: [busybox-static], keep: [/bin/busybox]}
c: [{name: hello, source: {path: hello.c}}]
files:
  - {to: /bin/sh, link: busybox}
  - {to: /bin/hello, program: hello}
hostCAs: true
config: {entrypoint: [/bin/hello]}
`

// TestBuildTinyImage builds from a Debian mirror with the tools of this host.
func TestBuildTinyImage(t *testing.T) {
	b, err := New(Options{CacheDir: t.TempDir(), Recipes: fstest.MapFS{
		"tiny/image.yaml": {Data: []byte(tinyRecipe)},
		"tiny/hello.c":    {Data: []byte("#include <stdio.h>\nint main(void) { return puts(\"hello\") < 0; }\n")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	a, err := b.Build(t.Context(), "tiny", event.Discard)
	if err != nil {
		t.Fatal(err)
	}
	image, err := a.image()
	if err != nil {
		t.Fatal(err)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, layer := range layers {
		content, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, tarNames(t, content)...)
		if err := content.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"bin/busybox", "bin/sh", "bin/hello", strings.TrimPrefix(imageCAFile, "/")} {
		if !slices.Contains(names, want) {
			t.Errorf("%s is not in the image: %v", want, names)
		}
	}
	if slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, "usr/share/") }) {
		t.Errorf("the image holds more than was asked for: %v", names)
	}
	var archive bytes.Buffer
	if err := b.WriteArchive(t.Context(), a, &archive); err != nil {
		t.Fatal(err)
	}
}

// TestBuildRecipes builds the real recipes named by SANDBOX_TEST_RECIPES, a
// list with commas, into the user's cache. They take minutes, so none is
// built unless asked for.
func TestBuildRecipes(t *testing.T) {
	names := os.Getenv("SANDBOX_TEST_RECIPES")
	if names == "" {
		t.Skip("SANDBOX_TEST_RECIPES names no recipe")
	}
	b, err := New(Options{Recipes: images.FS})
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.SplitSeq(names, ",") {
		t.Run(name, func(t *testing.T) {
			a, err := b.Build(t.Context(), name, event.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(a.Path); err != nil {
				t.Errorf("the artifact is not where it says: %v", err)
			}
		})
	}
}
