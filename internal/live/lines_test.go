package live

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestEachLine(t *testing.T) {
	long := strings.Repeat("x", 10<<20)
	var got []string
	err := eachLine(strings.NewReader("a\r\n\nb\n"+long+"\nlast"), func(s string) { got = append(got, s) })
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"a", "", "b", long[:lineSize], "last"}; !slices.Equal(got, want) {
		t.Errorf("got %d lines of lengths %v", len(got), lengths(got))
	}
}

func lengths(list []string) (n []int) {
	for _, s := range list {
		n = append(n, len(s))
	}
	return n
}

func TestEachLineReportsAnInterruption(t *testing.T) {
	broken := errors.New("connection reset")
	r, w := io.Pipe()
	go func() {
		_, _ = io.WriteString(w, "a\n")
		w.CloseWithError(broken)
	}()
	if err := eachLine(r, func(string) {}); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestAWildLogIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		out := newThrottle(func(s string) { got = append(got, s) })
		for range 100_000 {
			out.line("x")
		}
		if len(got) != linesAtOnce {
			t.Errorf("passed on %d lines at once, want %d", len(got), linesAtOnce)
		}
		<-time.After(time.Second)
		got = nil
		out.line("y")
		if want := "… 98000 lines left out: more than 500 a second"; len(got) != 2 || got[0] != want || got[1] != "y" {
			t.Errorf("then said %q", got)
		}
	})
}

func TestStamped(t *testing.T) {
	for line, want := range map[string]struct{ at, text string }{
		"2026-11-24T12:00:01.5Z GET /":         {"2026-11-24T12:00:01.5Z", "GET /"},
		"2026-11-24T13:00:01.5+01:00   indent": {"2026-11-24T12:00:01.5Z", "  indent"},
		"2026-11-24T12:00:01.5Z":               {"2026-11-24T12:00:01.5Z", ""},
		"no stamp":                             {"", "no stamp"},
		"":                                     {"", ""},
	} {
		at, text := stamped(line)
		got := ""
		if !at.IsZero() {
			got = at.UTC().Format(time.RFC3339Nano)
		}
		if got != want.at || text != want.text {
			t.Errorf("%q: %q at %q, want %q at %q", line, text, got, want.text, want.at)
		}
	}
}
