package render

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"
	"sigs.k8s.io/yaml"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// Format is a form of data on standard output.
type Format string

// The formats.
const (
	FormatTable Format = "table"
	FormatJSON  Format = "json"
	FormatYAML  Format = "yaml"
)

// Formats lists the formats, for help and for completion.
var Formats = []Format{FormatTable, FormatJSON, FormatYAML}

// Status is the state of one sandbox.
type Status struct {
	Name   string `json:"name"`
	Stack  string `json:"stack,omitempty"`  // the file it was made from
	Engine string `json:"engine,omitempty"` // "podman 4.3.1"
	// State is the worst among the components.
	State      event.State    `json:"state"`
	Since      time.Time      `json:"since,omitzero"` // when it was created
	Components []event.Health `json:"components"`
}

// WriteData writes v as JSON or YAML.
func WriteData(w io.Writer, v any, format Format) error {
	switch format {
	case FormatJSON:
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	case FormatYAML:
		out, err := yaml.Marshal(v)
		if err != nil {
			return fmt.Errorf("encode as YAML: %w", err)
		}
		_, err = w.Write(out)
		return err
	default:
		return fmt.Errorf("unknown output format %q: one of %v", format, Formats)
	}
}

// WriteStatus writes the status of one sandbox: as data it is an object. now is
// for the ages in the table.
func WriteStatus(w io.Writer, s Status, format Format, style Style, now time.Time) error {
	if format != FormatTable {
		return WriteData(w, s, format)
	}
	_, err := io.WriteString(w, strings.Join(statusTable(s, style, now), "\n")+"\n")
	return err
}

// WriteStatusList writes the status of any number of sandboxes: as data it is
// a list.
func WriteStatusList(w io.Writer, all []Status, format Format, style Style, now time.Time) error {
	if format != FormatTable {
		return WriteData(w, append([]Status{}, all...), format)
	}
	blocks := make([]string, len(all))
	for i, s := range all {
		blocks[i] = strings.Join(statusTable(s, style, now), "\n") + "\n"
	}
	_, err := io.WriteString(w, strings.Join(blocks, "\n"))
	return err
}

// row is a component in the table. Components are paths, so they are drawn as
// a tree: each below the nearest one that is there, without its prefix.
type row struct {
	name   string
	health event.Health
}

func rows(components []event.Health) []row {
	sorted := slices.SortedFunc(slices.Values(components), func(a, b event.Health) int {
		return slices.Compare(strings.Split(a.Component, "/"), strings.Split(b.Component, "/"))
	})
	var out []row
	var open []string // the components above, outermost first
	for _, h := range sorted {
		if strings.Contains(h.Component, "/Pod/") && h.State.Healthy() {
			continue // the workload has counted it
		}
		for len(open) > 0 && !strings.HasPrefix(h.Component, open[len(open)-1]+"/") {
			open = open[:len(open)-1]
		}
		name := h.Component
		if len(open) > 0 {
			name = strings.TrimPrefix(name, open[len(open)-1]+"/")
		}
		out = append(out, row{name: strings.Repeat("  ", len(open)) + name, health: h})
		open = append(open, h.Component)
	}
	return out
}

// statusTable draws one sandbox as lines: a head, and a row for each
// component. Reasons wrap below themselves; on a narrow terminal they get
// lines of their own. No reason is ever cut off.
func statusTable(s Status, style Style, now time.Time) []string {
	table := rows(s.Components)
	nameWidth := len("COMPONENT")
	for i, r := range table {
		table[i].name = style.text(r.name)
		nameWidth = max(nameWidth, ansi.StringWidth(table[i].name))
	}
	const ageWidth = 5
	column := nameWidth + 2 + signWidth + 2 + ageWidth + 2
	room := 0
	narrow := style.Width > 0 && style.Width-column < 24
	if style.Width > 0 {
		room = style.Width - column
	}
	if narrow {
		column, room = 4, style.Width-4
	}

	lines := append(statusHead(s, style, now), "")
	if len(table) == 0 {
		return append(lines, "nothing is known of any component")
	}
	head := "COMPONENT" + pad("COMPONENT", nameWidth) + "  " + "STATE" + pad("STATE", signWidth) + "  " +
		"FOR" + pad("FOR", ageWidth)
	if !narrow {
		head += "  WHY / WHERE"
	}
	lines = append(lines, style.paint(toneDim, strings.TrimRight(head, " ")))
	for _, r := range table {
		since := "-"
		if !r.health.Since.IsZero() {
			since = age(now.Sub(r.health.Since))
		}
		line := r.name + pad(r.name, nameWidth) + "  " + style.sign(stateSign(r.health.State)) + "  " +
			style.paint(toneDim, since) + pad(since, ageWidth)
		notes := notes(r.health, style, room)
		if narrow || len(notes) == 0 {
			lines = append(lines, strings.TrimRight(line, " "))
		} else {
			lines = append(lines, line+"  "+notes[0])
			notes = notes[1:]
		}
		for _, n := range notes {
			lines = append(lines, strings.Repeat(" ", column)+n)
		}
	}
	return lines
}

// notes are the lines beside a component: its reason, where it answers, and
// what to try. room is the width to wrap at; 0 means no limit.
func notes(h event.Health, style Style, room int) []string {
	var out []string
	add := func(t tone, text string) {
		for _, line := range wrap(style.text(text), room) {
			out = append(out, style.paint(t, line))
		}
	}
	text := cause(h)
	// Where all is well a short figure and the address share a line.
	if h.URL != "" && h.State.Healthy() {
		text = strings.TrimSpace(text + "  " + h.URL)
	}
	if text != "" {
		add(toneNone, text)
	}
	if h.URL != "" && !h.State.Healthy() {
		add(toneDim, h.URL)
	}
	if h.Try != "" && !h.State.Healthy() {
		add(toneBusy, "Try: "+h.Try)
	}
	return out
}

// statusHead is "web-app  ✗ failed  podman 4.3.1 · up 12m · 9 ok, 1 failed", or
// what of it fits into a line and the rest below.
func statusHead(s Status, style Style, now time.Time) []string {
	var facts []string
	if s.Engine != "" {
		facts = append(facts, s.Engine)
	}
	if !s.Since.IsZero() {
		facts = append(facts, "up "+age(now.Sub(s.Since)))
	}
	counts := map[event.State]int{}
	for _, h := range s.Components {
		counts[h.State]++
	}
	var parts []string
	for _, st := range []event.State{
		event.StateOK, event.StateDegraded, event.StateFailed, event.StateWorking,
		event.StateWaiting, event.StateStale, event.StateOff,
	} {
		if n := counts[st]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, st))
		}
	}
	if len(parts) > 0 {
		facts = append(facts, strings.Join(parts, ", "))
	}
	name, state := style.text(s.Name), strings.TrimRight(style.sign(stateSign(s.State)), " ")
	line := style.paint(toneBold, name) + "  " + state
	if len(facts) == 0 {
		return []string{line}
	}
	text := style.text(strings.Join(facts, " · "))
	if style.Width == 0 || ansi.StringWidth(line)+2+ansi.StringWidth(text) <= style.Width {
		return []string{line + "  " + style.paint(toneDim, text)}
	}
	lines := []string{line}
	for _, more := range wrap(text, style.Width-2) {
		lines = append(lines, "  "+style.paint(toneDim, more))
	}
	return lines
}
