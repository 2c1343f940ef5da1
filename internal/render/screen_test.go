package render

import (
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/charmbracelet/x/ansi"
)

// screen is a terminal that knows what TTY uses, and no more: it fails the test
// on any other control sequence, and when the cursor would go where a terminal
// would not let it. Lines wrap anew when the terminal is resized.
type screen struct {
	t             *testing.T
	mu            sync.Mutex
	width, height int
	lines         []string // with what has scrolled off; colours stay in
	at            int      // the line of the cursor, which is at its beginning
	writes        int
	synchronized  bool
}

func (s *screen) size() (int, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.width, s.height
}

func (s *screen) resize(width, height int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.width, s.height = width, height
}

// drawn is how many times the screen was written to.
func (s *screen) drawn() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writes
}

// rows is how many rows a line takes.
func (s *screen) rows(line string) int {
	return max(1, (ansi.StringWidth(line)+s.width-1)/s.width)
}

func (s *screen) Write(b []byte) (int, error) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	text := string(b)
	for text != "" {
		switch {
		case strings.HasPrefix(text, "\r"):
			text = text[1:]
		case strings.HasPrefix(text, "\n"):
			s.at++
			text = text[1:]
		case strings.HasPrefix(text, "\x1b[") && !strings.HasPrefix(text, "\x1b[m"):
			end := strings.IndexFunc(text[2:], func(r rune) bool { return r >= 0x40 && r <= 0x7e }) + 3
			if text[end-1] == 'm' {
				text = s.put(text)
				continue
			}
			s.control(text[2:end-1], text[end-1])
			text = text[end:]
		default:
			text = s.put(text)
		}
	}
	return len(b), nil
}

// put writes a line's text and returns what is behind it.
func (s *screen) put(text string) string {
	line, rest := text, ""
	if i := strings.IndexByte(text, '\n'); i >= 0 {
		line, rest = text[:i], text[i:]
	}
	if plain := ansi.Strip(line); strings.ContainsAny(plain, "\x1b\r\t") {
		s.t.Fatalf("control characters in the line %q", line)
	}
	for len(s.lines) <= s.at {
		s.lines = append(s.lines, "")
	}
	if s.lines[s.at] != "" {
		s.t.Fatalf("%q is drawn over %q", line, s.lines[s.at])
	}
	s.lines[s.at] = line
	return rest
}

func (s *screen) control(parameters string, final byte) {
	switch {
	case final == 'A':
		n, err := 1, error(nil)
		if parameters != "" {
			n, err = strconv.Atoi(parameters)
		}
		if err != nil || n >= s.height {
			s.t.Fatalf("the cursor moves up %q rows of %d", parameters, s.height)
		}
		for n > 0 && s.at > 0 {
			s.at--
			n -= s.rows(s.line(s.at))
		}
		if n != 0 {
			s.t.Fatalf("the cursor is not at the beginning of a line, but %d rows off", n)
		}
	case final == 'J' && (parameters == "" || parameters == "0"):
		s.lines = s.lines[:min(s.at, len(s.lines))]
	case final == 'K' && parameters == "2":
		if s.at < len(s.lines) {
			s.lines[s.at] = ""
		}
	case parameters == "?2026" && (final == 'h' || final == 'l'):
		if on := final == 'h'; on == s.synchronized {
			s.t.Fatal("synchronized output is switched twice")
		}
		s.synchronized = final == 'h'
	default:
		s.t.Fatalf("unexpected control sequence %q %q", parameters, final)
	}
}

func (s *screen) line(i int) string {
	if i < len(s.lines) {
		return s.lines[i]
	}
	return ""
}

// text is everything on the screen, with what has scrolled off.
func (s *screen) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.lines, "\n") + "\n"
}
