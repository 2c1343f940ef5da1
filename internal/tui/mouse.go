package tui

import tea "charm.land/bubbletea/v2"

// click selects what is under the mouse: a tab, or a row.
func (m *model) click(x, y int) {
	m.chosen = true
	switch {
	case m.question != nil || m.prompt.kind != promptNone || m.helping != nil || m.page != nil:
	case y == m.layout.tabs:
		for s, zone := range m.zones {
			if x >= zone[0] && x < zone[1] {
				m.choosing = nil
				m.leaveTo(screen(s))
			}
		}
	case m.choosing != nil:
		if row := m.choosing.list.top + y - m.layout.list.y; m.layout.list.has(x, y) && row < len(m.choosing.choices) {
			m.choosing.list.at = row
		}
	case m.layout.list.has(x, y):
		m.inDetail = false
		m.tabs[m.screen].click(m, y-m.layout.list.y)
	case m.layout.detail.has(x, y):
		m.inDetail = true
	}
}

// wheelStep is how many lines the wheel scrolls.
const wheelStep = 3

func (m *model) wheel(e tea.MouseWheelMsg) {
	i := moveDown
	switch e.Button {
	case tea.MouseWheelUp:
		i = moveUp
	case tea.MouseWheelDown:
	default:
		return
	}
	if m.question != nil || m.prompt.kind != promptNone {
		return
	}
	for range wheelStep {
		if m.helping != nil {
			m.help(i)
			continue
		}
		m.do(i)
	}
}
