//go:build integration

package docker_test

import (
	"context"
	"testing"
	"time"

	"github.com/sandbox-stack/sandbox/e2e/engines"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/docker"
	"github.com/sandbox-stack/sandbox/internal/runtime/runtimetest"
)

func TestConformance(t *testing.T) {
	engine := start(t)
	runtimetest.Run(t, runtimetest.Features{Network: true, Build: true, Limits: true}, func(t *testing.T) runtime.Runtime {
		return open(t, engine)
	})
}

// start starts a Docker daemon that ends with the test.
func start(t *testing.T) *engines.Docker {
	t.Helper()
	dir, err := engines.DefaultDir()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	engine, err := engines.StartDocker(ctx, dir)
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
	return r
}
