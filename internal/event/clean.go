package event

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// maxLine is the length in bytes at which a line is cut.
const maxLine = 64 << 10

// Clean makes one line of foreign text safe to print: terminal control
// sequences, control characters and bidirectional overrides go, invalid UTF-8
// becomes U+FFFD, a tab becomes spaces and a line break a space. What a
// carriage return would overwrite on a terminal is left out. A line over
// 64 KiB is cut, with a mark saying so.
func Clean(line string) string {
	line = strings.TrimRight(line, "\r\n")
	if i := strings.LastIndexByte(line, '\r'); i >= 0 && !strings.Contains(line, "\r\n") {
		line = line[i+1:]
	}
	line = cut(line)
	if printable(line) {
		return line
	}
	var b strings.Builder
	b.Grow(len(line))
	for i := 0; i < len(line); {
		r, size := utf8.DecodeRuneInString(line[i:])
		if n := sequence(line[i:], r, size); n > 0 {
			i += n
			continue
		}
		switch {
		case r == '\t':
			b.WriteString("    ")
		case r == '\n':
			b.WriteByte(' ')
		case !unsafe(r):
			b.WriteRune(r) // U+FFFD for a byte that is not UTF-8
		}
		i += size
	}
	return b.String()
}

// cleanText is Clean for text that may keep its line breaks.
func cleanText(text string) string {
	if !strings.Contains(text, "\n") {
		return Clean(text)
	}
	return strings.Join(cleanAll(strings.Split(text, "\n")), "\n")
}

func cut(line string) string {
	if len(line) <= maxLine {
		return line
	}
	end := maxLine
	for end > maxLine-utf8.UTFMax && !utf8.RuneStart(line[end]) {
		end--
	}
	return fmt.Sprintf("%s … [cut, %d bytes in all]", line[:end], len(line))
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// unsafe says whether r would act on a terminal instead of being shown.
func unsafe(r rune) bool {
	return r < 0x20 || r >= 0x7f && r <= 0x9f ||
		r == 0x061c || r == 0x200e || r == 0x200f || // marks of direction
		r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

const esc = 0x1b

// sequence returns the length of the control sequence that s begins with, or
// 0. first is the first rune of s and size its length. Of an unfinished
// string sequence only the introducer counts, so that a stray one cannot
// hide the rest of a line.
func sequence(s string, first rune, size int) int {
	kind := first
	if first == esc {
		if len(s) < 2 {
			return 1
		}
		kind, size = rune(s[1])+0x40, 2 // ESC [ is CSI, ESC ] is OSC: the C1 in seven bits
		if s[1] < 0x40 || s[1] > 0x5f {
			return escape(s)
		}
	}
	switch kind {
	case 0x9b: // CSI
		i := size
		for i < len(s) && s[i] >= 0x20 && s[i] <= 0x3f {
			i++
		}
		if i < len(s) && s[i] >= 0x40 && s[i] <= 0x7e {
			i++
		}
		return i
	case 0x90, 0x98, 0x9d, 0x9e, 0x9f: // DCS, SOS, OSC, PM, APC
		if n := stringEnd(s[size:], kind == 0x9d); n > 0 {
			return size + n
		}
		return size
	}
	if first == esc {
		return 2
	}
	return 0
}

// escape is the length of ESC, intermediate bytes and a final byte.
func escape(s string) int {
	i := 1
	for i < len(s) && s[i] >= 0x20 && s[i] <= 0x2f {
		i++
	}
	if i < len(s) && s[i] >= 0x30 && s[i] <= 0x7e {
		i++
	}
	return i
}

// stringEnd returns the length up to and with the string terminator (for OSC
// also BEL), or 0 where there is none.
func stringEnd(s string, bel bool) int {
	for i := range len(s) {
		switch {
		case bel && s[i] == 0x07:
			return i + 1
		case s[i] == esc && i+1 < len(s) && s[i+1] == '\\':
			return i + 2
		case s[i] == 0xc2 && i+1 < len(s) && s[i+1] == 0x9c:
			return i + 2
		}
	}
	return 0
}

// CleanText is Clean for a text of several lines.
func CleanText(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(Clean(line))
		b.WriteByte('\n')
	}
	return b.String()
}
