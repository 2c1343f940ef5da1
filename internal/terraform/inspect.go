package terraform

import (
	"os"
	"path/filepath"
)

// Declared is what a root module offers to a stack.
type Declared struct {
	// Variables maps input variables to whether a value is required.
	Variables map[string]bool
	// Outputs are the names of the outputs, sorted.
	Outputs []string
}

// Inspect reads a root module's variables and outputs from its files. Faults
// name their place below dir.
func Inspect(dir string) (Declared, error) {
	show := func(rel string) string { return filepath.Join(dir, filepath.FromSlash(rel)) }
	f, err := scanFolder(os.DirFS(dir), ".", terraformName, show)
	if err != nil {
		return Declared{}, err
	}
	d := Declared{Variables: make(map[string]bool, len(f.variables)), Outputs: sortedKeys(f.outputs)}
	for name, v := range f.variables {
		d.Variables[name] = v.required
	}
	return d, nil
}
