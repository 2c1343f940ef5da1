package tui

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// The components whose URLs the alerts lead to.
const (
	prometheusPath   = "observe/prometheus"
	alertmanagerPath = "observe/alertmanager"
)

// alertsTab is the alerting rules with their states, firing ones first.
type alertsTab struct {
	rows []alertRow
	list list
	more pager
	// moved is true once the user has moved: until then the cursor is on the
	// first rule, which is the one that fires.
	moved bool
}

type alertRow struct {
	key string
	event.AlertChanged
}

func alertRank(state string) int {
	switch state {
	case "firing":
		return 0
	case "pending":
		return 1
	}
	return 2
}

// figure is a value of Prometheus as people write it: it says "1.5e+00".
func figure(value string) string {
	f, err := strconv.ParseFloat(value, 64)
	if err != nil {
		return value
	}
	return strconv.FormatFloat(f, 'g', 6, 64)
}

func (a *alertsTab) sync(m *model) {
	rule := a.subject()
	p := m.filterOf(alertsScreen)
	a.rows = a.rows[:0]
	known := map[string]bool{}
	for key, al := range m.state.Alerts {
		known[al.Rule] = true
		// A drill's copy of a rule is part of the rule: the detail shows it.
		if !isCopy(al) && p.match(append(slices.Collect(maps.Values(al.Labels)), al.Rule, al.State)...) {
			a.rows = append(a.rows, alertRow{key: key, AlertChanged: al})
		}
	}
	// The recording of a drill has the drill alone.
	for _, d := range m.state.Drills {
		if !known[d.Alert] && p.match(d.Alert, string(d.State)) {
			a.rows = append(a.rows, alertRow{key: d.Alert, AlertChanged: event.AlertChanged{Rule: d.Alert, State: "unknown"}})
		}
	}
	slices.SortFunc(a.rows, func(x, y alertRow) int {
		return cmp.Or(cmp.Compare(alertRank(x.State), alertRank(y.State)), cmp.Compare(x.key, y.key))
	})
	// Prometheus knows a rule that has fired as active by its labels; that the
	// rule without them is inactive says nothing more.
	active := map[string]bool{}
	for _, r := range a.rows {
		active[r.Rule] = active[r.Rule] || r.State != "inactive"
	}
	a.rows = slices.DeleteFunc(a.rows, func(r alertRow) bool { return r.State == "inactive" && active[r.Rule] })
	keys := make([]string, len(a.rows))
	for i, r := range a.rows {
		keys[i] = r.key
	}
	a.list.set(keys)
	// An alert that is pending has more labels than its rule, and so another key:
	// the cursor stays on the rule.
	if i := slices.IndexFunc(a.rows, func(r alertRow) bool { return r.Rule == rule }); rule != "" && i >= 0 && a.rows[a.list.at].Rule != rule {
		a.list.at = i
	}
	if !a.moved {
		a.list.at = 0
	}
}

func (a *alertsTab) do(m *model, i intent) (tea.Cmd, bool) {
	if m.inDetail {
		return nil, a.more.do(i)
	}
	if a.list.do(i) {
		a.moved, a.more.top = true, 0
		return nil, true
	}
	if i == open && len(a.rows) > 0 {
		m.inDetail, a.moved, a.more.top = true, true, 0
		return nil, true
	}
	return nil, false
}

func (a *alertsTab) current() (alertRow, bool) {
	if a.list.at >= len(a.rows) {
		return alertRow{}, false
	}
	return a.rows[a.list.at], true
}

func (a *alertsTab) subject() string {
	r, _ := a.current()
	return r.Rule
}

func (a *alertsTab) value(*model) string {
	r, ok := a.current()
	if !ok {
		return ""
	}
	return r.Rule + labelsWord(r.Labels)
}

