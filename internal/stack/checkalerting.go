package stack

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
)

// yamlFile is a file of another program's that a stack names.
type yamlFile struct {
	// rel is its path in the stack's folder, with slashes.
	rel string
	doc map[string]any
	pos positions
}

// readYAML reads a file that holds one map; what names it in messages.
func (s *Stack) readYAML(rel, file, what string, r *report) (yamlFile, bool) {
	display := s.display(rel)
	y := yamlFile{rel: path.Clean(filepath.ToSlash(rel))}
	start := position{file: display, line: 1, col: 1}
	data, err := readFile(file, maxFileBytes)
	if err != nil {
		r.add(start, what+" can't be read", err.Error(), "check the file")
		return y, false
	}
	if !checkText(display, data, r) {
		return y, false
	}
	tokens := lexer.Tokenize(string(data))
	if at, deep := tooDeep(tokens); deep {
		r.add(at.in(display), what+" is nested too deeply", fmt.Sprintf("depth limit: at most %d levels", maxDepth), "write it with fewer levels")
		return y, false
	}
	parsed, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		r.add(syntaxProblem(display, err))
		return y, false
	}
	documents := &report{}
	body, ok := onlyDocument(display, parsed, documents)
	if !ok {
		r.add(documents.problems[0].at, what+" is not one YAML document", "the file holds exactly one", "leave one map in it")
		return y, false
	}
	before := len(r.problems)
	c := converter{file: display, pos: newPositions(display), anchors: map[string]ast.Node{}, report: r, plainWords: true}
	doc := c.convert(body, "")
	y.pos = c.pos
	if len(r.problems) > before {
		return y, false
	}
	if y.doc, ok = doc.(map[string]any); !ok {
		r.add(start, fmt.Sprintf("%s is %s", what, describe(doc)), "it has to be a map", "write keys with values")
	}
	return y, ok
}

// checkRuleTests checks the unit tests of the rules as far as what they read is
// concerned: promtool would follow their paths anywhere.
func (s *Stack) checkRuleTests(r *report) {
	for i, rel := range s.Spec.Observability.Tests {
		file, ok := s.resolve(pointer("spec", "observability", "tests", i), rel, wantFile, r)
		if !ok {
			continue
		}
		y, ok := s.readYAML(rel, file, "the test file", r)
		if !ok {
			continue
		}
		s.checkPatterns(y, "rule_files", "a test file names the rule files that it tests", r)
		if list, isList := y.doc["rule_files"].([]any); !isList || len(list) == 0 {
			r.add(y.pos.value("/rule_files"), "the test file names no rule files", "it needs rule_files, a list of the rule files that it tests", "add rule_files: [alerts.yaml]")
		}
	}
}

// checkPatterns checks a list of paths and patterns, which are relative to the
// file that they are in: each of them has to match files, in the stack's folder.
func (s *Stack) checkPatterns(y yamlFile, key, rule string, r *report) {
	for i, item := range items(y.doc, key) {
		at := y.pos.value(pointer(key, i))
		pattern, ok := item.(string)
		if !ok || pattern == "" {
			r.add(at, fmt.Sprintf("%s has %s", key, describe(item)), rule, "write a path, relative to this file")
			continue
		}
		rel := joinSlash(path.Dir(y.rel), pattern)
		if path.IsAbs(rel) || !filepath.IsLocal(filepath.FromSlash(rel)) {
			r.add(at, fmt.Sprintf("%s is outside the stack's folder", quote(pattern)), "a path is relative to this file and stays in the stack's folder", "copy what is needed into the stack's folder")
			continue
		}
		found, err := fs.Glob(os.DirFS(s.Dir), rel)
		switch {
		case err != nil:
			r.add(at, fmt.Sprintf("%s is no pattern", quote(pattern)), err.Error(), "write a path, relative to this file")
		case len(found) == 0:
			r.add(at, fmt.Sprintf("no file matches %s", s.display(rel)), rule, s.suggestPath(rel))
		}
		for _, file := range found {
			if resolved, err := filepath.EvalSymlinks(s.Path(file)); err != nil || !within(s.Dir, resolved) {
				r.add(at, fmt.Sprintf("%s leads outside the stack's folder", quote(pattern)), "what the stack reads stays in its folder", "copy what is needed into the stack's folder")
				break
			}
		}
	}
}

