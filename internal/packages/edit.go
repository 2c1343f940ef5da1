package packages

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// GoEdit builds programs from a private copy of one module instead of the
// module itself, with imports left out that nothing here needs. It exists for
// the AWS provider, whose every service costs compile time.
type GoEdit struct {
	// Module is the path of the module that is copied. Its own go.mod and
	// go.sum, which the recipe's go.sum covers, name what it is built with.
	Module string `json:"module"`
	// Skip lists folders of the module that the build does not read, such as
	// its documentation: the fewer files, the faster the copy.
	Skip []string `json:"skip,omitempty"`
	// KeepImports are the cuts, each in one file.
	KeepImports []KeepImports `json:"keepImports"`
}

// KeepImports limits which packages below a prefix a Go file imports.
type KeepImports struct {
	// File is relative to the module's root.
	File string `json:"file"`
	// Prefix is the import path, with the slash, that the cut applies to.
	Prefix string `json:"prefix"`
	// Keep lists what follows the prefix in the imports that stay.
	Keep []string `json:"keep"`
}

func (e *GoEdit) validate(where string, bad func(string, ...any)) {
	if e.Module == "" {
		bad("%s: module is missing", where)
	}
	if len(e.KeepImports) == 0 {
		bad("%s: keepImports is empty, so no copy is needed", where)
	}
	for _, skip := range e.Skip {
		if !fs.ValidPath(skip) || skip == "." {
			bad("%s: skip %q is not a folder inside the module", where, skip)
		}
	}
	for i, k := range e.KeepImports {
		if !fs.ValidPath(k.File) || path.Ext(k.File) != ".go" {
			bad("%s: keepImports[%d].file %q is not a Go file inside the module", where, i, k.File)
		}
		if !strings.HasSuffix(k.Prefix, "/") {
			bad("%s: keepImports[%d].prefix %q must end with a slash", where, i, k.Prefix)
		}
		if len(k.Keep) == 0 {
			bad("%s: keepImports[%d].keep is empty", where, i)
		}
	}
}

// editedModule makes the copy of the module in dir and cuts its imports down.
func (b *Builder) editedModule(ctx context.Context, t *task, g GoBuild, dir string) error {
	t.set("downloading %s", g.Edit.Module)
	source, err := b.moduleDir(ctx, t, g.Module, g.Edit.Module)
	if err != nil {
		return err
	}
	t.set("copying %s", g.Edit.Module)
	if err := copyModule(ctx, source, dir, g.Edit.Skip); err != nil {
		return fmt.Errorf("copy module %s: %w", g.Edit.Module, err)
	}
	for _, k := range g.Edit.KeepImports {
		file := filepath.Join(dir, filepath.FromSlash(k.File))
		before, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("edit module %s: %w", g.Edit.Module, err)
		}
		after, err := pruneImports(k.File, before, k.Prefix, k.Keep)
		if err != nil {
			return fmt.Errorf("edit module %s: %w", g.Edit.Module, err)
		}
		if err := os.WriteFile(file, after, 0o600); err != nil {
			return fmt.Errorf("edit module %s: %w", g.Edit.Module, err)
		}
	}
	return nil
}

// copyModule copies what a build reads. Tests, and the folders whose name
// makes the go command skip them, stay behind.
func copyModule(ctx context.Context, source, target string, skip []string) error {
	return filepath.WalkDir(source, func(file string, item fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		below, err := filepath.Rel(source, file)
		if err != nil {
			return err
		}
		name := item.Name()
		if item.IsDir() {
			if name == "testdata" || slices.Contains(skip, filepath.ToSlash(below)) || (below != "." && strings.HasPrefix(name, ".")) {
				return filepath.SkipDir
			}
			return os.MkdirAll(filepath.Join(target, below), 0o700)
		}
		if strings.HasSuffix(name, "_test.go") {
			return nil
		}
		content, err := os.Open(file)
		if err != nil {
			return err
		}
		defer content.Close()
		return copyTo(filepath.Join(target, below), content, 0o600)
	})
}
