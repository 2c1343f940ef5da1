package tui

import (
	"slices"
	"strings"

	"charm.land/bubbles/v2/key"
	tea "charm.land/bubbletea/v2"
)

// intent is what a user wants. Keys become intents here and nowhere else, so
// that no other part of the dashboard knows a key.
type intent int

const (
	nothing intent = iota

	moveDown
	moveUp
	pageDown
	pageUp
	halfDown
	halfUp
	moveTop
	moveBottom
	foldIn  // left
	foldOut // right
	open    // enter
	nextPane

	goOverview
	goSteps
	goLogs
	goAlerts
	goEvents
	goTerraform

	filter
	command
	back
	quit
	leave // ctrl+c
	help
	refresh
	hideHeader
	fullScreen
	toggleMouse
	suspend

	showLogs
	openURL
	openAlertmanager
	shell
	describe
	restart
	copyValue
	copyCommand
	save

	follow
	wrapLines
	showTimes
	mark
	nextHit
	previousHit
	onlyHits
	invertHits
	chooseSource
	cycleLevel
	narrowSpan
	widenSpan
	previousLog

	onlyWarnings

	drillOne
	drillAll
	undoFault

	plan
	apply

	// accept and cancel end a text input, complete finishes a word in it, yes
	// and no answer a question.
	accept
	cancel
	complete
	yes
	no
)

// screen is one of the tabs.
type screen int

const (
	overview screen = iota
	stepsScreen
	logsScreen
	alertsScreen
	eventsScreen
	terraformScreen
	screens // how many there are

	anywhere screen = -1
)

// set is a set of screens; 0 stands for all.
type set uint

func on(s ...screen) set {
	var all set
	for _, one := range s {
		all |= 1 << one
	}
	return all
}

func (s set) has(one screen) bool { return s == 0 || s&(1<<one) != 0 }

// binding ties keys to an intent. Its name is also the command that ":" takes.
type binding struct {
	key.Binding
	intent intent
	name   string
	group  string
	on     set
	// hint puts the binding into the line at the bottom of the screens hintOn.
	hint   bool
	hintOn set
	// acts says that the binding reaches outside, so that it needs Actions.
	acts bool
}

func bind(i intent, name, group, label, desc string, keys ...string) binding {
	return binding{
		Binding: key.NewBinding(key.WithKeys(keys...), key.WithHelp(label, desc)),
		intent:  i, name: name, group: group,
	}
}

// word is what the binding does in one word.
func (b binding) word() string {
	if b.intent == showLogs {
		return "logs" // as a command that is the name of the screen
	}
	return b.name
}

func (b binding) only(s ...screen) binding { b.on = on(s...); return b }
func (b binding) hinted(s ...screen) binding {
	b.hint, b.hintOn = true, on(s...)
	return b
}

func (b binding) acting() binding { b.acts = true; return b }

// The groups of bindings, as help shows them.
const (
	groupGlobal    = "EVERYWHERE"
	groupMove      = "MOVE"
	groupComponent = "COMPONENT"
	groupCopy      = "COPY AND OPEN"
	groupLogs      = "LOGS"
	groupAlerts    = "ALERTS"
	groupEvents    = "EVENTS"
	groupTerraform = "TERRAFORM"
)

