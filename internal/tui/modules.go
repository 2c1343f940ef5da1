package tui

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// modulesTab is the Terraform modules with their resources: what is not as it
// should be first, the rest folded away.
type modulesTab struct {
	rows  []moduleRow
	list  list
	more  pager
	folds map[string]bool // what the user folded (true) or unfolded (false)
}

// moduleRow is a module, a section of its resources, or a resource.
type moduleRow struct {
	key      string
	module   event.ModuleChanged
	section  *section
	count    int
	folded   bool
	resource *event.Resource
}

// section is a group of resources in the same state.
type section struct {
	state event.ResourceState
	title string
	// folded says whether it is, until the user says otherwise.
	folded bool
}

var sections = []section{
	{event.ResourceMissing, "missing: deleted outside of Terraform", false},
	{event.ResourceDrift, "drift: changed outside of Terraform", false},
	{event.ResourcePlanned, "planned: what apply would do", false},
	{event.ResourceOK, "as configured", true},
}

func newModules() *modulesTab { return &modulesTab{folds: map[string]bool{}} }

func (o *modulesTab) sync(m *model) {
	p := m.filterOf(terraformScreen)
	o.rows = o.rows[:0]
	for _, name := range slices.Sorted(maps.Keys(m.state.Modules)) {
		mod := m.state.Modules[name]
		o.rows = append(o.rows, moduleRow{key: name, module: mod})
		for i := range sections {
			s := &sections[i]
			var found []event.Resource
			for _, r := range mod.Resources {
				if r.State == s.state && p.match(r.Address, r.Type, string(r.State)) {
					found = append(found, r)
				}
			}
			if len(found) == 0 {
				continue
			}
			row := moduleRow{key: name + "\n" + string(s.state), module: mod, section: s, count: len(found)}
			folded, set := o.folds[row.key]
			row.folded = p.empty() && (set && folded || !set && s.folded && mod.Drift > 0)
			o.rows = append(o.rows, row)
			if row.folded {
				continue
			}
			for _, r := range found {
				o.rows = append(o.rows, moduleRow{key: row.key + "\n" + r.Address, module: mod, resource: &r})
			}
		}
	}
	keys := make([]string, len(o.rows))
	for i, r := range o.rows {
		keys[i] = r.key
	}
	o.list.set(keys)
}

func (o *modulesTab) current() (moduleRow, bool) {
	if o.list.at >= len(o.rows) {
		return moduleRow{}, false
	}
	return o.rows[o.list.at], true
}

func (o *modulesTab) do(m *model, i intent) (tea.Cmd, bool) {
	if m.inDetail {
		return nil, o.more.do(i)
	}
	if o.list.do(i) {
		o.more.top = 0
		return nil, true
	}
	r, ok := o.current()
	if !ok {
		return nil, false
	}
	switch {
	case r.section != nil && (i == foldIn || i == foldOut || i == open):
		o.folds[r.key] = i == foldIn || i == open && !r.folded
		o.sync(m)
	case r.resource != nil && i == foldIn:
		o.list.goTo(r.key[:strings.LastIndexByte(r.key, '\n')])
	case i == open:
		m.inDetail, o.more.top = true, 0
	default:
		return nil, i == foldIn || i == foldOut
	}
	return nil, true
}

// subject is the module of the selected row.
func (o *modulesTab) subject() string {
	r, _ := o.current()
	return r.module.Module
}

func (o *modulesTab) value(*model) string {
	r, ok := o.current()
	switch {
	case !ok:
		return ""
	case r.resource != nil:
		return r.resource.Address
	}
	return r.module.Module
}

func (o *modulesTab) listPane(m *model, w, h int) pane {
	t := m.theme
	all := 0
	for _, mod := range m.state.Modules {
		all += len(mod.Resources)
	}
	p := pane{title: "Terraform"}
	if !m.filterOf(terraformScreen).empty() {
		p.note = m.filterNote(terraformScreen, o.shown(), all)
	}
	if len(o.rows) == 0 {
		p.lines = append(p.lines, t.line(w, false, in(toneDim, " no Terraform module has been heard of yet")))
		return p
	}
	from, to := o.list.window(h)
	for i := from; i < to; i++ {
		p.lines = append(p.lines, o.row(m, o.rows[i], w, i == o.list.at && !m.inDetail, i == o.list.at))
	}
	return p
}

