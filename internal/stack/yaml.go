package stack

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits of a stack file. They are far above what a file written by hand needs,
// and keep a hostile one from taking memory or time.
const (
	maxBytes = 256 << 10
	maxDepth = 64
	maxNodes = 20_000
)

// positions locates the keys and values of a document by JSON pointer.
type positions struct {
	file   string
	values map[string]position
	keys   map[string]position
	// numbers holds numbers as they are written: 1.10 is not 1.1.
	numbers map[string]string
}

func newPositions(file string) positions {
	return positions{file: file, values: map[string]position{}, keys: map[string]position{}, numbers: map[string]string{}}
}

// value returns where the value at the pointer starts, or the nearest value
// around it where there is none.
func (p positions) value(pointer string) position {
	for {
		if at, ok := p.values[pointer]; ok {
			return at
		}
		cut := strings.LastIndexByte(pointer, '/')
		if cut < 0 {
			return position{file: p.file, line: 1, col: 1}
		}
		pointer = pointer[:cut]
	}
}

// key returns where the key of the value at the pointer is.
func (p positions) key(pointer string) position {
	if at, ok := p.keys[pointer]; ok {
		return at
	}
	return p.value(pointer)
}

// has reports whether the document has a value at the pointer.
func (p positions) has(pointer string) bool {
	_, ok := p.values[pointer]
	return ok
}

// pointer joins keys and indexes to a JSON pointer.
func pointer(parts ...any) string {
	var b strings.Builder
	for _, part := range parts {
		b.WriteByte('/')
		b.WriteString(strings.NewReplacer("~", "~0", "/", "~1").Replace(fmt.Sprint(part)))
	}
	return b.String()
}

// parseYAML reads the only document of a file into plain values: map[string]any,
// []any, string, bool, int64, uint64, float64 and nil.
func parseYAML(file string, data []byte, r *report) (any, positions) {
	pos := newPositions(file)
	if !checkText(file, data, r) {
		return nil, pos
	}
	tokens := lexer.Tokenize(string(data))
	if at, deep := tooDeep(tokens); deep {
		r.add(at.in(file), "the document is nested too deeply", fmt.Sprintf("depth limit: at most %d levels", maxDepth), "write the values in a values file of the chart")
		return nil, pos
	}
	doc, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		r.add(syntaxProblem(file, err))
		return nil, pos
	}
	body, ok := onlyDocument(file, doc, r)
	if !ok {
		return nil, pos
	}
	c := converter{file: file, pos: pos, anchors: map[string]ast.Node{}, report: r}
	return c.convert(body, ""), pos
}

// checkText refuses what is no text before a parser sees it.
func checkText(file string, data []byte, r *report) bool {
	for line, text := range bytes.Split(data, []byte("\n")) {
		if i := bytes.IndexByte(text, 0); i >= 0 {
			r.add(position{file, line + 1, utf8.RuneCount(text[:i]) + 1}, "the file contains a NUL byte", "a stack file is text in UTF-8", "remove the byte, or save the file as UTF-8")
			return false
		}
		if !utf8.Valid(text) {
			col := 1
			for rest := text; len(rest) > 0; col++ {
				c, size := utf8.DecodeRune(rest)
				if c == utf8.RuneError && size == 1 {
					break
				}
				rest = rest[size:]
			}
			r.add(position{file, line + 1, col}, "the file contains bytes that are not UTF-8", "a stack file is text in UTF-8", "save the file as UTF-8")
			return false
		}
	}
	return true
}

// place is a line and a column of the file that is being read.
type place struct{ line, col int }

func (p place) in(file string) position { return position{file, p.line, p.col} }

// tooDeep measures nesting on the tokens, because the parser recurses. Tokens
// of block style nest by column, brackets by count.
func tooDeep(tokens token.Tokens) (place, bool) {
	var columns []int
	flow := 0
	for _, t := range tokens {
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			flow++
		case token.SequenceEndType, token.MappingEndType:
			flow = max(flow-1, 0)
		default:
			if flow > 0 {
				break
			}
			for len(columns) > 0 && columns[len(columns)-1] > t.Position.Column {
				columns = columns[:len(columns)-1]
			}
			if len(columns) == 0 || columns[len(columns)-1] < t.Position.Column {
				columns = append(columns, t.Position.Column)
			}
		}
		if flow+len(columns) > 2*maxDepth {
			return place{t.Position.Line, t.Position.Column}, true
		}
	}
	return place{}, false
}

