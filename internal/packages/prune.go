package packages

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
)

// pruneImports removes from a Go file the imports below prefix that keep does
// not list, and with them what cannot compile any more: functions that have a
// removed package in their signature, and elements of lists that use one. It
// is made for generated registries, which consist of nothing else; a use in
// any other place is an error.
func pruneImports(name string, source []byte, prefix string, keep []string) ([]byte, error) {
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("parse: %w", err)
	}
	cuts, removed, err := cutImports(file, prefix, keep)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	for _, decl := range file.Decls {
		found, err := cutDeclaration(decl, removed)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", fset.Position(decl.Pos()), err)
		}
		cuts = append(cuts, found...)
	}
	return blank(fset, source, cuts)
}

// cutImports returns the import specs to remove and the names they go by.
func cutImports(file *ast.File, prefix string, keep []string) (cuts []ast.Node, removed map[string]bool, err error) {
	removed = map[string]bool{}
	missing := slices.Clone(keep)
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return nil, nil, fmt.Errorf("import %s: %w", spec.Path.Value, err)
		}
		below, ok := strings.CutPrefix(imported, prefix)
		if !ok {
			continue
		}
		if slices.Contains(keep, below) {
			missing = slices.DeleteFunc(missing, func(k string) bool { return k == below })
			continue
		}
		local := path.Base(imported)
		if spec.Name != nil {
			local = spec.Name.Name
		}
		removed[local] = true
		cuts = append(cuts, spec)
	}
	if len(missing) > 0 {
		return nil, nil, fmt.Errorf("does not import %s%s", prefix, strings.Join(missing, ", "+prefix))
	}
	return cuts, removed, nil
}

// cutDeclaration returns what must go from a declaration: all of it, elements
// of lists in it, or nothing.
func cutDeclaration(decl ast.Decl, removed map[string]bool) ([]ast.Node, error) {
	if fn, ok := decl.(*ast.FuncDecl); ok && uses(fn.Type, removed) {
		return []ast.Node{fn}, nil
	}
	var cuts []ast.Node
	var stray error
	ast.Inspect(decl, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CompositeLit:
			for _, element := range n.Elts {
				if uses(element, removed) {
					cuts = append(cuts, element)
				}
			}
			if n.Type != nil && uses(n.Type, removed) {
				stray = errors.New("a list's type uses a removed import")
			}
			return false
		case *ast.SelectorExpr:
			if isUse(n, removed) {
				stray = errors.New("a removed import is used outside of lists and signatures")
			}
		}
		return true
	})
	return cuts, stray
}

func uses(n ast.Node, packages map[string]bool) bool {
	found := false
	ast.Inspect(n, func(n ast.Node) bool {
		if selector, ok := n.(*ast.SelectorExpr); ok && isUse(selector, packages) {
			found = true
		}
		return !found
	})
	return found
}

func isUse(selector *ast.SelectorExpr, packages map[string]bool) bool {
	name, ok := selector.X.(*ast.Ident)
	return ok && packages[name.Name]
}

// blank overwrites the nodes, and a comma after each, with spaces, which
// leaves all other positions as they are, and formats the result.
func blank(fset *token.FileSet, source []byte, cuts []ast.Node) ([]byte, error) {
	out := bytes.Clone(source)
	for _, n := range cuts {
		from, to := fset.Position(n.Pos()).Offset, fset.Position(n.End()).Offset
		if fn, ok := n.(*ast.FuncDecl); ok && fn.Doc != nil {
			from = fset.Position(fn.Doc.Pos()).Offset
		}
		if to < len(out) && out[to] == ',' {
			to++
		}
		for i := from; i < to; i++ {
			if out[i] != '\n' {
				out[i] = ' '
			}
		}
	}
	formatted, err := format.Source(out)
	if err != nil {
		return nil, fmt.Errorf("format: %w", err)
	}
	return formatted, nil
}