// labelsWord writes labels as Prometheus does.
func labelsWord(labels map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		parts = append(parts, fmt.Sprintf("%s=%q", k, labels[k]))
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// alertColumns says which columns of the list there is room for. The state and
// since when it is so are always there.
type alertColumns struct {
	rule                 int // width of the names
	value, drill, labels bool
	severity             int // width, 4 where it is cut to its first letters
}

// Widths of columns, with the space before them.
const (
	alertBase     = 19 // all but RULE that is always there
	valueColumn   = 9
	drillColumn   = 12
	labelsLeast   = 16
	severityFull  = 8
	severityShort = 4
)

// fitAlerts chooses the columns for a list of w columns. Labels go first, then
// the value, which the detail has too, then most letters of the severity, and
// the last drill before the rest of the severity.
func fitAlerts(rule, w int, drills bool) alertColumns {
	c := alertColumns{rule: min(rule, max(14, w*38/100)), value: true, drill: drills, labels: true, severity: severityFull}
	drop := []func(){
		func() { c.labels = false }, func() { c.value = !drills }, func() { c.severity = severityShort }, func() { c.drill = false },
	}
	for i := 0; i < len(drop) && c.width() > w; i++ {
		drop[i]()
	}
	return c
}

// width is what the columns take, the labels at least.
func (c alertColumns) width() int {
	w := alertBase + c.rule + 2 + c.severity
	if c.value {
		w += valueColumn
	}
	if c.drill {
		w += drillColumn
	}
	if c.labels {
		w += labelsLeast
	}
	return w
}

func (a *alertsTab) listPane(m *model, w, h int) pane {
	t := m.theme
	p := pane{title: "Alerts", note: m.filterNote(alertsScreen, len(a.rows), rules(m.state.Alerts))}
	rule := 12
	for _, r := range a.rows {
		rule = max(rule, width(r.Rule))
	}
	declared := m.drills()
	drills := len(declared) > 0 || len(m.state.Drills) > 0
	c := fitAlerts(rule, w, drills)
	head := " " + t.fill("RULE", c.rule) + "  " + t.fill("STATE", 10) + " " + t.right("SINCE", 5)
	if c.value {
		head += " " + t.right("VALUE", 8)
	}
	severity := "SEVERITY"
	if c.severity == severityShort {
		severity = "SEV"
	}
	head += "  " + t.fill(severity, c.severity)
	if c.drill {
		head += "  LAST DRILL"
	}
	if c.labels {
		head += "  LABELS"
	}
	p.lines = append(p.lines, t.line(w, false, in(toneDim, head)))
	if len(a.rows) == 0 {
		p.lines = append(p.lines, t.line(w, false, in(toneDim, " "+a.nothing(m))))
	}
	last := []string{a.alertmanager(m, w)}
	if drills {
		last = append([]string{t.line(w, false, in(toneBold, " Drills"), plain("        "+m.drillTally(declared)))}, last...)
	}
	from, to := a.list.window(h - 1 - len(last))
	for i := from; i < to; i++ {
		p.lines = append(p.lines, a.row(m, a.rows[i], c, declared, w, i == a.list.at && !m.inDetail, i == a.list.at))
	}
	for len(p.lines) < h-len(last) {
		p.lines = append(p.lines, t.line(w, false))
	}
	p.lines = append(p.lines, last...)
	return p
}

// rules counts the alerts that are the stack's own.
func rules(alerts map[string]event.AlertChanged) int {
	n := 0
	for _, a := range alerts {
		if !isCopy(a) {
			n++
		}
	}
	return n
}

func (a *alertsTab) nothing(m *model) string {
	if len(m.state.Alerts) > 0 {
		return "no rule matches the filter; esc clears it"
	}
	return "no alerting rule has been heard of yet"
}

func (a *alertsTab) row(m *model, r alertRow, c alertColumns, declared map[string]string, w int, selected, current bool) string {
	t := m.theme
	cursor := " "
	if current {
		cursor = ">"
	}
	st := t.sign(alertSign(r.State))
	st.text = t.fill(st.text, 10)
	spans := []span{plain(cursor), plain(t.fill(r.Rule, c.rule)), plain("  "), st, in(toneDim, " "+t.right(age(m.state.now, r.Since), 5))}
	if c.value {
		spans = append(spans, plain(" "+t.right(orWord(figure(r.Value), "-"), 8)))
	}
	severity := t.text(orWord(r.Labels["severity"], "-"))
	if c.severity == severityShort {
		severity = head(severity, severityShort)
	}
	spans = append(spans, plain("  "+t.fill(severity, c.severity)))
	if c.drill {
		last := t.sign(m.lastDrill(r.Rule, declared))
		last.text = t.fill(last.text, 10)
		spans = append(spans, plain("  "), last)
	}
	if c.labels {
		labels := maps.Clone(r.Labels)
		delete(labels, "severity")
		delete(labels, "alertname")
		var rest []string
		for _, k := range slices.Sorted(maps.Keys(labels)) {
			rest = append(rest, k+"="+labels[k])
		}
		spans = append(spans, in(toneDim, "  "+strings.Join(rest, " ")))
	}
	return t.line(w, selected, spans...)
}

// alertmanager says in one line what becomes of the alerts.
func (a *alertsTab) alertmanager(m *model, w int) string {
	t, am := m.theme, m.state.Alertmanager
	if am == nil {
		return t.line(w, false, in(toneDim, " Alertmanager: not heard of"))
	}
	spans := []span{in(toneBold, " Alertmanager"), plain(fmt.Sprintf("  %d active  %d silenced  %d inhibited", am.Active, am.Silences, am.Inhibited))}
	if h, ok := m.state.Health[alertmanagerPath]; ok && h.State != event.StateOK {
		spans = append(spans, plain("  "), t.sign(stateSign(h.State)))
	}
	if len(am.Receivers) > 0 {
		spans = append(spans, in(toneDim, "  to "+strings.Join(am.Receivers, ", ")))
	}
	return t.line(w, false, spans...)
}

func (a *alertsTab) detailPane(m *model, w, h int) pane {
	r, ok := a.current()
	if !ok {
		return pane{title: "Details"}
	}
	t := m.theme
	d := &writer{t: t, w: w}
	head := []span{t.sign(alertSign(r.State))}
	if !r.Since.IsZero() {
		head = append(head, in(toneDim, " for "+age(m.state.now, r.Since)))
	}
	d.line(head...)
	// What happens now comes first.
	drillFirst := alertRank(r.State) == alertRank("inactive") || m.state.Drills[r.Rule].State == event.DrillRunning
	if drillFirst {
		m.writeDrill(d, r.Rule)
	}
	if r.Summary != "" {
		d.heading("MEANS")
		d.text(toneNone, r.Summary)
	}
	if r.Expr != "" {
		d.heading("WHEN")
		d.text(toneNone, r.Expr)
	}
	if r.Value != "" {
		d.heading("VALUE")
		d.text(toneNone, figure(r.Value))
	}
	if !drillFirst {
		m.writeDrill(d, r.Rule)
	}
	if len(r.Labels) > 0 {
		d.heading("LABELS")
		for _, k := range slices.Sorted(maps.Keys(r.Labels)) {
			d.field(k, r.Labels[k])
		}
	}
	if !r.Since.IsZero() {
		d.heading("SINCE")
		d.text(toneNone, r.Since.In(m.state.now.Location()).Format("2006-01-02 15:04:05"))
	}
	if url := m.state.Health[prometheusPath].URL; url != "" {
		d.heading("PROMETHEUS")
		d.text(toneNone, url+"/alerts")
	}
	p := pane{title: r.Rule, focus: m.inDetail, lines: a.more.window(d.lines, h)}
	if m.inDetail {
		p.note = share(a.more.top, h, len(d.lines))
	}
	return p
}

func (a *alertsTab) click(_ *model, y int) {
	if row := a.list.top + y - 1; y >= 1 && row < len(a.rows) {
		a.list.at, a.more.top = row, 0
	}
}
