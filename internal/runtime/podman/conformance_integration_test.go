//go:build integration

package podman_test

import (
	"testing"

	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/podman"
	"github.com/sandbox-stack/sandbox/internal/runtime/runtimetest"
)

func TestConformance(t *testing.T) {
	runtimetest.Run(t, runtimetest.Features{Network: true, Build: true, Limits: true}, open)
}

// open opens Podman as the program does. A machine without it fails the test.
func open(t *testing.T) runtime.Runtime {
	t.Helper()
	r, err := podman.Open(t.Context(), podman.Options{StateDir: t.TempDir()})
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
