package terraform

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

// folder is what one module folder's configuration declares, as far as it
// matters for keeping the module inside the sandbox.
type folder struct {
	dir       string // slash path below the scanned root
	required  map[string]requirement
	providers []providerBlock
	// uses are the local names of providers that resources and data sources
	// refer to or imply, with the first place of each.
	uses      map[string]hcl.Range
	calls     []moduleCall
	variables map[string]variable
	outputs   map[string]hcl.Range
	forbidden []forbidden
	overrides []string // names of the user's own override files
}

type requirement struct {
	source     string // normalized, see providerSource
	constraint string
	rng        hcl.Range
}

type providerBlock struct {
	name, alias string
	region      bool // the block sets its region
	rng         hcl.Range
}

type moduleCall struct {
	name, source, version string
	rng                   hcl.Range
}

type variable struct {
	required bool
	rng      hcl.Range
}

// forbidden is something that a module may do only when asked for.
type forbidden struct {
	what string
	why  string
	exec bool // allowed by Config.AllowExec
	rng  hcl.Range
}

var (
	fileSchema = &hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
		{Type: "terraform"},
		{Type: "provider", LabelNames: []string{"name"}},
		{Type: "resource", LabelNames: []string{"type", "name"}},
		{Type: "data", LabelNames: []string{"type", "name"}},
		{Type: "ephemeral", LabelNames: []string{"type", "name"}},
		{Type: "module", LabelNames: []string{"name"}},
		{Type: "variable", LabelNames: []string{"name"}},
		{Type: "output", LabelNames: []string{"name"}},
	}}
	settingsSchema = &hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
		{Type: "required_providers"}, {Type: "encryption"},
	}}
	providerSchema = &hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "alias"}, {Name: "region"}, {Name: "version"}}}
	resourceSchema = &hcl.BodySchema{
		Attributes: []hcl.AttributeSchema{{Name: "provider"}, {Name: "backend"}},
		Blocks:     []hcl.BlockHeaderSchema{{Type: "provisioner", LabelNames: []string{"type"}}},
	}
	callSchema     = &hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "source"}, {Name: "version"}}}
	variableSchema = &hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "default"}}}
)

// scanFolder parses the configuration files of one module folder. The names in
// faults are those that show gives to paths below the root.
func scanFolder(fsys fs.FS, dir, tool string, show func(string) string) (*folder, error) {
	entries, err := fs.ReadDir(fsys, dir)
	if err != nil {
		return nil, fmt.Errorf("read module folder %s: %w", show(dir), err)
	}
	f := &folder{
		dir: dir, required: map[string]requirement{}, uses: map[string]hcl.Range{},
		variables: map[string]variable{}, outputs: map[string]hcl.Range{},
	}
	parser := hclparse.NewParser()
	found := false
	for _, e := range entries {
		name := e.Name()
		kind := configKind(name, tool)
		if kind == "" || e.IsDir() || strings.HasPrefix(name, overrideBase) || shadowed(entries, name, tool) {
			continue
		}
		found = true
		if stem := strings.TrimSuffix(name, kind); stem == "override" || strings.HasSuffix(stem, "_override") {
			f.overrides = append(f.overrides, name)
		}
		src, err := fs.ReadFile(fsys, path.Join(dir, name))
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", show(path.Join(dir, name)), err)
		}
		parse := parser.ParseHCL
		if strings.HasSuffix(kind, ".json") {
			parse = parser.ParseJSON
		}
		file, diags := parse(src, show(path.Join(dir, name)))
		if err := invalid(diags); err != nil {
			return nil, err
		}
		if err := f.addFile(file.Body, tool); err != nil {
			return nil, err
		}
	}
	if !found {
		return nil, fault.New(fault.Invalid, fmt.Sprintf("%s is not a Terraform module", filepath.Clean(show(dir))),
			"there is no *.tf file in it", "name the folder of the root module")
	}
	return f, nil
}

// configKind returns the extension of a configuration file's name, or "".
func configKind(name, tool string) string {
	if strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") || strings.HasPrefix(name, "#") && strings.HasSuffix(name, "#") {
		return ""
	}
	kinds := []string{".tf.json", ".tf"}
	if tool == tofuName {
		kinds = append(kinds, ".tofu.json", ".tofu")
	}
	for _, k := range kinds {
		if strings.HasSuffix(name, k) {
			return k
		}
	}
	return ""
}

