package tui

import (
	"context"
	"errors"
	"fmt"

	tea "charm.land/bubbletea/v2"
)

// press turns a key into an intent, or into typed text, and does it.
func (m *model) press(k tea.KeyPressMsg) tea.Cmd {
	m.chosen = true
	switch {
	case m.question != nil:
		return m.answer(lookup(questionKeys, m.screen, k))
	case m.prompt.kind != promptNone:
		if i := lookup(inputKeys, m.screen, k); i != nothing {
			return m.typing(i)
		}
		m.prompt.edit(k)
		m.typed()
		return nil
	case m.helping != nil:
		if i := lookup(inputKeys, m.screen, k); i != nothing {
			return m.help(i)
		}
		m.helping.edit(k)
		return nil
	}
	if m.page != nil && lookup(keyMap, m.screen, k) == apply {
		m.page = nil // it shows the plan
		return m.do(apply)
	}
	if m.page != nil || m.choosing != nil {
		return m.do(lookup(keyMap, overview, k)) // what lies over a screen has the keys of a list
	}
	return m.do(lookup(keyMap, m.screen, k))
}

func (m *model) answer(i intent) tea.Cmd {
	q := m.question
	switch i {
	case yes:
		m.question = nil
		return q.yes()
	case no:
		m.question = nil
		m.say(toneNone, "left as it is")
	case leave:
		return tea.Quit
	}
	return nil
}

// able says whether a binding can do something here.
func (m *model) able(b binding) bool {
	if b.acts && m.actions == nil {
		return false
	}
	if b.intent >= drillOne && b.intent <= undoFault {
		return m.driller() != nil
	}
	return b.intent != copyCommand || m.actions != nil
}

// do does what the user wants.
func (m *model) do(i intent) tea.Cmd {
	m.chosen = true
	if i == nothing {
		return nil
	}
	m.message = message{}
	switch i {
	case leave:
		return tea.Quit
	case suspend:
		return tea.Suspend
	case help:
		m.helping = newHelp()
		return nil
	case hideHeader:
		m.noHeader = !m.noHeader
		return nil
	case toggleMouse:
		m.mouse = !m.mouse
		m.say(toneNone, onOff("mouse", m.mouse)+"; the terminal selects text with it while it is off")
		return nil
	case command:
		m.prompt.open(promptCommand, "")
		return nil
	}
	switch {
	case i >= goOverview && i <= goTerraform:
		m.leaveTo(screen(i - goOverview))
		return nil
	case m.page != nil:
		return m.pageDo(i)
	case m.choosing != nil:
		return m.choose(i)
	}
	switch i {
	case filter:
		m.prompt.open(promptFilter, "")
	case fullScreen:
		m.full = !m.full
	case nextPane:
		m.nextPane()
	case back:
		if m.nested() {
			m.back()
		} else {
			m.say(toneNone, "q quits, ? shows all keys")
		}
	case quit:
		if !m.nested() {
			return tea.Quit
		}
		m.back()
	default:
		if cmd, ok := m.tabs[m.screen].do(m, i); ok {
			return cmd
		}
		return m.reach(i)
	}
	return nil
}

func onOff(what string, isOn bool) string {
	if isOn {
		return what + " on"
	}
	return what + " off"
}

func (m *model) nextPane() {
	switch {
	case m.inDetail:
		m.inDetail = false
	case m.screen == overview, m.screen == alertsScreen, m.screen == terraformScreen:
		m.inDetail = true
	}
}

// leaveTo shows another screen, as a new start: back does not return.
func (m *model) leaveTo(s screen) {
	m.screen, m.from, m.inDetail = s, nil, false
	m.page, m.choosing = nil, nil
}

// jumpTo shows another screen, and remembers where from.
func (m *model) jumpTo(s screen) {
	m.from = append(m.from, m.screen)
	m.screen, m.inDetail = s, false
}

// nested says whether there is something to go back from.
func (m *model) nested() bool {
	return m.helping != nil || m.page != nil || m.choosing != nil || m.inDetail || m.full ||
		m.filters[m.screen].text != "" || len(m.from) > 0 || m.screen == logsScreen && m.logs.source != ""
}

// back undoes the last thing that narrowed the view.
func (m *model) back() {
	switch {
	case m.page != nil:
		m.page = nil
	case m.choosing != nil:
		m.choosing = nil
	case m.inDetail:
		m.inDetail = false
	case m.filters[m.screen].text != "":
		m.setFilter("")
	case m.full:
		m.full = false
	case len(m.from) > 0:
		if m.screen == logsScreen {
			m.logs.show("")
		}
		m.screen = m.from[len(m.from)-1]
		m.from = m.from[:len(m.from)-1]
	case m.screen == logsScreen:
		m.logs.show("")
	}
}

// filterOf is the filter of a screen.
func (m *model) filterOf(s screen) pattern { return m.filters[s] }

