package tui

import (
	"fmt"
	"strings"

	"charm.land/bubbles/v2/textinput"
	tea "charm.land/bubbletea/v2"
)

// helpPage lists the keys, from the key map itself. Typing filters it, and what
// is chosen in it is done.
type helpPage struct {
	input textinput.Model
	at    int // the chosen one among the shown
	top   int
	below int // lines that follow below
	shown []binding
}

func newHelp() *helpPage {
	in := textinput.New()
	in.CharLimit = 40
	_ = in.Focus() // the cursor does not blink: there is nothing to run
	return &helpPage{input: in}
}

func (p *helpPage) edit(k tea.KeyPressMsg) {
	if k.String() == "?" && p.input.Value() == "" {
		return // pressing the key of the help twice is no search
	}
	p.input, _ = p.input.Update(k)
	p.at, p.top = 0, 0
}

// help does what is not text in the help.
func (m *model) help(i intent) tea.Cmd {
	p := m.helping
	switch i {
	case leave:
		return tea.Quit
	case cancel:
		if p.input.Value() == "" {
			m.helping = nil
		}
		p.input.SetValue("")
	case accept:
		m.helping = nil
		if p.at < len(p.shown) {
			if b := p.shown[p.at]; m.able(b) && b.on.has(m.screen) {
				return m.do(b.intent)
			}
			m.say(toneNone, "that does not work here")
		}
	default:
		if d, ok := step(i, 10, len(p.shown)); ok {
			p.at = max(0, min(p.at+d, len(p.shown)-1))
		}
	}
	return nil
}

// helpWidth is the least width of a column of the help.
const helpWidth = 38

// pane draws the groups of keys in as many columns as fit.
func (p *helpPage) pane(m *model, w, h int) pane {
	t := m.theme
	query := parsePattern(p.input.Value())
	p.shown = p.shown[:0]
	columns := max(1, w/helpWidth)
	column := w / columns
	var lines []string // of one column after the other
	chosen := 0
	group := ""
	for _, b := range keyMap {
		if !query.match(b.Help().Key, b.Help().Desc, b.name) {
			continue
		}
		if b.group != group {
			if group = b.group; len(lines) > 0 {
				lines = append(lines, t.line(column, false))
			}
			lines = append(lines, t.line(column, false, in(toneBold, " "+group)))
		}
		if len(p.shown) == p.at {
			chosen = len(lines)
		}
		usable := m.able(b) && b.on.has(m.screen)
		name, desc := in(toneKey, t.fill(b.Help().Key, 8)), plain(b.Help().Desc)
		if !usable {
			name.tone, desc.tone = toneDim, toneDim
		}
		cursor := "  "
		if len(p.shown) == p.at {
			cursor = " >"
		}
		lines = append(lines, t.line(column-1, len(p.shown) == p.at, plain(cursor), name, plain(" "), desc)+" ")
		p.shown = append(p.shown, b)
	}
	out := pane{title: "Help", note: "type to filter", lines: p.columns(lines, chosen, columns, column, w, h-3)}
	if text := p.input.Value(); text != "" {
		out.title = "Help: " + text
		out.note = fmt.Sprintf("%d of %d", len(p.shown), len(keyMap))
	}
	if p.below > 0 {
		out.note = fmt.Sprintf("%d more lines below, %s", p.below, out.note)
	}
	for len(out.lines) < h-3 {
		out.lines = append(out.lines, t.line(w, false))
	}
	legend := []span{in(toneBold, " STATES  ")}
	for _, s := range allSigns {
		legend = append(legend, t.sign(s.sign), plain("  "))
	}
	out.lines = append(out.lines, t.line(w, false), t.line(w, false, legend...), t.line(w, false, in(toneDim, " dim: not on this screen.  : takes commands by name, as :logs aws")))
	return out
}

// columns folds one long column into n, and scrolls to the chosen line where
// they are still too long. An empty line at the top of a column is left out.
func (p *helpPage) columns(lines []string, chosen, n, column, w, h int) []string {
	if h < 1 {
		return nil
	}
	each := max((len(lines)+n-1)/n, min(h, 8))
	all := make([][]string, 1, n)
	at := 0
	for i, l := range lines {
		last := len(all) - 1
		if len(all[last]) >= each && last < n-1 {
			all, last = append(all, nil), last+1
		}
		if i == chosen {
			at = len(all[last])
		}
		if len(all[last]) > 0 || strings.TrimSpace(l) != "" {
			all[last] = append(all[last], l)
		}
	}
	p.top = max(0, min(p.top, at-1), at-h+1)
	var out []string
	for y := p.top; y < min(each, p.top+h); y++ {
		var b strings.Builder
		for _, c := range all {
			if y < len(c) {
				b.WriteString(c[y])
			} else {
				b.WriteString(strings.Repeat(" ", column))
			}
		}
		b.WriteString(strings.Repeat(" ", w-len(all)*column))
		out = append(out, b.String())
	}
	p.below = each - p.top - len(out)
	return out
}