// keyMap is the one table of keys. Where two bindings share a key, the first
// one whose screens fit counts.
var keyMap = []binding{
	bind(goOverview, "overview", groupGlobal, "1", "Overview: all components", "1"),
	bind(goSteps, "steps", groupGlobal, "2", "Steps of the last run", "2"),
	bind(goLogs, "logs", groupGlobal, "3", "Logs of all components", "3"),
	bind(goAlerts, "alerts", groupGlobal, "4", "Alerts", "4"),
	bind(goEvents, "events", groupGlobal, "5", "Events: what happened", "5"),
	bind(goTerraform, "terraform", groupGlobal, "6", "Terraform and drift", "6"),
	bind(filter, "filter", groupGlobal, "/", "filter; a leading ! inverts", "/").hinted(),
	bind(command, "", groupGlobal, ":", "command by name", ":"),
	bind(back, "back", groupGlobal, "esc", "back, clear the filter", "esc"),
	bind(help, "help", groupGlobal, "?", "this help", "?"),
	bind(hideHeader, "header", groupGlobal, "ctrl+e", "hide or show the header", "ctrl+e"),
	bind(fullScreen, "full", groupGlobal, "f", "full screen on and off", "f"),
	bind(refresh, "refresh", groupGlobal, "ctrl+r", "look again now", "ctrl+r", "f5").acting(),
	bind(toggleMouse, "mouse", groupGlobal, "F2", "mouse on and off", "f2"),
	bind(suspend, "suspend", groupGlobal, "ctrl+z", "to the shell; fg returns", "ctrl+z"),
	bind(quit, "quit", groupGlobal, "q", "back; quits at the root", "q"),
	bind(leave, "exit", groupGlobal, "ctrl+c", "quit; the sandbox stays up", "ctrl+c"),

	bind(moveDown, "", groupMove, "j", "down (also arrow)", "j", "down"),
	bind(moveUp, "", groupMove, "k", "up (also arrow)", "k", "up"),
	bind(foldOut, "", groupMove, "right", "unfold; in logs scroll right", "right"),
	bind(foldIn, "", groupMove, "left", "fold; in logs scroll left", "left"),
	bind(open, "details", groupMove, "enter", "details", "enter").
		only(overview, stepsScreen, alertsScreen, terraformScreen).hinted(),
	bind(open, "goto", groupMove, "enter", "go to the object", "enter").only(eventsScreen).hinted(),
	bind(nextPane, "pane", groupMove, "tab", "next pane", "tab", "shift+tab"),
	bind(pageDown, "", groupMove, "space", "page down", "space", "pgdown", "ctrl+f"),
	bind(pageUp, "", groupMove, "b", "page up", "b", "pgup", "ctrl+b"),
	bind(halfDown, "", groupMove, "ctrl+d", "half a page down", "ctrl+d"),
	bind(halfUp, "", groupMove, "ctrl+u", "half a page up", "ctrl+u"),
	bind(moveTop, "top", groupMove, "g", "to the top", "g", "home"),
	bind(moveBottom, "bottom", groupMove, "G", "to the bottom", "G", "end"),

	bind(showLogs, "show-logs", groupComponent, "l", "its logs", "l").
		only(overview, stepsScreen, eventsScreen).hinted(),
	bind(describe, "describe", groupComponent, "d", "describe", "d").
		only(overview, eventsScreen, logsScreen).hinted(overview, eventsScreen).acting(),
	bind(shell, "shell", groupComponent, "s", "shell", "s").only(overview, logsScreen).hinted(overview).acting(),
	bind(restart, "restart", groupComponent, "r", "restart (asks)", "r").only(overview, logsScreen).acting(),

	bind(drillOne, "drill", groupAlerts, "D", "drill (asks)", "D").only(alertsScreen).hinted().acting(),
	bind(drillAll, "drill-all", groupAlerts, "A", "drill all (asks)", "A").only(alertsScreen).hinted().acting(),
	bind(undoFault, "undo", groupAlerts, "u", "undo the fault", "u").only(alertsScreen).hinted().acting(),

	bind(openURL, "open", groupCopy, "o", "open its URL", "o").
		only(overview, logsScreen, eventsScreen).hinted(overview).acting(),
	bind(openURL, "prometheus", groupCopy, "o", "open Prometheus", "o").only(alertsScreen).hinted().acting(),
	bind(openAlertmanager, "alertmanager", groupCopy, "O", "open Alertmanager", "O").
		only(alertsScreen).hinted().acting(),
	bind(copyValue, "copy", groupCopy, "c", "copy the value", "c"),
	bind(copyCommand, "copy-command", groupCopy, "C", "copy the CLI command", "C"),
	bind(save, "save", groupCopy, "ctrl+s", "save the screen to a file", "ctrl+s").acting(),

	bind(chooseSource, "source", groupLogs, "S", "choose a source", "S").only(logsScreen).hinted(),
	bind(nextHit, "next", groupLogs, "n", "next match", "n").only(logsScreen).hinted(),
	bind(previousHit, "previous", groupLogs, "N", "previous match", "N").only(logsScreen),
	bind(onlyHits, "only", groupLogs, "&", "only lines that match", "&").only(logsScreen).hinted(),
	bind(invertHits, "invert", groupLogs, "!", "lines that do not match", "!").only(logsScreen),
	bind(follow, "follow", groupLogs, "F", "follow on and off", "F").only(logsScreen).hinted(),
	bind(wrapLines, "wrap", groupLogs, "w", "wrap lines on and off", "w").only(logsScreen).hinted(),
	bind(showTimes, "times", groupLogs, "t", "times on and off", "t").only(logsScreen),
	bind(cycleLevel, "level", groupLogs, "v", "all, warnings, errors", "v").only(logsScreen),
	bind(narrowSpan, "narrow", groupLogs, "]", "shorter time range", "]").only(logsScreen),
	bind(widenSpan, "widen", groupLogs, "[", "longer time range", "[").only(logsScreen),
	bind(previousLog, "previous-log", groupLogs, "p", "log before the last restart", "p").only(logsScreen, overview).acting(),
	bind(mark, "mark", groupLogs, "m", "draw a mark", "m").only(logsScreen).hinted(),

	bind(onlyWarnings, "warnings", groupEvents, "w", "warnings only", "w").only(eventsScreen).hinted(),

	bind(plan, "plan", groupTerraform, "p", "plan", "p").only(terraformScreen).hinted().acting(),
	bind(apply, "apply", groupTerraform, "a", "apply (asks)", "a").only(terraformScreen).hinted().acting(),
}

// The keys while a text is typed, and while a question waits.
var (
	inputKeys = []binding{
		bind(accept, "", "", "enter", "", "enter"),
		bind(cancel, "", "", "esc", "", "esc"),
		bind(complete, "", "", "tab", "", "tab"),
		bind(leave, "", "", "ctrl+c", "", "ctrl+c"),
		bind(moveUp, "", "", "up", "", "up"),
		bind(moveDown, "", "", "down", "", "down"),
		bind(pageUp, "", "", "pgup", "", "pgup"),
		bind(pageDown, "", "", "pgdown", "", "pgdown"),
	}
	questionKeys = []binding{
		bind(yes, "", "", "y", "", "y", "Y"),
		bind(no, "", "", "n", "", "n", "N", "esc", "q", "enter"),
		bind(leave, "", "", "ctrl+c", "", "ctrl+c"),
	}
)

// lookup returns the intent a key stands for in a table on a screen.
func lookup(table []binding, on screen, press tea.KeyPressMsg) intent {
	for _, b := range table {
		if b.on.has(on) && key.Matches(press, b.Binding) {
			return b.intent
		}
	}
	return nothing
}

// commands returns the bindings that the typed word can mean on a screen, or
// anywhere: the one of that name, or all whose name starts with it.
func commands(word string, on screen) []binding {
	var found []binding
	for _, b := range keyMap {
		if b.name == "" || on != anywhere && !b.on.has(on) || !strings.HasPrefix(b.name, word) {
			continue
		}
		if b.name == word {
			return []binding{b}
		}
		found = append(found, b)
	}
	slices.SortStableFunc(found, func(a, b binding) int { return strings.Compare(a.name, b.name) })
	return found
}
