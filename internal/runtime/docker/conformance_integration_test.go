//go:build integration

package docker_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/sandbox-stack/sandbox/e2e/engines"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/docker"
	"github.com/sandbox-stack/sandbox/internal/runtime/runtimetest"
)

func TestConformance(t *testing.T) { conforms(t, start(t)) }

// The newest Docker, with the images in its own store and in containerd's. What
// Debian's unstable has today is tried on demand, since it may be broken.
func TestConformanceNewest(t *testing.T) {
	if os.Getenv("SANDBOX_TEST_DOCKER") != "newest" {
		t.Skip("SANDBOX_TEST_DOCKER=newest runs this")
	}
	for name, opt := range map[string]engines.Options{"own": {Newest: true}, "containerd": {Newest: true, ContainerdStore: true}} {
		t.Run(name, func(t *testing.T) { conforms(t, startWith(t, opt)) })
	}
}

func conforms(t *testing.T, engine *engines.Docker) {
	runtimetest.Run(t, runtimetest.Features{Network: true, Build: true, Limits: true}, func(t *testing.T) runtime.Runtime {
		return open(t, engine)
	})
}

// start starts a Docker daemon that ends with the test.
func start(t *testing.T) *engines.Docker {
	t.Helper()
	return startWith(t, engines.Options{})
}

func startWith(t *testing.T, opt engines.Options) *engines.Docker {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	engine, err := engines.StartDocker(ctx, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := engine.Stop(); err != nil {
			t.Error(err)
		}
	})
	return engine
}

// open opens the daemon, and removes what a killed run of these tests left there:
// it keeps its data between runs.
func open(t *testing.T, engine *engines.Docker) runtime.Runtime {
	t.Helper()
	r, err := docker.Open(t.Context(), docker.Options{Host: engine.Host()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	runtimetest.Clean(t, r, testLabels)
	return r
}
