//go:build integration

package buildah_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sandbox-stack/sandbox/e2e/engines"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/buildah"
	"github.com/sandbox-stack/sandbox/internal/runtime/docker"
	"github.com/sandbox-stack/sandbox/internal/runtime/podman"
	"github.com/sandbox-stack/sandbox/internal/runtime/runtimetest"
)

// With Buildah, each engine does all that it does without, and Buildah's own
// store holds no more afterwards than before.
func TestConformance(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	commands, err := engines.Buildah(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", commands+":"+os.Getenv("PATH"))
	features := runtimetest.Features{Network: true, Build: true, Limits: true}
	t.Run("podman", func(t *testing.T) {
		runtimetest.Run(t, features, func(t *testing.T) runtime.Runtime {
			engine, err := podman.Open(t.Context(), podman.Options{StateDir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			return with(t, engine)
		})
	})
	t.Run("docker", func(t *testing.T) {
		daemon, err := engines.StartDocker(ctx, engines.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := daemon.Stop(); err != nil {
				t.Error(err)
			}
		})
		restore, err := podman.Adapt(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := restore(); err != nil {
				t.Error(err)
			}
		})
		t.Cleanup(func() {
			if left := images(t, filepath.Join(commands, "buildah")); strings.Contains(left, "runtimetest") {
				t.Errorf("left with Buildah:\n%s", left)
			}
		})
		runtimetest.Run(t, features, func(t *testing.T) runtime.Runtime {
			engine, err := docker.Open(t.Context(), docker.Options{Host: daemon.Host()})
			if err != nil {
				t.Fatal(err)
			}
			return with(t, engine)
		})
	})
}

func with(t *testing.T, engine runtime.Runtime) runtime.Runtime {
	t.Helper()
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	b, err := buildah.New(engine, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func images(t *testing.T, binary string) string {
	t.Helper()
	out, err := exec.Command(binary, "images", "--all", "--format", "{{.Name}}:{{.Tag}}").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}
