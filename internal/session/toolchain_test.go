package session

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// useRegistry puts another registry of providers in place, which answers with
// the status, or not at all where that is 0. It counts the questions.
func useRegistry(t *testing.T, status int) *atomic.Int32 {
	t.Helper()
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	if status == 0 {
		server.Close()
	}
	old := providerRegistry
	providerRegistry = server.URL
	t.Cleanup(func() { providerRegistry = old })
	return &asked
}

// Providers come from their registry where it answers and from packages where
// it does not. Once decided, it stays, whatever the network does later.
func TestWantMirror(t *testing.T) {
	for name, tc := range map[string]struct {
		images   string
		recorded string
		status   int
		want     bool
		asked    int32
	}{
		"the registry answers":         {"auto", "", http.StatusOK, false, 1},
		"nobody answers":               {"auto", "", 0, true, 0},
		"a proxy says no":              {"auto", "", http.StatusForbidden, true, 1},
		"packages were asked for":      {"packages", "", http.StatusOK, true, 0},
		"the registry was asked for":   {"registry", "", 0, false, 0},
		"decided: the registry":        {"auto", direct, 0, false, 0},
		"decided: a mirror":            {"auto", "/cache/mirror", http.StatusOK, true, 0},
		"decided, but asked otherwise": {"registry", "/cache/mirror", 0, false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			asked := useRegistry(t, tc.status)
			s := &Session{opt: Options{Images: tc.images}, refs: map[string]string{refProviders: tc.recorded}}
			if got := s.wantMirror(t.Context()); got != tc.want || asked.Load() != tc.asked {
				t.Errorf("mirror %v after %d questions, want %v after %d", got, asked.Load(), tc.want, tc.asked)
			}
		})
	}
}

// A registry that does not answer in time counts as none.
func TestARegistryIsNotWaitedFor(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if answers(ctx, server.URL) || answers(t.Context(), "://no-url") {
		t.Error("what does not answer counts as an answer")
	}
}

func TestToolchain(t *testing.T) {
	for name, tc := range map[string]struct {
		installed string // on the PATH
		version   string
		status    int  // of the registry
		tool      bool // OpenTofu from packages
		mirror    bool
		note      string
	}{
		"all there":       {"terraform", "1.11.4", http.StatusOK, false, false, "terraform 1.11.4"},
		"tofu is as good": {"tofu", "1.12.6", http.StatusOK, false, false, "tofu 1.12.6"},
		"no registry":     {"terraform", "1.11.4", 0, false, true, "terraform 1.11.4, providers from packages"},
		"no tool":         {"", "", http.StatusOK, true, false, "tofu 1.12.6"},
		"an old tool":     {"terraform", "0.12.0", http.StatusOK, true, false, "tofu 1.12.6"},
		"neither":         {"", "", 0, true, true, "tofu 1.12.6, providers from packages"},
	} {
		t.Run(name, func(t *testing.T) {
			useEngine(t)
			useRegistry(t, tc.status)
			bin := t.TempDir()
			t.Setenv("PATH", bin)
			if tc.installed != "" {
				writeTool(t, filepath.Join(bin, tc.installed), tc.version)
			}
			s, err := Start(t.Context(), wanted(t, "demo"), Options{AutoPorts: true})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			tofu, mirror := cached(t, s, tofuRecipe), cached(t, s, providersRecipe)
			writeTool(t, tofu, "1.12.6")

			res, err := s.ensureToolchain(t.Context(), event.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if !res.Done || res.Note != tc.note {
				t.Errorf("got %+v, want it done already, with note %q", res, tc.note)
			}
			want := map[string]string{refProviders: direct, refTool: ""}
			if tc.tool {
				want[refTool] = tofu
			}
			if tc.mirror {
				want[refProviders] = mirror
			}
			later, err := recorded("demo") // as a session that only looks
			if err != nil {
				t.Fatal(err)
			}
			for key, value := range want {
				if s.ref(key) != value || later.ref(key) != value {
					t.Errorf("%s is %q, recorded %q, want %q", key, s.ref(key), later.ref(key), value)
				}
			}
		})
	}
}

// writeTool writes a program that says its version as terraform and tofu do.
func writeTool(t *testing.T, path, version string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\necho '{\"terraform_version\": \"%s\", \"platform\": \"linux_amd64\", \"provider_selections\": {}}'\n", version)
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
}

// cached puts an empty artifact of the recipe into the cache, and returns its path.
func cached(t *testing.T, s *Session, recipe string) string {
	t.Helper()
	a, err := s.builder.Plan(recipe)
	if err != nil {
		t.Fatal(err)
	}
	dir, _, found := strings.Cut(a.Path, "/tree")
	if !found || os.MkdirAll(a.Path[:strings.LastIndex(a.Path, "/")], 0o755) != nil {
		t.Fatalf("no place for %s: %s", recipe, a.Path)
	}
	data, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "artifact.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, there, err := s.builder.Cached(recipe); err != nil || !there {
		t.Fatalf("%s is not in the cache: %v", recipe, err)
	}
	return a.Path
}