// syntaxProblem turns an error of the YAML parser into a problem.
func syntaxProblem(file string, err error) (at position, what, rule, try string) {
	at = position{file: file, line: 1, col: 1}
	msg := err.Error()
	var e yaml.Error
	if errors.As(err, &e) {
		msg = e.GetMessage()
		if t := e.GetToken(); t != nil && t.Position != nil {
			at.line, at.col = t.Position.Line, t.Position.Column
		}
	}
	try = "correct the YAML at this place"
	if strings.Contains(msg, "'\t'") {
		msg, try = "a tab is used to indent", "indent with spaces"
	}
	return at, "the file is not valid YAML", msg, try
}

// onlyDocument returns the body of the file's one document.
func onlyDocument(file string, doc *ast.File, r *report) (ast.Node, bool) {
	var bodies []ast.Node
	var starts []place
	for _, d := range doc.Docs {
		if d.Body == nil || d.Body.Type() == ast.CommentType {
			continue
		}
		if d.Body.Type() == ast.DirectiveType {
			continue
		}
		at := nodePlace(d.Body)
		if d.Start != nil {
			at = place{d.Start.Position.Line, d.Start.Position.Column}
		}
		bodies, starts = append(bodies, d.Body), append(starts, at)
	}
	switch len(bodies) {
	case 0:
		r.add(position{file, 1, 1}, "the file holds no stack", "a stack file has apiVersion, kind, metadata and spec", "start from one of the stacks that come with sandbox")
		return nil, false
	case 1:
		return bodies[0], true
	default:
		r.add(starts[1].in(file), "a second document starts here", "a stack file holds one document", "put the second stack into a folder of its own")
		return nil, false
	}
}

// nodePlace is where a node starts.
func nodePlace(n ast.Node) place {
	t := n.GetToken()
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			t = n.Values[0].Key.GetToken()
		}
	case *ast.MappingValueNode:
		t = n.Key.GetToken()
	}
	if t == nil || t.Position == nil {
		return place{1, 1}
	}
	return place{t.Position.Line, t.Position.Column}
}

// converter turns syntax into values and remembers where each of them was.
type converter struct {
	file    string
	pos     positions
	anchors map[string]ast.Node
	report  *report
	nodes   int
	// plainWords takes yes, no, on and off as they are.
	plainWords bool
	// open names the anchors that are being read, to refuse one inside itself.
	open []string
}

func (c *converter) convert(n ast.Node, ptr string) any {
	if c.nodes++; c.nodes > maxNodes {
		if c.nodes == maxNodes+1 {
			c.report.add(nodePlace(n).in(c.file), "the document has too many values", fmt.Sprintf("expansion limit: at most %d values, with aliases written out", maxNodes), "write the values in a values file of the chart")
		}
		return nil
	}
	if _, seen := c.pos.values[ptr]; !seen {
		c.pos.values[ptr] = nodePlace(n).in(c.file)
	}
	switch n := n.(type) {
	case *ast.NullNode:
		return nil
	case *ast.BoolNode:
		return n.Value
	case *ast.IntegerNode:
		c.pos.numbers[ptr] = n.Token.Value
		return n.Value
	case *ast.FloatNode:
		c.pos.numbers[ptr] = n.Token.Value
		return n.Value
	case *ast.StringNode:
		return c.text(n)
	case *ast.LiteralNode:
		return n.Value.Value
	case *ast.MappingNode:
		return c.mapping(n.Values, ptr)
	case *ast.MappingValueNode:
		return c.mapping([]*ast.MappingValueNode{n}, ptr)
	case *ast.SequenceNode:
		list := make([]any, len(n.Values))
		for i, item := range n.Values {
			list[i] = c.convert(item, ptr+"/"+strconv.Itoa(i))
		}
		return list
	case *ast.AnchorNode:
		c.anchors[n.Name.GetToken().Value] = n.Value
		c.open = append(c.open, n.Name.GetToken().Value)
		defer func() { c.open = c.open[:len(c.open)-1] }()
		return c.convert(n.Value, ptr)
	case *ast.AliasNode:
		return c.alias(n, ptr)
	default:
		c.report.add(nodePlace(n).in(c.file), fmt.Sprintf("%s can't be used here", strings.ToLower(n.Type().String())), "a stack file holds maps, lists, strings, numbers and booleans", "write the value out, quoted where it is text")
		return nil
	}
}