func (m *model) setFilter(text string) {
	p := parsePattern(text)
	m.filters[m.screen] = p
	if m.screen == logsScreen {
		m.logs.search(p)
		return
	}
	m.tabs[m.screen].sync(m)
}

// filterNote says how much of a screen a filter leaves.
func (m *model) filterNote(s screen, shown, all int) string {
	if m.filters[s].empty() {
		return ""
	}
	return fmt.Sprintf("%s: %d of %d", m.filters[s].text, shown, all)
}

// component is the component that is selected on the screen, or "".
func (m *model) component() string {
	switch m.screen {
	case eventsScreen:
		return m.events.component(m)
	case alertsScreen:
		return "observe/rules"
	case terraformScreen:
		if s := m.tabs[m.screen].subject(); s != "" {
			return "terraform/" + s
		}
		return ""
	}
	return m.tabs[m.screen].subject()
}

// reach does what goes beyond the screen: other screens, copies, actions.
func (m *model) reach(i intent) tea.Cmd {
	tab := m.tabs[m.screen]
	switch i {
	case showLogs:
		c := m.component()
		m.jumpTo(logsScreen)
		m.setFilter("") // what was looked for before would hide lines
		m.logs.show(c)
		return nil
	case chooseSource:
		m.choosing = newChooser("Sources", m.logs.sources(), m.logs.source, func(key string) { m.logs.show(key) })
		return nil
	case copyValue:
		return m.copy(tab.value(m))
	}
	if m.actions == nil {
		m.say(toneNone, "that cannot be done here: nothing is run from a recording")
		return nil
	}
	switch i {
	case copyCommand:
		return m.copy(m.actions.CLICommand(m.screen.name(), tab.subject()))
	case refresh:
		return m.act(quickly, "looking again", "all sources were asked to look again", m.actions.Refresh)
	case openURL:
		return m.openURL()
	case openAlertmanager:
		return m.browse(alertmanagerPath, "")
	case save:
		name, text := m.screen.name(), m.plainText()
		return m.within(quickly, func(ctx context.Context) tea.Msg {
			path, err := m.actions.Save(ctx, name, text)
			return doneMsg{text: "saved to " + path, err: err}
		})
	case plan, apply:
		return m.terraform(i)
	case drillOne, drillAll, undoFault:
		return m.drilled(i)
	}
	c := m.component()
	if c == "" {
		m.say(toneNone, "nothing is selected")
		return nil
	}
	if _, ok := m.state.Health[c]; !ok {
		m.say(toneNone, c+" is no component by itself: choose one of its parts")
		return nil
	}
	switch i {
	case shell:
		return m.shell(c)
	case previousLog:
		return m.read(patience, c+" before its last restart", func(ctx context.Context) (string, error) { return m.actions.PreviousLog(ctx, c) })
	case describe:
		return m.read(patience, c, func(ctx context.Context) (string, error) { return m.actions.Describe(ctx, c) })
	case restart:
		text := "Restart " + c + "?"
		if cost := m.actions.RestartCost(c); cost != "" {
			text += " (" + cost + ")"
		}
		m.question = &question{text: text, yes: func() tea.Cmd {
			return m.act(patience, "restarting "+c, c+" restarts", func(ctx context.Context) error { return m.actions.Restart(ctx, c) })
		}}
	}
	return nil
}

func (m *model) terraform(i intent) tea.Cmd {
	module := m.tabs[terraformScreen].subject()
	if m.screen != terraformScreen || module == "" {
		m.say(toneNone, "no module is selected")
		return nil
	}
	if i == plan {
		return m.read(applying, "plan of "+module, func(ctx context.Context) (string, error) { return m.actions.Plan(ctx, module) })
	}
	m.question = &question{text: "Apply " + module + "?", yes: func() tea.Cmd {
		return m.act(applying, "applying "+module, module+" is applied", func(ctx context.Context) error { return m.actions.Apply(ctx, module) })
	}}
	return nil
}

// openURL opens the address of what is selected.
func (m *model) openURL() tea.Cmd {
	if m.screen == alertsScreen {
		return m.browse(prometheusPath, "/alerts")
	}
	return m.browse(m.component(), "")
}

func (m *model) browse(component, path string) tea.Cmd {
	url := m.state.Health[component].URL
	if url == "" {
		m.say(toneNone, orWord(component, "what is selected")+" has no URL")
		return nil
	}
	url += path
	return m.act(quickly, "opening "+url, "opened "+url, func(ctx context.Context) error { return m.actions.OpenURL(ctx, url) })
}

// copy puts text on the clipboard, with the terminal's help (OSC 52), so that
// it works over SSH too.
func (m *model) copy(text string) tea.Cmd {
	if text == "" {
		m.say(toneNone, "there is nothing to copy")
		return nil
	}
	m.say(toneGood, "copied: "+text)
	return tea.SetClipboard(text)
}

// orNone stands in for an error that was not given.
func orNone(err error) error {
	if err == nil {
		return errors.New("it has none")
	}
	return err
}
