package child

import (
	"context"
	"errors"
	"os/exec"
	"slices"
	"testing"
	"time"
)

func TestLines(t *testing.T) {
	var lines []string
	collect := func(line string) { lines = append(lines, line) }
	err := Lines(t.Context(), exec.Command("sh", "-c", `printf 'one\n\ntwo\r\n'; echo three >&2; printf four; exit 3`), 5*time.Second, collect)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("error %v", err)
	}
	if !slices.Equal(lines, []string{"one", "two", "three", "four"}) {
		t.Errorf("lines %q", lines)
	}
	if err := Lines(t.Context(), exec.Command("/nonexistent"), time.Second, collect); err == nil {
		t.Error("a missing program ran")
	}
}

func TestLinesCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	began := time.Now()
	// The grandchild holds the pipe beyond the end of its parent, and would for long.
	err := Lines(ctx, exec.Command("sh", "-c", `sleep 120 & echo started; wait`), 5*time.Second, func(string) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("took %s", took)
	}
}
