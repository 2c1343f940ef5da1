package stacks

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestNames(t *testing.T) {
	if got := Names(); !slices.Equal(got, []string{"minimal", "web-app"}) {
		t.Errorf("got %v", got)
	}
}

// What is not embedded is missing where a stack is used by its name.
func TestEveryFileOfAStackIsEmbedded(t *testing.T) {
	skip := []string{"node_modules", ".terraform"}
	for _, name := range Names() {
		err := filepath.WalkDir(name, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() {
				if slices.Contains(skip, d.Name()) {
					return fs.SkipDir
				}
				return nil
			}
			if strings.Contains(d.Name(), ".tfstate") || d.Name() == ".terraform.lock.hcl" {
				return nil
			}
			want, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			got, err := content.ReadFile(filepath.ToSlash(path))
			if err != nil {
				t.Errorf("%s is not embedded", path)
			} else if string(got) != string(want) {
				t.Errorf("%s differs from what is embedded", path)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestMaterializeRepairsTheFolder(t *testing.T) {
	dir := t.TempDir()
	target, err := Materialize("web-app", dir)
	if err != nil {
		t.Fatal(err)
	}
	if target != filepath.Join(dir, "web-app") {
		t.Errorf("written to %s", target)
	}
	manifest := filepath.Join(target, "stack.yaml")
	before, err := os.Stat(manifest)
	if err != nil {
		t.Fatal(err)
	}

	outside := filepath.Join(dir, "outside")
	mustWrite(t, outside, "mine")
	mustWrite(t, filepath.Join(target, "alerts.yaml"), "changed")
	mustWrite(t, filepath.Join(target, "chart", "old.yaml"), "of an older version")
	if err := os.Symlink(outside, filepath.Join(target, "chart", "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(target, "dashboards")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, filepath.Join(target, "dashboards")); err != nil {
		t.Fatal(err)
	}
	if _, err := Materialize("web-app", dir); err != nil {
		t.Fatal(err)
	}

	after, err := os.Stat(manifest)
	if err != nil {
		t.Fatal(err)
	}
	if !after.ModTime().Equal(before.ModTime()) || !os.SameFile(before, after) {
		t.Error("a file that was right was written again")
	}
	if data, err := os.ReadFile(outside); err != nil || string(data) != "mine" {
		t.Errorf("the file outside: %q, %v", data, err)
	}
	if err := sameFiles(target, "web-app"); err != nil {
		t.Error(err)
	}
}

// sameFiles compares a folder with an embedded stack.
func sameFiles(dir, name string) error {
	want, err := fs.Sub(content, name)
	if err != nil {
		return err
	}
	list := func(f fs.FS) (out []string, err error) {
		err = fs.WalkDir(f, ".", func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := fs.ReadFile(f, path)
			out = append(out, path+"\n"+string(data))
			return err
		})
		return out, err
	}
	wanted, err := list(want)
	if err != nil {
		return err
	}
	got, err := list(os.DirFS(dir))
	if err != nil {
		return err
	}
	if !slices.Equal(got, wanted) {
		return errors.New("the folder differs from the embedded stack")
	}
	return nil
}

func TestMaterializeUnknownName(t *testing.T) {
	for _, name := range []string{"nothing", "../stacks", "", "."} {
		if _, err := Materialize(name, t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// The app's own tests need Node.js; make test runs them as well.
func TestWebAppWithNode(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not on the PATH: the tests of the web-app's code did not run")
	}
	if _, err := os.Stat("web-app/app/node_modules"); err != nil {
		t.Skip("no node_modules: run npm ci in stacks/web-app/app to test the web-app's code")
	}
	files, err := filepath.Glob("web-app/app/test/*.test.js")
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests: %v", err)
	}
	for i, file := range files {
		files[i] = strings.TrimPrefix(filepath.ToSlash(file), "web-app/app/")
	}
	cmd := exec.Command(node, append([]string{"--test"}, files...)...)
	cmd.Dir = "web-app/app"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestLockFileNamesNoHost(t *testing.T) {
	data, err := os.ReadFile("web-app/app/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(data), `"resolved"`) {
		t.Error("the lock file names where packages came from: it has to work with any registry")
	}
	if !strings.Contains(string(data), `"integrity": "sha512-`) {
		t.Error("the lock file has no checksums")
	}
}

func mustWrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