// alertmanagerKeys are the keys on the top level of Alertmanager's configuration.
var alertmanagerKeys = []string{"global", "inhibit_rules", "mute_time_intervals", "receivers", "route", "templates", "time_intervals", "tracing"}

// checkAlertmanager checks what a drill needs of Alertmanager's configuration, and
// what would keep Alertmanager from starting most often: a route to a receiver
// that is not there. It returns the receivers, or nil where there is no valid
// list of them.
func (s *Stack) checkAlertmanager(r *report) []string {
	rel := s.Spec.Observability.Alertmanager
	if rel == "" {
		return nil
	}
	file, ok := s.resolve("/spec/observability/alertmanager", rel, wantFile, r)
	if !ok {
		return nil
	}
	y, ok := s.readYAML(rel, file, "Alertmanager's configuration", r)
	if !ok {
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(y.doc)) {
		if !slices.Contains(alertmanagerKeys, key) {
			r.add(y.pos.key(pointer(key)), fmt.Sprintf("unknown key %s", quote(key)), "known keys: "+strings.Join(alertmanagerKeys, ", "), suggest(key, alertmanagerKeys))
		}
	}
	s.checkPatterns(y, "templates", "templates are files beside Alertmanager's configuration", r)

	receivers := y.receivers(r)
	route, ok := y.doc["route"].(map[string]any)
	if !ok {
		r.add(y.pos.value("/route"), "Alertmanager's configuration has no route", "it needs route, a map that says which receiver alerts go to", "add route: {receiver: NAME}")
		return receivers
	}
	if name, ok := route["receiver"].(string); !ok || name == "" {
		r.add(y.pos.value("/route/receiver"), "the route has no receiver", "the top route names the receiver of what no other route matches", "add receiver: NAME")
	}
	if receivers != nil {
		y.checkRoute(route, "/route", receivers, r)
	}
	return receivers
}

// receivers returns the names of the receivers, nil where they are not valid.
func (y yamlFile) receivers(r *report) []string {
	list, ok := y.doc["receivers"].([]any)
	if !ok || len(list) == 0 {
		r.add(y.pos.value("/receivers"), "Alertmanager's configuration has no receivers", "it needs receivers, a list of those that routes name", "add receivers: [{name: NAME}]")
		return nil
	}
	var names []string
	first := map[string]position{}
	good := true
	for i, item := range list {
		ptr := pointer("receivers", i)
		m, _ := item.(map[string]any)
		name, ok := m["name"].(string)
		if !ok || name == "" {
			r.add(y.pos.value(ptr+"/name"), "a receiver without a name", "routes name it", "add name: NAME")
			good = false
			continue
		}
		at := y.pos.value(ptr + "/name")
		if before, taken := first[name]; taken {
			r.add(at, fmt.Sprintf("the receiver %s is defined twice", quote(name)), fmt.Sprintf("it is already defined in line %d", before.line), "choose another name")
			continue
		}
		first[name] = at
		names = append(names, name)
	}
	if !good {
		return nil
	}
	return names
}

// checkRoute checks the receivers of a route and of those below it.
func (y yamlFile) checkRoute(route map[string]any, ptr string, receivers []string, r *report) {
	if value, set := route["receiver"]; set {
		name, ok := value.(string)
		switch {
		case !ok:
			r.add(y.pos.value(ptr+"/receiver"), fmt.Sprintf("the receiver of a route is %s", describe(value)), "it is the name of a receiver", suggest("", receivers))
		case name != "" && !slices.Contains(receivers, name):
			r.add(y.pos.value(ptr+"/receiver"), fmt.Sprintf("unknown receiver %s", quote(name)), "it has to be a name under receivers", suggest(name, receivers))
		}
	}
	value, set := route["routes"]
	list, isList := value.([]any)
	if set && !isList {
		r.add(y.pos.value(ptr+"/routes"), fmt.Sprintf("routes is %s", describe(value)), "it has to be a list of routes", "write a list")
	}
	for i, item := range list {
		child := ptr + pointer("routes", i)
		m, ok := item.(map[string]any)
		if !ok {
			r.add(y.pos.value(child), fmt.Sprintf("a route is %s", describe(item)), "it has to be a map", "write receiver and matchers")
			continue
		}
		y.checkRoute(m, child, receivers, r)
	}
}
