package stack

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	promql "github.com/prometheus/prometheus/promql/parser"
)

// ParseRules reads a Prometheus rule file and checks it as Prometheus does:
// keys, durations, expressions and templates. Load has done this for the rule
// files of a stack; an error is like one of Load, with code fault.Invalid.
func ParseRules(path string) (*rulefmt.RuleGroups, error) {
	r := &report{}
	groups := checkRules(path, path, r)
	if err := r.err(); err != nil {
		return nil, err
	}
	return groups, nil
}

// checkRules parses the rule file at path; messages call it display.
func checkRules(display, path string, r *report) *rulefmt.RuleGroups {
	data, err := readFile(path, maxFileBytes)
	if err != nil {
		r.add(position{file: display, line: 1, col: 1}, "the rule file can't be read", err.Error(), "check the file")
		return nil
	}
	f := ruleFile{name: display, lines: strings.Split(string(data), "\n"), report: r}
	if !checkText(display, data, r) || !f.locate(data) || !f.checkDurations() {
		return nil
	}
	groups, errs := rulefmt.Parse(data, false, model.LegacyValidation)
	for _, err := range errs {
		f.add(err)
	}
	if len(errs) == 0 && len(groups.Groups) == 0 {
		r.add(position{file: display, line: 1, col: 1}, "the rule file has no groups", "a rule file is groups with rules", "add a group, or remove the file from the list")
	}
	return groups
}

// ruleFile turns the errors of Prometheus' parser into problems with positions.
type ruleFile struct {
	name   string
	lines  []string
	doc    any
	pos    positions
	report *report
}

// locate reads the file once more, for the positions that the parser leaves out.
func (f *ruleFile) locate(data []byte) bool {
	tokens := lexer.Tokenize(string(data))
	if at, deep := tooDeep(tokens); deep {
		f.report.add(at.in(f.name), "the rule file is nested too deeply", fmt.Sprintf("depth limit: at most %d levels", maxDepth), "write groups, rules and their keys")
		return false
	}
	doc, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		f.report.add(syntaxProblem(f.name, err))
		return false
	}
	body, ok := onlyDocument(f.name, doc, f.report)
	if !ok {
		return false
	}
	before := len(f.report.problems)
	c := converter{file: f.name, pos: newPositions(f.name), anchors: map[string]ast.Node{}, report: f.report, plainWords: true}
	f.doc, f.pos = c.convert(body, ""), c.pos
	return len(f.report.problems) == before
}

// checkDurations looks at durations first: the parser's error has no position.
func (f *ruleFile) checkDurations() bool {
	good := true
	check := func(at any, ptr string, keys ...string) {
		m, ok := at.(map[string]any)
		if !ok {
			return
		}
		for _, key := range keys {
			value, set := m[key]
			if !set || value == nil {
				continue
			}
			if _, err := model.ParseDuration(fmt.Sprint(value)); err != nil {
				f.report.add(f.pos.value(ptr+"/"+key), fmt.Sprintf("%s is %s", key, show(value)), "a duration has a unit: 30s, 5m, 1h", fmt.Sprintf("write %s: 5m", key))
				good = false
			}
		}
	}
	for i, group := range items(f.doc, "groups") {
		ptr := pointer("groups", i)
		check(group, ptr, "interval", "query_offset")
		for k, rule := range items(group, "rules") {
			check(rule, ptr+pointer("rules", k), "for", "keep_firing_for")
		}
	}
	return good
}

// items returns the list at a key of a map, or nil.
func items(v any, key string) []any {
	m, ok := v.(map[string]any)
	if !ok {
		return nil
	}
	list, ok := m[key].([]any)
	if !ok {
		return nil
	}
	return list
}

var (
	atLine        = regexp.MustCompile(`^line (\d+): (.*)`)
	unknownField  = regexp.MustCompile(`field (\S+) not found in type rulefmt\.(\w+)`)
	atPosition    = regexp.MustCompile(`^(\d+):(\d+): (.*)`)
	repeatedGroup = regexp.MustCompile(`^groupname: "(.*)" is repeated`)
	atText        = regexp.MustCompile(`^(label|annotation) "([^"]*)"`)
)

// The keys of a rule file, for suggestions.
var ruleKeys = map[string][]string{
	"RuleGroups": {"groups"},
	"RuleGroup":  {"name", "interval", "query_offset", "limit", "rules", "labels"},
	"Rule":       {"record", "alert", "expr", "for", "keep_firing_for", "labels", "annotations"},
}

// ruleTypes puts the parser's Go types into words.
var ruleTypes = strings.NewReplacer(
	"[]rulefmt.RuleGroupNode", "a list of groups", "[]rulefmt.RuleGroup", "a list of groups",
	"[]rulefmt.RuleNode", "a list of rules", "[]rulefmt.Rule", "a list of rules",
	"rulefmt.RuleGroupNode", "a group", "rulefmt.RuleGroup", "a group",
	"rulefmt.RuleNode", "a rule", "rulefmt.Rule", "a rule",
)