// shown counts the resources that match the filter.
func (o *modulesTab) shown() int {
	n := 0
	for _, r := range o.rows {
		n += r.count
	}
	return n
}

func (o *modulesTab) row(m *model, r moduleRow, w int, selected, current bool) string {
	t := m.theme
	cursor := " "
	if current {
		cursor = ">"
	}
	spans := []span{plain(cursor)}
	switch {
	case r.resource != nil:
		st := t.sign(resourceSign(r.resource.State))
		st.text = t.fill(st.text, stateWidth)
		detail, _, _ := strings.Cut(r.resource.Detail, "\n")
		room := w - 5 - stateWidth - 1
		if r.resource.State == event.ResourceOK {
			detail = "" // the pane beside it has room for that
		} else if detail != "" {
			room = max(room/2, room-width(detail)-2)
		}
		spans = append(spans, plain("    "), st, plain(" "+t.squeeze(r.resource.Address, room)), in(toneDim, "  "+detail))
	case r.section != nil:
		fold := t.pick("▾ ", "v ")
		if r.folded {
			fold = t.pick("▸ ", "> ")
		}
		spans = append(spans, plain("  "+fold+r.section.title), in(toneDim, fmt.Sprintf(" (%d)", r.count)))
	default:
		st := signOK
		if h, ok := m.state.Health["terraform/"+r.module.Module]; ok {
			st = stateSign(h.State)
		}
		if r.module.Drift > 0 {
			st = signDegraded.as(fmt.Sprintf("drift %d", r.module.Drift))
		}
		spans = append(spans, in(toneBold, r.module.Module+"  "), t.sign(st),
			in(toneDim, fmt.Sprintf("  %d resources", len(r.module.Resources))),
			in(toneDim, "  "+compared(m.state.now, r.module)))
	}
	return t.line(w, selected, spans...)
}

func (o *modulesTab) detailPane(m *model, w, h int) pane {
	r, ok := o.current()
	if !ok {
		return pane{title: "Details"}
	}
	t := m.theme
	d := &writer{t: t, w: w}
	title := r.module.Module
	if r.resource != nil {
		title = r.resource.Address
		d.line(t.sign(resourceSign(r.resource.State)))
		if r.resource.Detail != "" {
			d.heading("WHAT DIFFERS")
			d.text(toneNone, r.resource.Detail)
		}
		d.heading("RESOURCE")
		d.field("type", r.resource.Type)
	} else {
		o.counts(d, r.module)
		d.heading("MODULE")
	}
	d.field("module", r.module.Module)
	d.field("tool", r.module.Tool)
	d.field("provider", r.module.Provider)
	d.field("compared", compared(m.state.now, r.module))
	if m.actions != nil {
		d.line()
		d.line(gap(1), in(toneKey, "p"), plain(" plan  "), in(toneKey, "a"), plain(" apply  "), in(toneKey, "ctrl+r"), plain(" compare"))
	}
	p := pane{title: title, focus: m.inDetail, lines: o.more.window(d.lines, h)}
	if m.inDetail {
		p.note = share(o.more.top, h, len(d.lines))
	}
	return p
}

// compared says when a module was compared in full.
func compared(now time.Time, of event.ModuleChanged) string {
	switch {
	case of.Comparing:
		return "comparing in full"
	case of.Refreshed.IsZero():
		return "not compared in full yet"
	}
	return "compared " + age(now, of.Refreshed) + " ago"
}

// counts says how many resources are in which state.
func (o *modulesTab) counts(d *writer, mod event.ModuleChanged) {
	counts := map[event.ResourceState]int{}
	for _, r := range mod.Resources {
		counts[r.State]++
	}
	for _, s := range sections {
		if n := counts[s.state]; n > 0 {
			d.line(in(resourceSign(s.state).tone, fmt.Sprintf("%s %d %s", d.t.pick(resourceSign(s.state).glyph, resourceSign(s.state).ascii), n, resourceSign(s.state).word)))
		}
	}
}

func (o *modulesTab) click(_ *model, y int) {
	if row := o.list.top + y; row < len(o.rows) {
		o.list.at, o.more.top = row, 0
	}
}
