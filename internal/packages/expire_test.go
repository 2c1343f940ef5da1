package packages

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
)

func TestExpire(t *testing.T) {
	b := newTestBuilder(t, &fakeHost{})
	a, err := b.Build(t.Context(), "hello", event.Discard)
	if err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-48 * time.Hour)
	outdated := filepath.Join(b.cache, "images", "hello", "000000000000")
	unused := filepath.Join(b.cache, "parts", "go-gone-000000000000")
	working := filepath.Join(b.cache, "parts", "go-now-000000000000.partial")
	for _, dir := range []string{outdated, unused, working} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{outdated, unused, working, b.artifactDir(a)} {
		if err := os.Chtimes(dir, old, old); err != nil {
			t.Fatal(err)
		}
	}
	removed, err := b.Expire(t.Context(), time.Now().Add(-24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if removed != 2 || exists(outdated) || exists(unused) {
		t.Errorf("removed %d folders, want the outdated artifact and the unused part", removed)
	}
	if _, ok, err := b.Cached("hello"); !ok || err != nil {
		t.Errorf("the current artifact is gone (%t, %v), however old it is", ok, err)
	}
	if !exists(working) {
		t.Error("what a build works on was removed")
	}
	if parts := glob(t, filepath.Join(b.cache, "parts", "go-hello-????????????")); len(parts) != 1 {
		t.Errorf("parts used lately: %v, want the one", parts)
	}
}
