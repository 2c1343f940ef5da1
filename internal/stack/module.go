package stack

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
)

// module is what the stack file can refer to in a Terraform module.
type module struct {
	// outputs are the names of the outputs, sorted.
	outputs []string
	// variables are the names of the input variables; true marks those without
	// a default.
	variables map[string]bool
	// hasVarFiles tells that the module brings values in *.tfvars files.
	hasVarFiles bool
}

// moduleSchema lists the blocks that are read; everything else is left alone.
var moduleSchema = &hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
	{Type: "output", LabelNames: []string{"name"}},
	{Type: "variable", LabelNames: []string{"name"}},
}}

var variableSchema = &hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "default"}}}

// readModule parses a Terraform module without running anything.
func (s *Stack) readModule(ptr, rel, dir string, r *report) (module, bool) {
	m := module{variables: map[string]bool{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		r.add(s.positions.value(ptr), fmt.Sprintf("%s can't be read", s.display(rel)), reason(err), "check its permissions")
		return m, false
	}
	parser := hclparse.NewParser()
	found, good := false, true
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() || strings.HasPrefix(name, ".") {
			continue
		}
		m.hasVarFiles = m.hasVarFiles || strings.HasSuffix(name, ".tfvars") || strings.HasSuffix(name, ".tfvars.json")
		isJSON := strings.HasSuffix(name, ".tf.json")
		if !isJSON && !strings.HasSuffix(name, ".tf") {
			continue
		}
		found = true
		data, err := readFile(filepath.Join(dir, name), maxFileBytes)
		if err != nil {
			r.add(position{file: s.display(filepath.Join(rel, name)), line: 1, col: 1}, "the file can't be read", err.Error(), "check the file")
			good = false
			continue
		}
		display := s.display(filepath.Join(rel, name))
		parse := parser.ParseHCL
		if isJSON {
			parse = parser.ParseJSON
		}
		file, diags := parse(data, display)
		if file != nil && !diags.HasErrors() {
			diags = append(diags, m.collect(file.Body)...)
		}
		good = addDiagnostics(display, diags, r) && good
	}
	if !found {
		r.add(s.positions.value(ptr), fmt.Sprintf("no *.tf files in %s", s.display(rel)), "a Terraform module is a folder with *.tf files", "name the folder of the root module")
		return m, false
	}
	slices.Sort(m.outputs)
	m.outputs = slices.Compact(m.outputs)
	return m, good
}

// collect adds the outputs and variables of one file.
func (m *module) collect(body hcl.Body) hcl.Diagnostics {
	content, _, diags := body.PartialContent(moduleSchema)
	for _, block := range content.Blocks {
		name := block.Labels[0]
		if block.Type == "output" {
			m.outputs = append(m.outputs, name)
			continue
		}
		inner, _, more := block.Body.PartialContent(variableSchema)
		diags = append(diags, more...)
		_, hasDefault := inner.Attributes["default"]
		m.variables[name] = !hasDefault
	}
	return diags
}

// addDiagnostics reports the errors of the HCL parser, and whether there were none.
func addDiagnostics(display string, diags hcl.Diagnostics, r *report) bool {
	for _, d := range diags {
		if d.Severity != hcl.DiagError {
			continue
		}
		at := position{file: display, line: 1, col: 1}
		if d.Subject != nil {
			at.line, at.col = d.Subject.Start.Line, d.Subject.Start.Column
		}
		r.add(at, "the Terraform module can't be read: "+d.Summary, d.Detail, "correct it; terraform validate shows the same")
	}
	return !diags.HasErrors()
}
