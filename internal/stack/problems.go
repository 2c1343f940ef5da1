package stack

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

// Problems are all the problems found in the input, in the order of their
// positions. An error of Load holds them as its cause where there are several.
type Problems []*fault.Error

// Error returns every problem, one after the other.
func (p Problems) Error() string {
	texts := make([]string, len(p))
	for i, e := range p {
		texts[i] = e.Error()
	}
	return strings.Join(texts, "\n")
}

// Unwrap returns the problems.
func (p Problems) Unwrap() []error {
	errs := make([]error, len(p))
	for i, e := range p {
		errs[i] = e
	}
	return errs
}

// AllProblems returns every problem that an error of this package holds.
func AllProblems(err error) Problems {
	if all, ok := errors.AsType[Problems](err); ok {
		return all
	}
	if one, ok := errors.AsType[*fault.Error](err); ok {
		return Problems{one}
	}
	return nil
}

// position is a place in a file. Lines and columns count from 1; zero is unknown.
type position struct {
	file      string
	line, col int
}

func (p position) String() string {
	switch {
	case p.line == 0:
		return p.file
	case p.col == 0:
		return fmt.Sprintf("%s:%d", p.file, p.line)
	default:
		return fmt.Sprintf("%s:%d:%d", p.file, p.line, p.col)
	}
}

// problem is one thing that is wrong: what is there, the rule it breaks, and
// what to write instead.
type problem struct {
	at   position
	what string
	rule string
	try  string
}

// report collects problems.
type report struct{ problems []problem }

func (r *report) add(at position, what, rule, try string) {
	r.problems = append(r.problems, problem{at: at, what: what, rule: rule, try: try})
}

// err returns the problems as one error, or nil where there is none. With
// several, the error is the first of them; its log lists the rest, one a line,
// and its cause holds them all.
func (r *report) err() error {
	if len(r.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(r.problems, func(a, b problem) int {
		return cmp.Or(cmp.Compare(a.at.file, b.at.file), cmp.Compare(a.at.line, b.at.line), cmp.Compare(a.at.col, b.at.col))
	})
	r.problems = slices.Compact(r.problems)

	all := make(Problems, len(r.problems))
	for i, p := range r.problems {
		all[i] = &fault.Error{Code: fault.Invalid, Pos: printable(p.at.String()), What: printable(p.what), Why: printable(p.rule), Try: printable(p.try)}
	}
	if len(all) == 1 {
		return all[0]
	}
	first := *all[0]
	first.What += fmt.Sprintf(" (1 of %d problems)", len(all))
	first.Cause = all
	for _, p := range all[1:] {
		first.Log = append(first.Log, p.Pos+": "+p.What)
	}
	return &first
}

// maxQuoted is the longest piece of input, in runes, that a message repeats.
const maxQuoted = 80

// quote returns a piece of input for a message: escaped, and cut where it is long.
func quote(s string) string {
	if r := []rune(s); len(r) > maxQuoted {
		s = string(r[:maxQuoted]) + "…"
	}
	return fmt.Sprintf("%q", s)
}

// printable escapes what a terminal could take for a control sequence. Messages
// of libraries repeat input as it is.
func printable(s string) string {
	if !strings.ContainsFunc(s, isControl) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if isControl(r) {
			fmt.Fprintf(&b, `\x%02x`, r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

// isControl reports whether r is a C0 or C1 control character, or one of those
// that change the direction of the text around them.
func isControl(r rune) bool {
	return r < 0x20 || (r >= 0x7f && r <= 0x9f) || (r >= 0x202a && r <= 0x202e) || (r >= 0x2066 && r <= 0x2069)
}