// shadowed reports whether OpenTofu reads main.tofu in place of this main.tf.
func shadowed(entries []fs.DirEntry, name, tool string) bool {
	stem, isTF := strings.CutSuffix(name, ".tf")
	twin := stem + ".tofu"
	if !isTF {
		if stem, isTF = strings.CutSuffix(name, ".tf.json"); isTF {
			twin = stem + ".tofu.json"
		}
	}
	return tool == tofuName && isTF &&
		slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == twin })
}

// invalid turns the first error of the parser's into a fault with its place.
func invalid(diags hcl.Diagnostics) error {
	for _, d := range diags {
		if d.Severity != hcl.DiagError {
			continue
		}
		e := fault.New(fault.Invalid, d.Summary, d.Detail, "")
		if d.Subject != nil {
			e.Pos = position(*d.Subject)
		}
		return e
	}
	return nil
}

func position(r hcl.Range) string {
	return fmt.Sprintf("%s:%d:%d", r.Filename, r.Start.Line, r.Start.Column)
}

// blocks returns a body's blocks and attributes of the schema and leaves the
// rest to the tool.
func blocks(body hcl.Body, schema *hcl.BodySchema) (*hcl.BodyContent, error) {
	content, _, diags := body.PartialContent(schema)
	return content, invalid(diags)
}

