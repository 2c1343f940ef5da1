package podman

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

func frame(channel byte, text string) string {
	return string([]byte{channel, 0, 0, 0, 0, 0, byte(len(text) >> 8), byte(len(text))}) + text
}

func TestDemux(t *testing.T) {
	var stdout, stderr bytes.Buffer
	long := strings.Repeat("x", 5000)
	stream := frame(1, "out ") + frame(2, "err") + frame(1, "") + frame(0, long)
	if err := demux(strings.NewReader(stream), &stdout, &stderr); err != nil {
		t.Fatal(err)
	}
	if stdout.String() != "out "+long || stderr.String() != "err" {
		t.Errorf("stdout %q, stderr %q", stdout.String(), stderr.String())
	}
	if err := demux(strings.NewReader(stream), nil, nil); err != nil {
		t.Errorf("discarding: %v", err)
	}
}

func TestDemuxErrors(t *testing.T) {
	for name, test := range map[string]struct{ stream, want string }{
		"of the service":  {frame(1, "x") + frame(3, "it broke"), "it broke"},
		"unknown channel": {frame(9, "x"), "channel 9"},
		"cut header":      {frame(1, "x") + "\x01\x00", "EOF"},
		"cut frame":       {frame(1, "hello")[:10], "EOF"},
	} {
		if err := demux(strings.NewReader(test.stream), io.Discard, nil); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRunLines(t *testing.T) {
	var lines []string
	collect := func(line string) { lines = append(lines, line) }
	err := runLines(t.Context(), exec.Command("sh", "-c", `printf 'one\n\ntwo\r\n'; echo three >&2; printf four; exit 3`), collect)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("error %v", err)
	}
	if !slices.Equal(lines, []string{"one", "two", "three", "four"}) {
		t.Errorf("lines %q", lines)
	}
	if err := runLines(t.Context(), exec.Command("/nonexistent"), collect); err == nil {
		t.Error("a missing program ran")
	}
}

func TestRunLinesCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	began := time.Now()
	// The grandchild holds the pipe beyond the end of its parent.
	err := runLines(ctx, exec.Command("sh", "-c", `sleep 60 & echo started; wait`), func(string) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
}
