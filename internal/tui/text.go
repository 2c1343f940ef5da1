package tui

import (
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/charmbracelet/x/ansi"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// text returns foreign text as it may be shown: safe for a terminal, of a
// width all terminals agree on, and within ASCII where only that can be shown.
func (t theme) text(s string) string {
	if ascii(s) {
		return s
	}
	s = event.Clean(s)
	if t.ascii {
		return strings.Map(func(r rune) rune {
			if r > 0x7e {
				return '?'
			}
			return r
		}, asciiForms.Replace(s))
	}
	return steady(s)
}

// asciiForms are the ASCII forms of what sandbox itself writes.
var asciiForms = strings.NewReplacer("…", "..", "→", "->", "·", "|", "│", "|", "✓", "+", "✗", "x", "–", "-", "—", "-", "▾", "v", "▸", ">", "↑", "^", "↓", "v")

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// maxMarks is how many combining marks a character may carry.
const maxMarks = 2

// linkers are the marks that join the consonants around them.
var linkers = rangetable(0x94d, 0x9cd, 0xacd, 0xb4d, 0xc4d, 0xd4d, 0x1039, 0x17d2, 0x1a60, 0x1bab, 0xa9c0, 0xaaf6,
	0x10a3f, 0x11133, 0x113d0, 0x1193e, 0x11a47, 0x11a99, 0x11f42)

func rangetable(runes ...rune) *unicode.RangeTable {
	t := &unicode.RangeTable{}
	for _, r := range runes {
		if r < 1<<16 {
			t.R16 = append(t.R16, unicode.Range16{Lo: uint16(r), Hi: uint16(r), Stride: 1})
		} else {
			t.R32 = append(t.R32, unicode.Range32{Lo: uint32(r), Hi: uint32(r), Stride: 1})
		}
	}
	return t
}

// steady removes what terminals do not agree on the width of: characters that
// join or select the form of others, and heaps of combining marks.
func steady(s string) string {
	marks := 0
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.Is(unicode.Cf, r), // joiners and other invisible format characters
			r >= 0xfe00 && r <= 0xfe0f, r >= 0xe0100 && r <= 0xe01ef, // variation selectors
			r >= 0x1f3fb && r <= 0x1f3ff, // skin tones
			r >= 0x1f1e6 && r <= 0x1f1ff: // halves of flags
			return -1
		case r >= 0x1100 && r <= 0x11ff, r >= 0xa960 && r <= 0xa97f, r >= 0xd7b0 && r <= 0xd7ff:
			return '?' // parts of Hangul syllables, which join with what follows
		case unicode.Is(linkers, r):
			return -1
		case unicode.In(r, unicode.Mn, unicode.Me):
			if marks++; marks > maxMarks {
				return -1
			}
		case r == unicode.ReplacementChar:
			return '?'
		default:
			marks = 0
		}
		return r
	}, s)
	if first, _ := ansi.FirstGraphemeCluster("x"+s, ansi.GraphemeWidth); len(first) > 1 {
		s = s[len(first)-1:] // it would join with the text before
	}
	if ansi.StringWidth(s) == ansi.StringWidthWc(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		cluster, n := ansi.FirstGraphemeCluster(s, ansi.GraphemeWidth)
		if n == ansi.StringWidthWc(cluster) {
			b.WriteString(cluster)
		} else {
			b.WriteByte('?')
		}
		s = s[len(cluster):]
	}
	return b.String()
}

// width is the number of columns text takes.
func width(text string) int {
	if ascii(text) {
		return len(text)
	}
	return ansi.StringWidth(text)
}

// clip cuts text to w columns, with a mark where something is cut off.
func (t theme) clip(text string, w int) string {
	text = t.text(text)
	switch {
	case w <= 0:
		return ""
	case width(strings.TrimRight(text, " ")) <= w:
		return head(text, w)
	case t.ascii && w < 4:
		return head(text, w)
	}
	return ansi.Truncate(text, w, t.pick("…", ".."))
}

// head is the part of text that fits into w columns.
func head(text string, w int) string {
	if ascii(text) {
		return text[:min(len(text), max(0, w))]
	}
	return ansi.Truncate(text, w, "")
}

// fill cuts or pads text to exactly w columns.
func (t theme) fill(text string, w int) string {
	text = t.clip(text, w)
	return text + strings.Repeat(" ", max(0, w-width(text)))
}

// squeeze is fill for names: what does not fit is left out of the middle, as
// names of objects differ at their ends.
func (t theme) squeeze(text string, w int) string {
	text = t.text(text)
	n := width(text)
	if n <= w || w < 12 {
		return t.fill(text, w)
	}
	const end = 6
	mark := t.pick("…", "..")
	return t.fill(head(text, w-end-width(mark))+mark+skip(text, n-end), w)
}

