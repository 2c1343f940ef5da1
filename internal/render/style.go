package render

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/term"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// Style says what the place that is drawn on can show.
type Style struct {
	// Color uses the terminal's own sixteen colours, which its user chose.
	Color bool
	// ASCII draws with ASCII characters only.
	ASCII bool
	// Width is the number of columns to fit into; 0 means no limit.
	Width int
}

// ColorChoice is the user's word on colour.
type ColorChoice string

// The choices; ColorAuto colours terminals.
const (
	ColorAuto   ColorChoice = "auto"
	ColorAlways ColorChoice = "always"
	ColorNever  ColorChoice = "never"
)

// Detect returns the style for w. Only w itself is looked at: that another
// stream is a terminal says nothing. Under ColorAuto a NO_COLOR of any value
// but the empty one, and TERM=dumb, switch colour off.
func Detect(w io.Writer, choice ColorChoice, ascii bool, getenv func(string) string) Style {
	s := Style{ASCII: ascii, Color: choice == ColorAlways}
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(f.Fd()) {
		return s
	}
	if choice == ColorAuto {
		s.Color = getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
	}
	if width, _, err := term.GetSize(f.Fd()); err == nil {
		s.Width = width
	} else if width, err := strconv.Atoi(getenv("COLUMNS")); err == nil {
		s.Width = width
	}
	return s
}

// tone is a colour with a meaning.
type tone int

const (
	toneNone tone = iota
	toneGood
	toneWarn
	toneBad
	toneBusy
	toneDim
	toneBold
)

func (s Style) paint(t tone, text string) string {
	if !s.Color || text == "" {
		return text
	}
	var style ansi.Style
	switch t {
	case toneGood:
		style = style.ForegroundColor(ansi.Green)
	case toneWarn:
		style = style.ForegroundColor(ansi.Yellow)
	case toneBad:
		style = style.ForegroundColor(ansi.Red)
	case toneBusy:
		style = style.ForegroundColor(ansi.Cyan)
	case toneDim:
		style = style.Faint()
	case toneBold:
		style = style.Bold()
	default:
		return text
	}
	return style.Styled(text)
}

// sign is a state as it is shown: never by colour or glyph alone, always with
// its word.
type sign struct {
	glyph, ascii string
	word         string
	tone         tone
}

// The glyphs are single-width and have no variation selector.
var (
	signOK       = sign{"✓", "+", "ok", toneGood}
	signDegraded = sign{"!", "!", "degraded", toneWarn}
	signFailed   = sign{"✗", "x", "failed", toneBad}
	signWorking  = sign{"~", "~", "working", toneBusy}
	signWaiting  = sign{"·", ".", "waiting", toneDim}
	signOff      = sign{"-", "-", "off", toneDim}
	signStale    = sign{"?", "?", "stale", toneWarn}
	signRunning  = sign{"~", "~", "running", toneBusy} // of steps
	signFiring   = sign{"!", "!", "firing", toneWarn}  // of alerts
)

func stateSign(st event.State) sign {
	switch st {
	case event.StateOK:
		return signOK
	case event.StateDegraded:
		return signDegraded
	case event.StateFailed:
		return signFailed
	case event.StateWorking:
		return signWorking
	case event.StateWaiting:
		return signWaiting
	case event.StateOff:
		return signOff
	case event.StateStale:
		return signStale
	default:
		return sign{"?", "?", string(st), toneWarn}
	}
}

func outcomeSign(o event.Outcome) sign {
	as := func(s sign, word string) sign { s.word = word; return s }
	switch o {
	case event.Done:
		return as(signOK, "done")
	case event.Unchanged:
		return as(signOK, "unchanged")
	case event.Off:
		return signOff
	case event.Failed:
		return signFailed
	case event.Skipped:
		return as(signWaiting, "skipped")
	case event.Canceled:
		return as(signDegraded, "canceled")
	default:
		return sign{"?", "?", string(o), toneWarn}
	}
}

// signWidth fits the longest word, "unchanged".
const signWidth = 11

// sign draws a sign, padded to signWidth columns.
func (s Style) sign(g sign) string {
	glyph := g.glyph
	if s.ASCII {
		glyph = g.ascii
	}
	text := glyph + " " + g.word
	return s.paint(g.tone, text) + pad(text, signWidth)
}

