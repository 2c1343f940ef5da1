package packages

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestCopyModuleTakesWhatABuildReads(t *testing.T) {
	source, target := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	for _, file := range []string{
		"go.mod", "main.go", "main_test.go", "docs/guide.go", "inner/docs/docs.go", "inner/names.hcl", "inner/testdata/x.go", ".ci/tool.go",
	} {
		path := filepath.Join(source, filepath.FromSlash(file))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(file), 0o400); err != nil {
			t.Fatal(err)
		}
	}
	if err := copyModule(t.Context(), source, target, []string{"docs"}); err != nil {
		t.Fatal(err)
	}
	var got []string
	err := fs.WalkDir(os.DirFS(target), ".", func(file string, item fs.DirEntry, err error) error {
		if err == nil && !item.IsDir() {
			got = append(got, file)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"go.mod", "inner/docs/docs.go", "inner/names.hcl", "main.go"}
	if !slices.Equal(got, want) {
		t.Errorf("copied %v, want %v", got, want)
	}
	info, err := os.Stat(filepath.Join(target, "main.go"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode of a copy is %v: the module cache's files are read-only, copies are edited", info.Mode())
	}
}

func TestGoEditValidate(t *testing.T) {
	tests := map[string]struct {
		edit GoEdit
		want string
	}{
		"no module":    {GoEdit{KeepImports: []KeepImports{{File: "a.go", Prefix: "x/", Keep: []string{"y"}}}}, "module is missing"},
		"no cut":       {GoEdit{Module: "m"}, "keepImports is empty"},
		"file outside": {GoEdit{Module: "m", KeepImports: []KeepImports{{File: "../a.go", Prefix: "x/", Keep: []string{"y"}}}}, "not a Go file"},
		"prefix":       {GoEdit{Module: "m", KeepImports: []KeepImports{{File: "a.go", Prefix: "x", Keep: []string{"y"}}}}, "end with a slash"},
		"nothing kept": {GoEdit{Module: "m", KeepImports: []KeepImports{{File: "a.go", Prefix: "x/"}}}, "keep is empty"},
		"whole module": {GoEdit{Module: "m", Skip: []string{"."}, KeepImports: []KeepImports{{File: "a.go", Prefix: "x/", Keep: []string{"y"}}}}, "skip"},
		"valid":        {GoEdit{Module: "m", KeepImports: []KeepImports{{File: "a.go", Prefix: "x/", Keep: []string{"y"}}}}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var problems []string
			test.edit.validate("go[0].edit", func(format string, _ ...any) { problems = append(problems, format) })
			all := strings.Join(problems, "\n")
			if test.want == "" && all != "" {
				t.Errorf("valid edit is refused: %s", all)
			}
			if !strings.Contains(all, test.want) {
				t.Errorf("%q does not contain %q", all, test.want)
			}
		})
	}
}
