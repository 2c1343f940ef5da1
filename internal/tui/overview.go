package tui

import (
	"fmt"
	"strings"

	tea "charm.land/bubbletea/v2"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// overviewTab is the tree of components, with the detail of the selected one.
type overviewTab struct {
	tree  []node
	rows  []int // the visible nodes
	list  list
	more  pager           // of the detail pane
	folds map[string]bool // what the user folded (true) or unfolded (false)
	// led is true until the user moves: the cursor is on what is worst.
	led bool
}

func newOverview() *overviewTab { return &overviewTab{folds: map[string]bool{}, led: true} }

// sync takes in the state and makes the rows.
func (o *overviewTab) sync(m *model) {
	o.tree = growTree(m.state.Health)
	p := m.filterOf(overview)
	keep := map[int]bool{}
	if !p.empty() {
		for i, n := range o.tree {
			if n.group || !p.match(n.path, string(n.health.State), n.health.Reason) {
				continue
			}
			for at := i; at >= 0; at = o.tree[at].parent {
				keep[at] = true
			}
		}
	}
	o.rows = o.rows[:0]
	var keys []string
	folded := -1 // nodes deeper than this are folded away
	for i, n := range o.tree {
		if !p.empty() && !keep[i] || folded >= 0 && n.depth > folded {
			continue
		}
		folded = -1
		if p.empty() && o.folded(n) {
			folded = n.depth
		}
		o.rows = append(o.rows, i)
		keys = append(keys, n.path)
	}
	o.list.set(keys)
	if o.led {
		o.lead()
	}
}

// lead puts the cursor on the first of the worst components.
func (o *overviewTab) lead() {
	worst := -1
	for row, i := range o.rows {
		n := o.tree[i]
		if n.group || n.health.State.Healthy() {
			continue
		}
		if worst < 0 || bad(n.health.State) > bad(o.tree[o.rows[worst]].health.State) {
			worst = row
		}
	}
	o.list.at = max(0, worst)
}

// folded says whether what is below a node is hidden. Until the user says
// otherwise, the parts of a component are hidden as long as all of them are well.
func (o *overviewTab) folded(n node) bool {
	if n.below == 0 {
		return false
	}
	if f, ok := o.folds[n.path]; ok {
		return f
	}
	if n.depth > 0 && n.worst.State.Healthy() {
		return true
	}
	return o.victims(n)
}

// victims says whether all that is not well below a node is so because of the
// node itself: then there is nothing to learn from them.
func (o *overviewTab) victims(n node) bool {
	if n.health.State.Healthy() {
		return false
	}
	found := false
	for _, c := range o.tree {
		if c.path == n.path || !inside(c.path, n.path) || c.health.State.Healthy() {
			continue
		}
		if c.health.Blames != n.path {
			return false
		}
		found = true
	}
	return found
}

func (o *overviewTab) current() (node, bool) {
	if o.list.at >= len(o.rows) {
		return node{}, false
	}
	return o.tree[o.rows[o.list.at]], true
}

func (o *overviewTab) do(m *model, i intent) (tea.Cmd, bool) {
	if m.inDetail {
		return nil, o.more.do(i)
	}
	if o.list.do(i) {
		o.led, o.more.top = false, 0
		return nil, true
	}
	n, ok := o.current()
	if !ok {
		return nil, false
	}
	switch i {
	case foldIn:
		o.led = false
		switch {
		case n.below > 0 && !o.folded(n):
			o.folds[n.path] = true
		case n.parent >= 0:
			o.list.goTo(o.tree[n.parent].path)
		}
	case foldOut:
		o.led = false
		if n.below > 0 {
			o.folds[n.path] = false
		}
	case open:
		o.led, m.inDetail, o.more.top = false, true, 0
	default:
		return nil, false
	}
	o.sync(m)
	return nil, true
}

// goTo selects a component, or the nearest one above it, and unfolds the way.
func (o *overviewTab) goTo(m *model, path string) bool {
	for path != "" {
		for _, n := range o.tree {
			if n.path != path {
				continue
			}
			for at := n.parent; at >= 0; at = o.tree[at].parent {
				o.folds[o.tree[at].path] = false
			}
			o.led, o.more.top = false, 0
			o.sync(m)
			return o.list.goTo(path)
		}
		path = path[:max(0, strings.LastIndexByte(path, '/'))]
	}
	return false
}

func (o *overviewTab) subject() string { return o.list.key() }

func (o *overviewTab) value(m *model) string {
	n, ok := o.current()
	switch {
	case !ok:
		return ""
	case n.health.URL != "":
		return n.health.URL
	case n.health.Reason != "" && !n.health.State.Healthy():
		return n.path + ": " + n.health.Reason
	}
	return n.path
}

// columns are the widths of the columns of the tree; 0 leaves one out.
type columns struct{ name, state, age, cpu, mem, note int }

const (
	stateWidth  = 10 // "! degraded"
	ageWidth    = 4
	sparkWidth  = 8
	figureWidth = 6 // " 1910M"
	noteLeast   = 18
)

// columnsFor shares out w columns. Where they are few, what MEMORY and CPU show
// shrinks, then MEMORY goes, then CPU, then NOTE. Beside a detail pane, which
// has the note in full, NOTE makes do with little.
func columnsFor(w, longest int, split bool) columns {
	const gaps = 1 + 2 + 1 // the cursor, and around STATE
	c := columns{state: stateWidth, age: ageWidth}
	rest := w - gaps - c.state - c.age
	c.name = max(12, min(longest, 40, rest*45/100))
	rest -= c.name
	least := noteLeast
	if split {
		least = 8
	}
	if rest < 1+least {
		c.name += rest
		return c
	}
	c.note = rest - 1
	use := func(n int) int {
		if c.note < noteLeast+n+1 && (n > sparkWidth || c.note < least+n+1) {
			return 0
		}
		c.note -= n + 1
		return n
	}
	if c.cpu = use(sparkWidth); c.cpu > 0 {
		c.mem = use(figureWidth)
	}
	if c.mem > 0 && c.note >= 2*noteLeast+figureWidth+sparkWidth {
		c.note -= figureWidth + sparkWidth
		c.cpu, c.mem = c.cpu+figureWidth, c.mem+sparkWidth
	}
	return c
}

func (o *overviewTab) listPane(m *model, w, h int) pane {
	t := m.theme
	longest := 0
	for _, i := range o.rows {
		longest = max(longest, 2*o.tree[i].depth+2+width(m.label(o.tree[i])))
	}
	c := columnsFor(w, longest, m.layout.split())
	p := pane{title: "Components", note: m.filterNote(overview, len(o.rows), len(o.tree))}
	p.lines = append(p.lines, t.line(w, false, in(toneDim, o.heading(t, c))))
	if len(o.tree) == 0 {
		p.lines = append(p.lines, t.line(w, false, in(toneDim, " nothing is known of any component yet")))
		if len(m.state.Steps) > 0 {
			p.lines = append(p.lines, t.line(w, false, in(toneDim, " the run is on its way: 2 shows its steps")))
		}
		return p
	}
	from, to := o.list.window(h - 1)
	if more := len(o.rows) - to; more > 0 && p.note == "" {
		p.note = fmt.Sprintf("%d more below", more)
	}
	for row := from; row < to; row++ {
		p.lines = append(p.lines, o.row(m, o.tree[o.rows[row]], c, w, row == o.list.at && !m.inDetail, row == o.list.at))
	}
	return p
}

func (o *overviewTab) heading(t theme, c columns) string {
	head := " " + t.fill("NAME", c.name) + "  " + t.fill("STATE", c.state) + " " + t.right("AGE", c.age)
	if c.cpu > 0 {
		head += " " + t.fill("CPU", c.cpu)
	}
	if c.mem > 0 {
		head += " " + t.right("MEM", c.mem)
	}
	if c.note > 0 {
		head += " NOTE"
	}
	return head
}

func (o *overviewTab) row(m *model, n node, c columns, w int, selected, current bool) string {
	t := m.theme
	fold := "  "
	folded := o.folded(n)
	switch {
	case folded:
		fold = t.pick("▸ ", "> ")
	case n.below > 0:
		fold = t.pick("▾ ", "v ")
	}
	cursor := " "
	if current {
		cursor = ">"
	}
	h := n.health
	note := noteOf(h)
	if folded && bad(n.worst.State) > bad(h.State) {
		h = n.worst
		note = shortName(strings.TrimPrefix(h.Component, n.path+"/")) + ": " + noteOf(h)
	}
	spans := []span{
		plain(cursor),
		plain(t.squeeze(strings.Repeat("  ", n.depth)+fold+m.label(n), c.name)), plain("  "),
	}
	if n.depth == 0 {
		spans[1].tone = toneBold
	}
	st := t.sign(stateSign(h.State))
	st.text = t.fill(st.text, c.state)
	since := age(m.state.now, h.Since)
	if n.group && h.Since.IsZero() {
		since = ""
	}
	spans = append(spans, st, in(toneDim, " "+t.right(since, c.age)))
	samples := m.state.Samples[n.path]
	if n := c.cpu; n > 0 {
		spans = append(spans, plain(" "))
		if len(samples) == 0 {
			spans = append(spans, gap(n))
		} else {
			spans = append(spans, in(toneBlue, t.cpuSpark(samples, sparkWidth)),
				plain(t.right(cores(samples[len(samples)-1].CPU), n-sparkWidth)))
		}
	}
	if n := c.mem; n > 0 {
		spans = append(spans, plain(" "))
		if len(samples) == 0 {
			spans = append(spans, gap(n))
		} else {
			spans = append(spans, in(toneBlue, t.memorySpark(samples, n-figureWidth)),
				plain(t.right(memory(samples[len(samples)-1].Memory), figureWidth)))
		}
	}
	if c.note > 0 {
		tn := toneNone
		if h.State.Healthy() {
			tn = toneDim
		}
		spans = append(spans, plain(" "), in(tn, note))
	}
	return t.line(w, selected, spans...)
}

// label is the name of a node in the tree. All nodes of the cluster begin with
// the name of the sandbox.
func (m *model) label(n node) string {
	return strings.Replace(shortName(n.label), "node/sandbox-"+m.name+"-", "node/", 1)
}

// noteOf is what matters of a component in a few words.
func noteOf(h event.Health) string {
	switch {
	case h.Reason != "":
		return h.Reason
	case h.URL != "":
		return h.URL
	case h.Blames != "":
		return "because of " + h.Blames
	}
	return ""
}

func (o *overviewTab) detailPane(m *model, w, h int) pane {
	n, ok := o.current()
	if !ok {
		return pane{title: "Details"}
	}
	lines := m.describeNode(n, w, h)
	p := pane{title: n.path, focus: m.inDetail}
	all := len(lines)
	p.lines = o.more.window(lines, h)
	if m.inDetail {
		p.note = share(o.more.top, h, all)
	}
	return p
}

func (o *overviewTab) click(m *model, y int) {
	if row := o.list.top + y - 1; y >= 1 && row < len(o.rows) {
		o.list.at, o.led, o.more.top = row, false, 0
	}
}

// percent writes a part of a whole.
func percent(part, of int) string {
	if of <= 0 {
		return ""
	}
	return fmt.Sprintf("%d%%", part*100/of)
}
