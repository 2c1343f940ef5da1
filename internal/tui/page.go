package tui

import (
	"strings"

	"github.com/charmbracelet/x/ansi"

	tea "charm.land/bubbletea/v2"
)

// page is a text on a screen of its own: what describe or plan has said.
type page struct {
	number  int
	title   string
	text    string
	waiting bool
	pager   pager
}

// openPage opens a page; without a text it waits for one. It returns the number
// of the page, so that a text that comes late does not land on another one.
func (m *model) openPage(title, text string) int {
	m.pages++
	m.page = &page{number: m.pages, title: title, text: text, waiting: text == ""}
	return m.pages
}

func (m *model) fillPage(msg textMsg) {
	if m.page == nil || m.page.number != msg.page {
		return // it was closed meanwhile
	}
	m.page.waiting, m.page.text = false, msg.text
	if msg.err != nil {
		m.page.text = strings.TrimSpace(msg.err.Error() + "\n\n" + msg.text)
		m.fail(msg.err)
	}
}

func (m *model) pageDo(i intent) tea.Cmd {
	if m.page.pager.do(i) {
		return nil
	}
	switch i {
	case back, quit:
		m.page = nil
	case copyValue:
		return m.copy(m.page.text)
	case fullScreen:
		m.full = !m.full
	}
	return nil
}

func (p *page) pane(m *model, w, h int) pane {
	t := m.theme
	out := pane{title: p.title}
	if p.waiting {
		out.lines = []string{t.line(w, false, in(toneBusy, t.pick(" one moment …", " one moment ...")))}
		return out
	}
	var lines []string
	for part := range strings.SplitSeq(strings.TrimRight(p.text, "\n"), "\n") {
		for _, piece := range chunks(t.text(part), w-2) {
			lines = append(lines, t.line(w, false, plain(" "+piece)))
		}
	}
	out.lines = p.pager.window(lines, h)
	out.note = share(p.pager.top, h, len(lines))
	return out
}

// chooser is a list to choose one of.
type chooser struct {
	title   string
	choices []choice
	list    list
	chosen  func(key string)
}

func newChooser(title string, choices []choice, current string, chosen func(key string)) *chooser {
	c := &chooser{title: title, choices: choices, chosen: chosen}
	keys := make([]string, len(choices))
	for i, ch := range choices {
		keys[i] = ch.key
	}
	c.list.set(keys)
	c.list.goTo(current)
	return c
}

// choose does what is wanted in a chooser.
func (m *model) choose(i intent) tea.Cmd {
	c := m.choosing
	if c.list.do(i) {
		return nil
	}
	switch i {
	case back, quit:
		m.choosing = nil
	case open, foldOut:
		m.choosing = nil
		c.chosen(c.list.key())
	}
	return nil
}

func (c *chooser) pane(m *model, w, h int) pane {
	t := m.theme
	p := pane{title: c.title}
	from, to := c.list.window(h)
	for i := from; i < to; i++ {
		cursor := "  "
		if i == c.list.at {
			cursor = " >"
		}
		p.lines = append(p.lines, t.line(w, i == c.list.at, plain(cursor+" "), plain(t.fill(c.choices[i].text, max(20, w*60/100))), in(toneDim, " "+c.choices[i].note)))
	}
	return p
}

// plainText is the frame as it is on the screen, without colours.
func (m *model) plainText() string {
	lines := strings.Split(ansi.Strip(m.draw()), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n") + "\n"
}
