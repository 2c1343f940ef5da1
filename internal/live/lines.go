package live

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/time/rate"
)

// The bounds of what one source may log. They are far above what a person can
// read, and keep a program that runs wild from filling the history with its
// own lines alone.
const (
	linesPerSecond = 500
	linesAtOnce    = 2000
	lineSize       = 64 << 10 // bytes; what is longer is cut
)

// throttle passes on lines up to the rate, and says how many it left out.
type throttle struct {
	limit *rate.Limiter
	emit  func(string)
	left  int
}

func newThrottle(emit func(string)) *throttle {
	return &throttle{limit: rate.NewLimiter(linesPerSecond, linesAtOnce), emit: emit}
}

func (t *throttle) line(s string) {
	if !t.limit.Allow() {
		t.left++
		return
	}
	t.flush()
	t.emit(s)
}

// flush says how many lines were left out since the last one that was not.
func (t *throttle) flush() {
	if t.left > 0 {
		t.emit(fmt.Sprintf("… %d lines left out: more than %d a second", t.left, linesPerSecond))
		t.left = 0
	}
}

// eachLine calls f with every line until the end of r. Of a line that is longer
// than lineSize it gets the beginning.
func eachLine(r io.Reader, f func(string)) error {
	buffered := bufio.NewReaderSize(r, lineSize)
	for {
		line, more, err := buffered.ReadLine()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		text := strings.TrimRight(string(line), "\r")
		for more && err == nil {
			_, more, err = buffered.ReadLine()
		}
		f(text)
	}
}