func (f *folder) addFile(body hcl.Body, tool string) error {
	content, err := blocks(body, fileSchema)
	if err != nil {
		return err
	}
	for _, b := range content.Blocks {
		var err error
		switch b.Type {
		case "terraform":
			err = f.addSettings(b)
		case "provider":
			err = f.addProvider(b)
		case "resource", "data", "ephemeral":
			err = f.addResource(b)
		case "module":
			err = f.addCall(b, tool)
		case "variable":
			var c *hcl.BodyContent
			if c, err = blocks(b.Body, variableSchema); err == nil {
				f.variables[b.Labels[0]] = variable{required: c.Attributes["default"] == nil, rng: b.DefRange}
			}
		case "output":
			f.outputs[b.Labels[0]] = b.DefRange
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *folder) addSettings(b *hcl.Block) error {
	content, err := blocks(b.Body, settingsSchema)
	if err != nil {
		return err
	}
	for _, inner := range content.Blocks {
		if inner.Type == "encryption" {
			f.forbidden = append(f.forbidden, forbidden{
				what: "state encryption is set up in the module", why: "outputs are read from the plain state, which stays in a private folder and goes with the sandbox",
				rng: inner.DefRange,
			})
			continue
		}
		attrs, diags := inner.Body.JustAttributes()
		if err := invalid(diags); err != nil {
			return err
		}
		for name, attr := range attrs {
			f.required[name] = requirementOf(name, attr)
		}
	}
	return nil
}

// requirementOf reads {source, version} or a bare version constraint.
func requirementOf(name string, attr *hcl.Attribute) requirement {
	r := requirement{source: providerSource(name), rng: attr.Range}
	if text, ok := literal(attr.Expr); ok {
		r.constraint = text
		return r
	}
	pairs, diags := hcl.ExprMap(attr.Expr)
	if diags.HasErrors() {
		return r
	}
	for _, kv := range pairs {
		key := hcl.ExprAsKeyword(kv.Key)
		if key == "" {
			key, _ = literal(kv.Key)
		}
		text, _ := literal(kv.Value)
		switch {
		case key == "source" && text != "":
			r.source = providerSource(text)
		case key == "version":
			r.constraint = text
		}
	}
	return r
}

func (f *folder) addProvider(b *hcl.Block) error {
	content, err := blocks(b.Body, providerSchema)
	if err != nil {
		return err
	}
	p := providerBlock{name: b.Labels[0], region: content.Attributes["region"] != nil, rng: b.DefRange}
	if a := content.Attributes["alias"]; a != nil {
		p.alias, _ = literal(a.Expr)
	}
	f.providers = append(f.providers, p)
	return nil
}

func (f *folder) addResource(b *hcl.Block) error {
	content, err := blocks(b.Body, resourceSchema)
	if err != nil {
		return err
	}
	kind := b.Labels[0]
	name, _, _ := strings.Cut(kind, "_")
	if a := content.Attributes["provider"]; a != nil {
		name = rootName(a.Expr, name)
	}
	if _, seen := f.uses[name]; !seen {
		f.uses[name] = b.DefRange
	}
	for _, p := range content.Blocks {
		f.forbidden = append(f.forbidden, forbidden{
			what: fmt.Sprintf("%s.%s has a %s provisioner", kind, b.Labels[1], p.Labels[0]),
			why:  "it runs commands on this host, or on a machine outside of the sandbox", exec: true, rng: p.DefRange,
		})
	}
	switch {
	case b.Type == "data" && kind == "external":
		f.forbidden = append(f.forbidden, forbidden{
			what: fmt.Sprintf("data.external.%s runs a program", b.Labels[1]), why: "it runs on this host, outside of the sandbox",
			exec: true, rng: b.DefRange,
		})
	case b.Type == "data" && kind == "terraform_remote_state":
		backend := ""
		if a := content.Attributes["backend"]; a != nil {
			backend, _ = literal(a.Expr)
		}
		if backend != "s3" && backend != "local" {
			f.forbidden = append(f.forbidden, forbidden{
				what: fmt.Sprintf("data.terraform_remote_state.%s reads a state outside of the sandbox", b.Labels[1]),
				why:  "only the backends s3, which the emulator answers, and local can be read", rng: b.DefRange,
			})
		}
	}
	return nil
}

func (f *folder) addCall(b *hcl.Block, tool string) error {
	content, err := blocks(b.Body, callSchema)
	if err != nil {
		return err
	}
	call := moduleCall{name: b.Labels[0], rng: b.DefRange}
	if a := content.Attributes["version"]; a != nil {
		call.version, _ = literal(a.Expr)
	}
	if a := content.Attributes["source"]; a != nil {
		text, ok := literal(a.Expr)
		if !ok && tool == tofuName {
			e := fault.New(fault.Invalid, fmt.Sprintf("the source of module %s is not a plain string", call.name),
				"what it calls has to be known before anything runs", "write the source out")
			e.Pos = position(a.Range)
			return e
		}
		call.source, call.rng = text, a.Range
	}
	f.calls = append(f.calls, call)
	return nil
}

// literal returns the value of a constant string expression.
func literal(e hcl.Expression) (string, bool) {
	v, diags := e.Value(nil)
	if diags.HasErrors() || v.IsNull() || !v.IsKnown() || !v.Type().Equals(stringType) {
		return "", false
	}
	return v.AsString(), true
}

// rootName returns the provider's name in aws.west, "aws.west" or, in
// OpenTofu, aws.by_region[each.key].
func rootName(e hcl.Expression, otherwise string) string {
	if t, diags := hcl.AbsTraversalForExpr(e); !diags.HasErrors() {
		return t.RootName()
	}
	if text, ok := literal(e); ok {
		name, _, _ := strings.Cut(text, ".")
		return name
	}
	if vars := e.Variables(); len(vars) > 0 {
		return vars[0].RootName()
	}
	return otherwise
}

// scanTree scans a module folder and all local modules that it calls, directly
// or not. Folders are slash paths below the root of fsys.
func scanTree(fsys fs.FS, start, tool string, show func(string) string) ([]*folder, error) {
	var folders []*folder
	seen := map[string]bool{start: true}
	for queue := []string{start}; len(queue) > 0; queue = queue[1:] {
		f, err := scanFolder(fsys, queue[0], tool, show)
		if err != nil {
			return nil, err
		}
		folders = append(folders, f)
		for _, c := range f.calls {
			if !strings.HasPrefix(c.source, "./") && !strings.HasPrefix(c.source, "../") {
				continue
			}
			dir := path.Join(f.dir, c.source)
			if err := localFolder(fsys, dir, c, show); err != nil {
				return nil, err
			}
			if !seen[dir] {
				seen[dir] = true
				queue = append(queue, dir)
			}
		}
	}
	return folders, nil
}

// localFolder checks that a local module is there and inside the root.
func localFolder(fsys fs.FS, dir string, c moduleCall, show func(string) string) error {
	e := fault.New(fault.Invalid, "", "", "")
	e.Pos = position(c.rng)
	if !fs.ValidPath(dir) {
		e.What = fmt.Sprintf("module %s leaves the stack's folder", c.name)
		e.Why, e.Try = fmt.Sprintf("%s is outside", c.source), "move the module into the stack's folder"
		return e
	}
	info, err := fs.Stat(fsys, dir)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir():
		e.What, e.Why = fmt.Sprintf("module %s does not exist", c.name), fmt.Sprintf("there is no folder %s", show(dir))
		return e
	case err != nil:
		e.What, e.Cause = fmt.Sprintf("module %s cannot be read", c.name), err
		return e
	}
	return nil
}
