package render

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/charmbracelet/x/ansi"
)

// Check is one row of an examination.
type Check struct {
	ID    string
	State string // ok, warn, fail or skip
	What  string
	Why   string
	Fix   string
}

// checkSigns are the states of checks, worst first.
var checkSigns = []struct {
	state string
	sign  sign
}{
	{"fail", sign{"✗", "x", "fail", toneBad}},
	{"warn", sign{"!", "!", "warn", toneWarn}},
	{"ok", signOK},
	{"skip", sign{"-", "-", "skip", toneDim}},
}

func checkRank(state string) int {
	for i, s := range checkSigns {
		if s.state == state {
			return i
		}
	}
	return len(checkSigns)
}

func checkSign(state string) sign {
	if i := checkRank(state); i < len(checkSigns) {
		return checkSigns[i].sign
	}
	return sign{"?", "?", state, toneWarn}
}

// WriteChecks draws an examination: a head with the subject, its state, what is
// known of it and the tally, and a row for each check, the worst first.
func WriteChecks(w io.Writer, subject, state string, facts []string, checks []Check, style Style) error {
	sorted := slices.Clone(checks)
	slices.SortStableFunc(sorted, func(a, b Check) int { return cmp.Compare(checkRank(a.State), checkRank(b.State)) })
	var tally []string
	for _, s := range checkSigns {
		n := 0
		for _, c := range checks {
			if c.State == s.state {
				n++
			}
		}
		if n > 0 {
			tally = append(tally, fmt.Sprintf("%d %s", n, s.state))
		}
	}
	facts = append(slices.Clone(facts), strings.Join(tally, ", "))
	head := style.paint(toneBold, style.text(subject)) + "  " + strings.TrimRight(style.sign(checkSign(state)), " ")
	lines := []string{head}
	text := style.text(strings.Join(facts, " · "))
	if style.Width == 0 || ansi.StringWidth(head)+2+ansi.StringWidth(text) <= style.Width {
		lines[0] += "  " + style.paint(toneDim, text)
	} else {
		for _, more := range wrap(text, style.Width-2) {
			lines = append(lines, "  "+style.paint(toneDim, more))
		}
	}
	lines = append(lines, "")

	nameWidth := len("CHECK")
	for _, c := range sorted {
		nameWidth = max(nameWidth, ansi.StringWidth(style.text(c.ID)))
	}
	column := nameWidth + 2 + checkSignWidth + 2
	room, narrow := 0, false
	if style.Width > 0 {
		room, narrow = style.Width-column, style.Width-column < 24
	}
	if narrow {
		column, room = 4, style.Width-4
	}
	header := "CHECK" + pad("CHECK", nameWidth) + "  " + "STATE" + pad("STATE", checkSignWidth)
	if !narrow {
		header += "  WHAT / WHY / TRY"
	}
	lines = append(lines, style.paint(toneDim, strings.TrimRight(header, " ")))
	for _, c := range sorted {
		id, sign := style.text(c.ID), strings.TrimRight(style.sign(checkSign(c.State)), " ")
		line := id + pad(id, nameWidth) + "  " + sign + pad(sign, checkSignWidth)
		notes := checkNotes(c, style, room)
		if !narrow && len(notes) > 0 {
			line, notes = line+"  "+notes[0], notes[1:]
		}
		lines = append(lines, strings.TrimRight(line, " "))
		for _, n := range notes {
			lines = append(lines, strings.Repeat(" ", column)+n)
		}
	}
	_, err := io.WriteString(w, strings.Join(lines, "\n")+"\n")
	return err
}

// checkSignWidth fits "✗ fail".
const checkSignWidth = 6

// checkNotes are the lines beside a check: what is so and, where that is not as
// it should be, why it matters and what to try.
func checkNotes(c Check, style Style, room int) []string {
	var out []string
	add := func(t tone, text string) {
		if text == "" {
			return
		}
		for _, line := range wrap(style.text(text), room) {
			out = append(out, style.paint(t, line))
		}
	}
	switch c.State {
	case "fail", "warn":
		add(toneNone, c.What)
		add(toneDim, c.Why)
		if c.Fix != "" {
			add(toneBusy, "Try: "+c.Fix)
		}
	case "skip":
		text := c.What
		if c.Why != "" {
			text += ": " + c.Why
		}
		add(toneDim, text)
	default:
		add(toneNone, c.What)
	}
	return out
}

// WriteWarning draws something that is not as it should be, and does not keep
// anything from going on.
func WriteWarning(w io.Writer, c Check, style Style) error {
	lines := []string{style.glyph(checkSign("warn")) + " " + style.text(c.What)}
	if c.Why != "" {
		lines = append(lines, "  "+style.text(c.Why))
	}
	if c.Fix != "" {
		lines = append(lines, "  "+style.paint(toneBusy, "Try: ")+style.text(c.Fix))
	}
	_, err := fmt.Fprintln(w, strings.Join(lines, "\n"))
	return err
}

// Waiting says what is waited for, once that takes longer than a moment: as one
// line that is redrawn on a terminal, else as a line now and then.
type Waiting struct {
	w      io.Writer
	style  Style
	redraw bool
	every  time.Duration

	mu     sync.Mutex
	text   string
	said   string
	timer  *time.Timer
	closed bool
	failed error
}

// NewWaiting returns a Waiting that begins to speak after the given time.
func NewWaiting(w io.Writer, style Style, redraw bool, after time.Duration) *Waiting {
	every := 5 * time.Second
	if redraw {
		every = 100 * time.Millisecond
	}
	p := &Waiting{w: w, style: style, redraw: redraw, every: every}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(after, p.draw)
	return p
}

// Set replaces what is waited for.
func (p *Waiting) Set(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text = text
}

func (p *Waiting) draw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.timer.Reset(p.every)
	text := p.style.text(p.text)
	if text == "" || text == p.said {
		return
	}
	p.said = text
	if !p.redraw {
		p.write(text + "\n")
		return
	}
	if p.style.Width > 0 {
		text = ansi.Truncate(text, p.style.Width-1, p.style.ellipsis())
	}
	p.write("\r\x1b[K" + p.style.paint(toneDim, text))
}

func (p *Waiting) write(text string) {
	if _, err := io.WriteString(p.w, text); err != nil && p.failed == nil {
		p.failed = err
	}
}

// Close ends it and wipes what was drawn.
func (p *Waiting) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer.Stop()
	if p.redraw && p.said != "" && !p.closed {
		p.write("\r\x1b[K")
	}
	p.closed = true
	return p.failed
}