// glyph draws a sign without its word, where the words beside it say the same.
func (s Style) glyph(g sign) string {
	if s.ASCII {
		return s.paint(g.tone, g.ascii)
	}
	return s.paint(g.tone, g.glyph)
}

// text returns foreign text as it may be shown: safe for a terminal, and
// without characters beyond ASCII where these can't be shown.
func (s Style) text(t string) string {
	t = event.Clean(t)
	if !s.ASCII {
		return t
	}
	return strings.Map(func(r rune) rune {
		if r > 0x7e {
			return '?'
		}
		return r
	}, asciiForms.Replace(t))
}

// asciiForms are the ASCII forms of what sandbox itself writes.
var asciiForms = strings.NewReplacer("…", "...", "→", "->", "·", ".", "│", "|", "✓", "+", "✗", "x", "–", "-", "—", "-")

// bar leads the lines of a log.
func (s Style) bar() string {
	if s.ASCII {
		return "|"
	}
	return "│"
}

// rule is a horizontal line of that many columns.
func (s Style) rule(columns int) string {
	if s.ASCII {
		return strings.Repeat("-", columns)
	}
	return strings.Repeat("─", columns)
}

// ellipsis ends a text that was cut.
func (s Style) ellipsis() string {
	if s.ASCII {
		return "..."
	}
	return "…"
}

// gauge draws how much of a total is done, in that many columns.
func (s Style) gauge(done, total int64, cells int) string {
	full := int(float64(cells) * min(1, max(0, float64(done)/float64(total))))
	on, off := "█", "░"
	if s.ASCII {
		on, off = "#", "."
	}
	return s.paint(toneBusy, strings.Repeat(on, full)) + s.paint(toneDim, strings.Repeat(off, cells-full))
}

// barCell is a column of a bar in the timeline.
func (s Style) barCell(critical bool) string {
	switch {
	case s.ASCII && critical:
		return "#"
	case s.ASCII:
		return "="
	case critical:
		return "█"
	default:
		return "▒"
	}
}

// pad returns the spaces that fill text up to width columns.
func pad(text string, width int) string {
	return strings.Repeat(" ", max(0, width-ansi.StringWidth(text)))
}

// wrap breaks text into lines of at most width columns, at spaces only, so that
// addresses and names can be copied whole; a word that is wider than that is
// cut. A width below 10 does not break: nothing readable would be left.
func wrap(text string, width int) []string {
	if width < 10 || ansi.StringWidth(text) <= width {
		return []string{text}
	}
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case ansi.StringWidth(line)+1+ansi.StringWidth(word) <= width:
			line += " " + word
			continue
		default:
			lines, line = append(lines, line), word
		}
		parts := strings.Split(ansi.Hardwrap(line, width, false), "\n")
		last := len(parts) - 1
		lines, line = append(lines, parts[:last]...), parts[last]
	}
	return append(lines, line)
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

// seconds writes d for what is redrawn as it grows: "23s", "1m04s", "2h05m".
func seconds(d time.Duration) string {
	d = max(0, d).Truncate(time.Second)
	if d < time.Minute {
		return fmt.Sprintf("%ds", d/time.Second)
	}
	return duration(d)
}

// age writes how long something has been so: "12s", "3m", "2h", "5d".
func age(d time.Duration) string {
	switch {
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

// amount writes how far a progress is: "3 of 7 objects", "12.0 of 40.5 MB", or
// nothing where it is not known.
func amount(p event.Progress) string {
	if p.Unit == "bytes" {
		const mb = 1e6
		switch {
		case p.Total > 0:
			return fmt.Sprintf("%.1f of %.1f MB", float64(p.Done)/mb, float64(p.Total)/mb)
		case p.Done > 0:
			return fmt.Sprintf("%.1f MB", float64(p.Done)/mb)
		}
		return ""
	}
	unit := ""
	if p.Unit != "" {
		unit = " " + p.Unit
	}
	switch {
	case p.Total > 0:
		return fmt.Sprintf("%d of %d%s", p.Done, p.Total, unit)
	case p.Done > 0:
		return fmt.Sprintf("%d%s", p.Done, unit)
	}
	return ""
}