// right is fill with the text at the right.
func (t theme) right(text string, w int) string {
	text = t.clip(text, w)
	return strings.Repeat(" ", max(0, w-width(text))) + text
}

// wrap breaks text into lines of at most w columns, at spaces where it can.
func (t theme) wrap(text string, w int) []string {
	if w < 1 {
		return nil
	}
	var out []string
	for part := range strings.SplitSeq(text, "\n") {
		part = t.text(part)
		if width(part) <= w {
			out = append(out, part)
			continue
		}
		out = append(out, wrapWords(part, w)...)
	}
	return out
}

// wrapWords wraps a line between words, and within one only where that is longer
// than a line. Names with hyphens stay whole, which ansi.Wrap would break.
func wrapWords(line string, w int) []string {
	var out []string
	now := ""
	for word := range strings.SplitSeq(line, " ") {
		switch {
		case now == "" && len(out) == 0 && word == "": // an indent
			now = " "
		case width(now)+1+width(word) <= w && now != "":
			now += " " + word
		default:
			if now != "" {
				out = append(out, now)
			}
			now = word
			for width(now) > w {
				pieces := chunks(strings.SplitN(ansi.Wrap(now, w, "/-:,"), "\n", 2)[0], w)
				out = append(out, pieces[0])
				now = now[len(pieces[0]):]
			}
		}
	}
	return append(out, now)
}

// chunks cuts text into pieces of at most w columns that make up the text.
func chunks(text string, w int) []string {
	w = max(2, w)
	if ascii(text) {
		out := make([]string, 0, 1+len(text)/w)
		for len(text) > w {
			out, text = append(out, text[:w]), text[w:]
		}
		return append(out, text)
	}
	var out []string
	start, end, used := 0, 0, 0
	for rest := text; rest != ""; {
		cluster, n := ansi.FirstGraphemeCluster(rest, ansi.GraphemeWidth)
		if used += n; used > w {
			out = append(out, text[start:end])
			start, used = end, n
		}
		end += len(cluster)
		rest = rest[len(cluster):]
	}
	return append(out, text[start:])
}

// skip is text without its first n columns.
func skip(text string, n int) string {
	if n <= 0 {
		return text
	}
	if ascii(text) {
		return text[min(n, len(text)):]
	}
	return text[len(ansi.Truncate(text, n, "")):]
}

// duration writes d for people: "0.4s", "12.3s", "1m04s", "2h05m".
func duration(d time.Duration) string {
	switch {
	case d < 0:
		return duration(0)
	case d < 59950*time.Millisecond:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Hour-500*time.Millisecond:
		d = d.Round(time.Second)
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	default:
		d = d.Round(time.Minute)
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
}

// age writes how long something has been so: "12s", "3m", "2h", "5d", or "-"
// where that is not known.
func age(now, since time.Time) string {
	if since.IsZero() {
		return "-"
	}
	switch d := now.Sub(since); {
	case d < 0:
		return "0s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	default:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
}

// cores writes an amount of CPU: "12m" are thousandths of a core.
func cores(c float64) string {
	if c < 0.9995 {
		return fmt.Sprintf("%dm", int(c*1000+0.5))
	}
	return fmt.Sprintf("%.1f", c)
}

// memory writes an amount of bytes: "540M", "1.9G".
func memory(b int64) string {
	const m = 1 << 20
	switch {
	case b < m:
		return fmt.Sprintf("%dK", b>>10)
	case b < 1000*m:
		return fmt.Sprintf("%dM", b/m)
	default:
		return fmt.Sprintf("%.1fG", float64(b)/(1<<30))
	}
}

// amount writes how far a progress is: "3 of 7 objects", "12.0 of 40.5 MB", or
// nothing where it is not known.
func amount(p event.Progress) string {
	const mb = 1e6
	bytes := p.Unit == "bytes"
	switch {
	case bytes && p.Total > 0:
		return fmt.Sprintf("%.1f of %.1f MB", float64(p.Done)/mb, float64(p.Total)/mb)
	case bytes && p.Done > 0:
		return fmt.Sprintf("%.1f MB", float64(p.Done)/mb)
	case bytes || p.Done == 0 && p.Total == 0:
		return ""
	case p.Total > 0:
		return strings.TrimSpace(fmt.Sprintf("%d of %d %s", p.Done, p.Total, p.Unit))
	default:
		return strings.TrimSpace(fmt.Sprintf("%d %s", p.Done, p.Unit))
	}
}
