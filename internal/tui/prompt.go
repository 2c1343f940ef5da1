package tui

import (
	"strings"

	"charm.land/bubbles/v2/textinput"
	tea "charm.land/bubbletea/v2"
)

type promptKind int

const (
	promptNone promptKind = iota
	promptFilter
	promptCommand
)

// prompt is the line in which a filter or a command is typed.
type prompt struct {
	kind  promptKind
	input textinput.Model
}

func newPrompt() prompt {
	in := textinput.New()
	in.CharLimit = 200
	return prompt{input: in}
}

func (p *prompt) open(kind promptKind, text string) {
	p.kind = kind
	p.input.SetValue(text)
	p.input.CursorEnd()
	// The cursor is drawn here and does not blink, so there is nothing to run.
	_ = p.input.Focus()
}

func (p *prompt) close() {
	p.kind = promptNone
	p.input.Blur()
}

func (p *prompt) edit(k tea.KeyPressMsg) { p.input, _ = p.input.Update(k) }

func (p *prompt) paste(text string) { p.input, _ = p.input.Update(tea.PasteMsg{Content: text}) }

// line draws the prompt with its cursor.
func (p *prompt) line(t theme, w int) string {
	lead := " /"
	if p.kind == promptCommand {
		lead = " :"
	}
	text, at := []rune(p.input.Value()), p.input.Position()
	at = min(at, len(text))
	under, after := " ", ""
	if at < len(text) {
		under, after = string(text[at]), string(text[at+1:])
	}
	before := string(text[:at])
	if over := width(t.text(before)) - (w - 20); over > 0 {
		before = skip(t.text(before), over)
	}
	spans := []span{in(toneKey, lead), plain(before), in(toneHit, under), plain(after)}
	if p.kind == promptCommand {
		var names []string
		word, _, _ := strings.Cut(string(text), " ")
		for _, b := range commands(word, anywhere) {
			names = append(names, b.name)
		}
		spans = append(spans, in(toneDim, "  "+strings.Join(names, " ")))
	}
	return t.line(w, false, spans...)
}

// typed follows the text while it is typed: a filter works at once.
func (m *model) typed() {
	if m.prompt.kind == promptFilter {
		m.setFilter(m.prompt.input.Value())
	}
}

// typing does what is not text in a prompt.
func (m *model) typing(i intent) tea.Cmd {
	kind, text := m.prompt.kind, strings.TrimSpace(m.prompt.input.Value())
	switch i {
	case leave:
		return tea.Quit
	case cancel:
		m.prompt.close()
		if kind == promptFilter {
			m.setFilter("")
		}
	case accept:
		m.prompt.close()
		switch {
		case kind == promptCommand:
			return m.command(text)
		case m.screen == logsScreen:
			m.logs.latest()
		}
	case complete:
		if kind == promptCommand {
			if found := commands(text, m.screen); len(found) > 0 && text != "" {
				m.prompt.open(kind, found[0].name+" ")
			}
		}
	default:
		if kind == promptFilter { // the rows can be looked at while the filter is typed
			m.tabs[m.screen].do(m, i)
		}
	}
	return nil
}

// find returns the path of the component that is meant: by its path, or by the
// end of it. It is "" where there is none.
func (m *model) find(name string) string {
	var paths []string
	for _, n := range m.overview.tree {
		paths = append(paths, n.path)
	}
	for _, s := range m.logs.sources() {
		paths = append(paths, s.key)
	}
	for _, p := range paths {
		if p == name {
			return p
		}
	}
	for _, p := range paths {
		if strings.HasSuffix(p, "/"+name) {
			return p
		}
	}
	return ""
}

// command does what a line after ":" says: a name from the key map and, for
// some, what it is about.
func (m *model) command(line string) tea.Cmd {
	word, arg, _ := strings.Cut(line, " ")
	arg = strings.TrimSpace(arg)
	if word == "" {
		return nil
	}
	found := commands(word, m.screen)
	if len(found) == 0 {
		if found = commands(word, anywhere); len(found) == 1 {
			m.say(toneWarn, "\""+found[0].name+"\" does not work on this screen")
			return nil
		}
		m.say(toneWarn, "no command \""+word+"\"; ? shows them all")
		return nil
	}
	b := found[0]
	for _, other := range found[1:] {
		if other.intent != b.intent {
			m.say(toneWarn, "\""+word+"\" can be "+b.name+" or "+other.name)
			return nil
		}
	}
	switch {
	case arg == "":
	case b.intent == goLogs:
		path := m.find(arg)
		if path == "" {
			m.say(toneWarn, "no component "+arg+" has logged anything; S lists those that have")
			return nil
		}
		m.leaveTo(logsScreen)
		m.logs.show(path)
		return nil
	case b.intent == goOverview:
		m.leaveTo(overview)
		if path := m.find(arg); path == "" || !m.overview.goTo(m, path) {
			m.say(toneWarn, "no component "+arg)
		}
		return nil
	case b.intent == filter:
		m.setFilter(arg)
		return nil
	default:
		m.say(toneWarn, b.name+" takes no argument")
		return nil
	}
	if !m.able(b) {
		m.say(toneNone, b.name+" cannot be done here")
		return nil
	}
	return m.do(b.intent)
}
