package tui

import (
	"strings"

	"github.com/charmbracelet/x/ansi"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// theme says what the terminal can show.
type theme struct {
	// color uses the terminal's own sixteen colours, which its user chose.
	// Without it only reverse video is left.
	color bool
	// ascii draws with ASCII characters only.
	ascii bool
}

// tone is a way to draw text that has a meaning.
type tone uint8

const (
	toneNone tone = iota
	toneGood
	toneWarn
	toneBad
	toneBusy
	toneDim
	toneBold
	toneKey // a key or a command that can be typed
	toneHit // what a search has found
	toneBlue
	toneMagenta
)

// paint draws text in a tone, reversed where it is part of the selection.
func (t theme) paint(tn tone, selected bool, text string) string {
	if text == "" {
		return ""
	}
	var style ansi.Style
	if t.color {
		switch tn {
		case toneGood:
			style = style.ForegroundColor(ansi.Green)
		case toneWarn:
			style = style.ForegroundColor(ansi.Yellow)
		case toneBad:
			style = style.Bold().ForegroundColor(ansi.Red)
		case toneBusy:
			style = style.ForegroundColor(ansi.Cyan)
		case toneBlue:
			style = style.ForegroundColor(ansi.Blue)
		case toneMagenta:
			style = style.ForegroundColor(ansi.Magenta)
		case toneDim:
			if !selected { // faint reversed text can hardly be read
				style = style.Faint()
			}
		case toneBold:
			style = style.Bold()
		case toneKey:
			style = style.Bold().ForegroundColor(ansi.Blue)
		}
	}
	if selected != (tn == toneHit) {
		style = style.Reverse(true)
	}
	if len(style) == 0 {
		return text
	}
	return style.Styled(text)
}

// span is a piece of a line in one tone.
type span struct {
	text string
	tone tone
}

func plain(text string) span       { return span{text: text} }
func in(tn tone, text string) span { return span{text: text, tone: tn} }
func gap(n int) span               { return span{text: strings.Repeat(" ", max(0, n))} }
func (t theme) rule(n int) string  { return strings.Repeat(t.pick("─", "-"), max(0, n)) }
func (t theme) pick(u, a string) string {
	if t.ascii {
		return a
	}
	return u
}

// measure is the number of columns the spans take.
func (t theme) measure(spans ...span) int {
	n := 0
	for _, s := range spans {
		n += width(t.text(s.text))
	}
	return n
}

// line draws spans as a line of exactly w columns. What does not fit is cut,
// with a mark. All text passes here, and is made safe here.
func (t theme) line(w int, selected bool, spans ...span) string {
	var b strings.Builder
	left := w
	for i, s := range spans {
		if left <= 0 {
			break
		}
		text := t.text(s.text)
		n := width(text)
		if n > left || n == left && t.more(spans[i+1:]) {
			text = t.clip(text+" ", left)
			n = width(text)
		}
		b.WriteString(t.paint(s.tone, selected, text))
		left -= n
	}
	if left > 0 {
		b.WriteString(t.paint(toneNone, selected, strings.Repeat(" ", left)))
	}
	return b.String()
}

// more says whether anything visible follows.
func (t theme) more(spans []span) bool {
	for _, s := range spans {
		if strings.TrimSpace(s.text) != "" {
			return true
		}
	}
	return false
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
)

// allSigns in the order in which they are counted and explained.
var allSigns = []struct {
	state event.State
	sign  sign
}{
	{event.StateOK, signOK},
	{event.StateDegraded, signDegraded},
	{event.StateFailed, signFailed},
	{event.StateWorking, signWorking},
	{event.StateWaiting, signWaiting},
	{event.StateStale, signStale},
	{event.StateOff, signOff},
}

func stateSign(st event.State) sign {
	for _, s := range allSigns {
		if s.state == st {
			return s.sign
		}
	}
	return sign{"?", "?", string(st), toneWarn}
}

func (s sign) as(word string) sign { s.word = word; return s }

func outcomeSign(o event.Outcome) sign {
	switch o {
	case event.Done:
		return signOK.as("done")
	case event.Unchanged:
		return signOK.as("unchanged")
	case event.Off:
		return signOff
	case event.Failed:
		return signFailed
	case event.Skipped:
		return signWaiting.as("skipped")
	case event.Canceled:
		return signDegraded.as("canceled")
	default:
		return sign{"?", "?", string(o), toneWarn}
	}
}

func stepSign(s event.StepView) sign {
	switch {
	case s.Outcome != "":
		return outcomeSign(s.Outcome)
	case s.Running():
		return signWorking
	default:
		return signWaiting
	}
}

func alertSign(state string) sign {
	switch state {
	case "firing":
		return signFailed.as(state)
	case "pending":
		return signWorking.as(state)
	case "inactive":
		return signOK.as(state)
	default:
		return sign{"?", "?", state, toneWarn}
	}
}

func resourceSign(s event.ResourceState) sign {
	switch s {
	case event.ResourceOK:
		return signOK
	case event.ResourceDrift:
		return signDegraded.as("drift")
	case event.ResourceMissing:
		return signFailed.as("missing")
	case event.ResourcePlanned:
		return signWorking.as("planned")
	default:
		return sign{"?", "?", string(s), toneWarn}
	}
}

// sign is a state as a span: glyph and word.
func (t theme) sign(s sign) span {
	return in(s.tone, t.pick(s.glyph, s.ascii)+" "+s.word)
}

// bad ranks the states by how much they want attention.
func bad(s event.State) int {
	switch s {
	case event.StateFailed:
		return 6
	case event.StateDegraded:
		return 5
	case event.StateStale:
		return 4
	case event.StateWorking:
		return 3
	case event.StateWaiting:
		return 2
	case event.StateOK:
		return 1
	default:
		return 0
	}
}