// text returns a string, and refuses words that are booleans to most other
// readers of YAML, Helm's among them.
func (c *converter) text(n *ast.StringNode) any {
	if n.Token.Type == token.StringType && !c.plainWords {
		switch strings.ToLower(n.Value) {
		case "yes", "no", "on", "off", "y", "n":
			c.report.add(nodePlace(n).in(c.file), fmt.Sprintf("%s is text here but a boolean to other readers of YAML", n.Value), "yes, no, on, off, y and n have to be quoted", fmt.Sprintf("quote it: %q, or write true or false", n.Value))
		}
	}
	return n.Value
}

func (c *converter) alias(n *ast.AliasNode, ptr string) any {
	name := n.Value.GetToken().Value
	target, ok := c.anchors[name]
	if !ok {
		c.report.add(nodePlace(n).in(c.file), fmt.Sprintf("no anchor %s", quote(name)), "an alias follows the anchor it names", fmt.Sprintf("define it before: &%s", name))
		return nil
	}
	for _, open := range c.open {
		if open == name {
			c.report.add(nodePlace(n).in(c.file), fmt.Sprintf("the anchor %s contains itself", quote(name)), "an alias can't stand inside the value it names", "write the value out")
			return nil
		}
	}
	c.open = append(c.open, name)
	defer func() { c.open = c.open[:len(c.open)-1] }()
	return c.convert(target, ptr)
}

func (c *converter) mapping(entries []*ast.MappingValueNode, ptr string) any {
	m := make(map[string]any, len(entries))
	first := make(map[string]place, len(entries))
	var merged []map[string]any
	for _, e := range entries {
		at := nodePlace(e.Key)
		if _, ok := e.Key.(*ast.MergeKeyNode); ok {
			merged = append(merged, c.merge(e.Value, ptr, at)...)
			continue
		}
		key, ok := keyText(e.Key)
		if !ok {
			c.report.add(at.in(c.file), "the key is not a string", "keys are strings", "quote the key")
			continue
		}
		child := ptr + pointer(key)
		if before, dup := first[key]; dup {
			c.report.add(at.in(c.file), fmt.Sprintf("duplicate key %s", quote(key)), fmt.Sprintf("the key is already set in line %d, column %d", before.line, before.col), "remove one of the two")
			continue
		}
		first[key] = at
		c.pos.keys[child] = at.in(c.file)
		m[key] = c.convert(e.Value, child)
	}
	for _, from := range merged {
		for k, v := range from {
			if _, set := m[k]; !set {
				m[k] = v
			}
		}
	}
	return m
}

// merge reads the value of a merge key (<<): a map or a list of maps.
func (c *converter) merge(n ast.Node, ptr string, at place) []map[string]any {
	value := c.convert(n, ptr)
	if list, ok := value.([]any); ok {
		maps := make([]map[string]any, 0, len(list))
		for _, item := range list {
			if m, ok := item.(map[string]any); ok {
				maps = append(maps, m)
			}
		}
		if len(maps) == len(list) {
			return maps
		}
	}
	if m, ok := value.(map[string]any); ok {
		return []map[string]any{m}
	}
	c.report.add(at.in(c.file), "a merge key needs a map", "<< takes a map or a list of maps", "name an anchor of a map: <<: *name")
	return nil
}

// keyText returns a scalar key as written.
func keyText(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode:
		return n.GetToken().Value, true
	case *ast.MappingKeyNode:
		return keyText(n.Value)
	default:
		return "", false
	}
}
