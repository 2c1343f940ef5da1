package packages

import (
	"maps"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/sandbox-stack/sandbox/images"
)

const goodRecipe = `
name: hello
version: 1.0.0
kind: image
go:
  - module: hello
    programs: [{package: example.com/hello/v2}]
debian: {suite: bookworm, packages: [bash], remove: [/usr/share/zoneinfo]}
files:
  - {to: /usr/bin/hello, program: hello}
  - {to: /etc/hello, from: {path: files}}
  - {to: /etc/greeting, content: "hi\n", mode: "0600"}
  - {to: /etc/alias, link: greeting}
  - {to: /var/lib/hello, dir: true, uid: 65534}
config: {entrypoint: [/usr/bin/hello], env: [A=b], healthcheck: {test: [CMD, hello], interval: 2s}}
`

func recipes(yaml string) fstest.MapFS {
	return fstest.MapFS{
		"hello/image.yaml":       {Data: []byte(yaml)},
		"hello/files/a.conf":     {Data: []byte("a")},
		"gomod/hello/go.mod.in":  {Data: []byte("module example.com/build\n")},
		"gomod/hello/go.sum.in":  {Data: []byte("")},
		"gomod/other/go.mod.in":  {Data: []byte("module example.com/other\n")},
		"gomod/other/go.sum.in":  {Data: []byte("")},
		"unrelated/files/readme": {Data: []byte("x")},
	}
}

func TestLoadRecipe(t *testing.T) {
	r, err := LoadRecipe(recipes(goodRecipe), "hello")
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Go[0].Programs[0].ProgramName(); got != "hello" {
		t.Errorf("program name = %q, want the element before the major version", got)
	}
	if got := r.modules(); len(got) != 1 || got[0] != "hello" {
		t.Errorf("modules = %v, want [hello]", got)
	}
}

func TestLoadRecipeRejects(t *testing.T) {
	tests := []struct{ name, from, to, want string }{
		{"unknown key", "kind: image", "kind: image\ncolour: red", `unknown field "colour"`},
		{"duplicate key", "kind: image", "kind: image\nkind: tool", `key "kind" already set`},
		{"wrong folder", "name: hello", "name: hullo", "not the folder's name"},
		{"bad kind", "kind: image", "kind: picture", "none of image, tree, tool"},
		{"no version", "version: 1.0.0", `version: ""`, "version is missing"},
		{"no such module", "module: hello", "module: nowhere", "no gomod/nowhere/go.sum.in"},
		{"no such program", "program: hello", "program: goodbye", `no program "goodbye"`},
		{"two sources", "program: hello}", "program: hello, link: x}", "exactly one of"},
		{"no source", `content: "hi\n", `, "", "exactly one of"},
		{"relative path", "to: /etc/greeting", "to: etc/greeting", "absolute in an image"},
		{"escaping path", "to: /etc/greeting", "to: /../greeting", "clean"},
		{"missing file", "path: files", "path: nothing", "not in the recipe's folder"},
		{"source outside", "path: files", "path: ../unrelated", "stay inside"},
		{"bad mode", `mode: "0600"`, `mode: "9"`, "not octal"},
		{"bad glob", "/usr/share/zoneinfo", "usr/share", "absolute glob"},
		{"bad variant", "suite: bookworm", "suite: bookworm, variant: huge", `variant "huge"`},
		{"replaces a link", "to: /usr/bin/hello", "to: /bin/hello", "use /usr/bin/hello"},
		{"bad env", "A=b", "A", "not NAME=value"},
		{"bad duration", "interval: 2s", "interval: often", "invalid duration"},
		{"python without its lock", "config:", "python: {requirements: r.txt, target: /opt/x}\nconfig:", "python.requirements"},
		{"store without containerd", "config:", "containerd: {root: /var, images: []}\nconfig:", `needs a program "containerd"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			changed := strings.Replace(goodRecipe, test.from, test.to, 1)
			if changed == goodRecipe {
				t.Fatalf("%q is not in the recipe", test.from)
			}
			_, err := LoadRecipe(recipes(changed), "hello")
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error = %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestLoadRecipeReportsAllErrors(t *testing.T) {
	bad := strings.NewReplacer("kind: image", "kind: x", "A=b", "A").Replace(goodRecipe)
	_, err := LoadRecipe(recipes(bad), "hello")
	if err == nil || !strings.Contains(err.Error(), "kind") || !strings.Contains(err.Error(), "NAME=value") {
		t.Errorf("error = %v, want both problems", err)
	}
}

func TestEmbeddedRecipesAreValid(t *testing.T) {
	all, err := Recipes(images.FS)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range all {
		if r.Description == "" {
			t.Errorf("%s has no description", r.Name)
		}
	}
	if len(all) == 0 {
		t.Error("no recipes are embedded")
	}
}

func TestRecipeHash(t *testing.T) {
	sum := func(fsys fstest.MapFS) string {
		t.Helper()
		r, err := LoadRecipe(fsys, "hello")
		if err != nil {
			t.Fatal(err)
		}
		got, err := recipeHash(fsys, r, "/nonexistent: hostCAs is off")
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	base := sum(recipes(goodRecipe))
	// The hash names artifacts in users' caches and engines: it changes only
	// on purpose, together with SchemaVersion.
	const golden = "3a98796e51b9587454faffb023fbedcb009f0d5ef4dc5ff650ca15c307c60768"
	if runtime.GOARCH == "amd64" && base != golden {
		t.Errorf("hash = %s, want %s", base, golden)
	}

	changes := map[string]struct {
		file    string
		matters bool
	}{
		"recipe":           {"hello/image.yaml", true},
		"file":             {"hello/files/a.conf", true},
		"module sums":      {"gomod/hello/go.sum.in", true},
		"another module":   {"gomod/other/go.sum.in", false},
		"unrelated folder": {"unrelated/files/readme", false},
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			fsys := maps.Clone(recipes(goodRecipe))
			fsys[change.file] = &fstest.MapFile{Data: append(fsys[change.file].Data, "# more\n"...)}
			if changed := sum(fsys) != base; changed != change.matters {
				t.Errorf("hash changed: %t, want %t", changed, change.matters)
			}
		})
	}
}
