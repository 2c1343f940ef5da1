package buildcontext

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tree writes the files into a new directory; a name that ends in "/" is a
// directory, content that starts with "-> " a symbolic link.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		parent := filepath.Dir(path)
		if strings.HasSuffix(name, "/") {
			parent = path
		}
		if err := os.MkdirAll(parent, 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target, link := strings.CutPrefix(content, "-> "); link {
			err = os.Symlink(target, path)
		} else if !strings.HasSuffix(name, "/") {
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// names lists what the archive of the context holds, links with their targets.
func names(t *testing.T, c *Context) []string {
	t.Helper()
	var buf bytes.Buffer
	if err := c.WriteTar(&buf); err != nil {
		t.Fatal(err)
	}
	var list []string
	for archive := tar.NewReader(&buf); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return list
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Uid != 0 || header.Uname != "" {
			t.Errorf("%s belongs to %d %q", header.Name, header.Uid, header.Uname)
		}
		name := header.Name
		if header.Linkname != "" {
			name += " -> " + header.Linkname
		}
		list = append(list, name)
	}
}

func TestIgnoreRules(t *testing.T) {
	files := map[string]string{
		"Dockerfile": "FROM x", "a.txt": "a", "b.log": "b", "node_modules/x/index.js": "x", "src/main.js": "m", "src/b.log": "b",
		"link": "-> /etc/passwd", "empty/": "",
	}
	for _, test := range []struct {
		name       string
		more       map[string]string
		dockerfile string
		want       []string
	}{
		{"none", nil, "", []string{"Dockerfile", "a.txt", "b.log", "empty/", "link -> /etc/passwd", "node_modules/", "node_modules/x/", "node_modules/x/index.js", "src/", "src/b.log", "src/main.js"}},
		{"patterns", map[string]string{".dockerignore": "# comment\nnode_modules\n**/*.log\nempty\nlink\n"}, "", []string{".dockerignore", "Dockerfile", "a.txt", "src/", "src/main.js"}},
		{"exception", map[string]string{".dockerignore": "*\n!src\nsrc/b.log\n"}, "", []string{"Dockerfile", "src/", "src/main.js"}},
		{"own rules", map[string]string{"app.Dockerfile": "FROM x", "app.Dockerfile.dockerignore": "*\n!a.txt\n", ".dockerignore": "a.txt\n"}, "app.Dockerfile", []string{"a.txt", "app.Dockerfile"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			all := map[string]string{}
			for _, m := range []map[string]string{files, test.more} {
				for name, content := range m {
					all[name] = content
				}
			}
			c, err := Open(tree(t, all), test.dockerfile)
			if err != nil {
				t.Fatal(err)
			}
			if got := names(t, c); !slices.Equal(got, test.want) {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}

func TestDockerfileOutside(t *testing.T) {
	outside := filepath.Join(tree(t, map[string]string{"Dockerfile": "FROM x"}), "Dockerfile")
	c, err := Open(tree(t, map[string]string{"a": "a"}), outside)
	if err != nil {
		t.Fatal(err)
	}
	if got := names(t, c); !slices.Equal(got, []string{"a", c.Dockerfile}) {
		t.Errorf("got %q", got)
	}
}

func TestOpenErrors(t *testing.T) {
	dir := tree(t, map[string]string{"Dockerfile/": "", "ok": "FROM x", ".dockerignore": "[\n"})
	for dockerfile, want := range map[string]string{"": "regular", "missing": "no such file", "ok": "ignore rules"} {
		if _, err := Open(dir, dockerfile); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", dockerfile, err, want)
		}
	}
}

func TestHash(t *testing.T) {
	base := map[string]string{"Dockerfile": "FROM x", "a": "a", "dir/b": "b", "link": "-> a", ".dockerignore": "ignored\n", "ignored": "1"}
	hash := func(change func(dir string)) string {
		dir := tree(t, base)
		change(dir)
		c, err := Open(dir, "")
		if err != nil {
			t.Fatal(err)
		}
		sum, err := c.Hash()
		if err != nil {
			t.Fatal(err)
		}
		return sum
	}
	do := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	original := hash(func(string) {})
	for name, change := range map[string]func(dir string){
		"other times":    func(dir string) { do(os.Chtimes(filepath.Join(dir, "a"), time.Unix(1, 0), time.Unix(1, 0))) },
		"ignored change": func(dir string) { do(os.WriteFile(filepath.Join(dir, "ignored"), []byte("2"), 0o600)) },
		"a pipe":         func(dir string) { do(syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600)) },
	} {
		if hash(change) != original {
			t.Errorf("%s: another hash", name)
		}
	}
	for name, change := range map[string]func(dir string){
		"content": func(dir string) { do(os.WriteFile(filepath.Join(dir, "a"), []byte("A"), 0o600)) },
		"mode":    func(dir string) { do(os.Chmod(filepath.Join(dir, "a"), 0o755)) },
		"name":    func(dir string) { do(os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "c"))) },
		"link": func(dir string) {
			do(os.Remove(filepath.Join(dir, "link")))
			do(os.Symlink("b", filepath.Join(dir, "link")))
		},
		"new directory": func(dir string) { do(os.Mkdir(filepath.Join(dir, "new"), 0o755)) },
		"removed":       func(dir string) { do(os.Remove(filepath.Join(dir, "dir", "b"))) },
	} {
		if hash(change) == original {
			t.Errorf("%s: the same hash", name)
		}
	}
}