// add reports one error of the parser.
func (f *ruleFile) add(err error) {
	if rule, ok := errors.AsType[*rulefmt.Error](err); ok {
		f.addRule(rule)
		return
	}
	text := err.Error()
	if m := atPosition.FindStringSubmatch(text); m != nil {
		at := position{f.name, number(m[1]), number(m[2])}
		if repeated := repeatedGroup.FindStringSubmatch(m[3]); repeated != nil && at.line == 0 {
			at = f.pos.value(f.lastGroup(repeated[1]) + "/name")
		}
		f.report.add(at, "the rule file is not valid", m[3], "correct the group")
		return
	}
	lines := strings.Split(strings.TrimPrefix(text, "yaml: unmarshal errors:\n"), "\n")
	for _, line := range lines {
		f.addYAML(strings.TrimPrefix(strings.TrimSpace(line), "yaml: "))
	}
}

// addYAML reports one line of an error of the YAML decoder.
func (f *ruleFile) addYAML(text string) {
	at := position{file: f.name, line: 1, col: 1}
	if m := atLine.FindStringSubmatch(text); m != nil {
		at.line, text = number(m[1]), m[2]
		at.col = f.firstColumn(at.line)
	}
	m := unknownField.FindStringSubmatch(text)
	if m == nil {
		// The parser reads the file twice, into types of two names; in words
		// both errors are the same and count once.
		f.report.add(at, "the rule file is not valid", ruleTypes.Replace(text), "correct this line")
		return
	}
	if i := strings.Index(f.line(at.line), m[1]); i >= 0 {
		at.col = len([]rune(f.line(at.line)[:i])) + 1
	}
	known := ruleKeys[m[2]]
	f.report.add(at, fmt.Sprintf("unknown key %s", quote(m[1])), "known keys: "+strings.Join(known, ", "), suggest(m[1], known))
}

// addRule reports an error of one rule.
func (f *ruleFile) addRule(e *rulefmt.Error) {
	base := f.rulePointer(e)
	name := e.RuleName
	if name == "" {
		name = fmt.Sprintf("%d", e.Rule)
	}
	if parse, ok := errors.AsType[promql.ParseErrors](e); ok && len(parse) > 0 {
		at := f.inExpression(f.pos.value(base+"/expr"), int(parse[0].PositionRange.Start))
		f.report.add(at, fmt.Sprintf("the expression of rule %s is not valid PromQL", name), parse[0].Err.Error(), "correct the expression; promtool check rules shows the same")
		return
	}
	text := e.Err.Unwrap().Error()
	at := f.pos.value(base)
	if m := atText.FindStringSubmatch(text); m != nil {
		at = f.pos.value(base + pointer(m[1]+"s", m[2]))
	}
	f.report.add(at, fmt.Sprintf("the rule %s is not valid", name), text, "correct the rule")
}

// rulePointer locates the rule of an error by its group's name and its number.
func (f *ruleFile) rulePointer(e *rulefmt.Error) string {
	groups := items(f.doc, "groups")
	i := slices.IndexFunc(groups, func(g any) bool {
		m, ok := g.(map[string]any)
		return ok && fmt.Sprint(m["name"]) == e.Group
	})
	return pointer("groups", i, "rules", e.Rule-1)
}

// lastGroup is the pointer to the last group of a name.
func (f *ruleFile) lastGroup(name string) string {
	ptr := "/groups"
	for i, g := range items(f.doc, "groups") {
		if m, ok := g.(map[string]any); ok && fmt.Sprint(m["name"]) == name {
			ptr = pointer("groups", i)
		}
	}
	return ptr
}

// inExpression moves from the start of an expression to an offset in it. In a
// block (| or >) each line of the file stands for one line or word gap of the
// text, which is one character either way.
func (f *ruleFile) inExpression(start position, offset int) position {
	line := f.line(start.line)
	if start.col < 1 || start.col > len(line) {
		return start
	}
	switch line[start.col-1] {
	case '|', '>':
		for n := start.line + 1; n <= len(f.lines); n++ {
			text := strings.TrimLeft(f.line(n), " ")
			indent := len(f.line(n)) - len(text)
			if offset <= len(text) {
				return position{start.file, n, indent + offset + 1}
			}
			offset -= len(text) + 1
		}
		return start
	case '"', '\'':
		offset++
	}
	if start.col+offset > len(line)+1 {
		return start
	}
	return position{start.file, start.line, start.col + offset}
}

// line returns a line of the file, counted from 1.
func (f *ruleFile) line(n int) string {
	if n < 1 || n > len(f.lines) {
		return ""
	}
	return f.lines[n-1]
}

// firstColumn is the column of the first character of a line that is no space.
func (f *ruleFile) firstColumn(n int) int {
	line := f.line(n)
	return len(line) - len(strings.TrimLeft(line, " -")) + 1
}

// number reads digits that an expression has matched.
func number(digits string) int {
	n, err := strconv.Atoi(digits)
	if err != nil {
		return 0 // too many digits for a line
	}
	return n
}
