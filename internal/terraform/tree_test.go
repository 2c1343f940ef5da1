package terraform

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

// copied copies a module's source into its workspace.
func copied(t *testing.T, m *Module) {
	t.Helper()
	src, err := m.readSource("terraform")
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	if err := m.makeWorkspace(); err != nil {
		t.Fatal(err)
	}
	if err := m.copyTree(src.root, src.files); err != nil {
		t.Fatal(err)
	}
}

func inCopy(m *Module, rel string) string { return filepath.Join(m.paths.run, rel) }

func TestCopyRules(t *testing.T) {
	m := module(t, map[string]string{
		"main.tf": "", "files/policy.json": "{}", "bin/run.sh": "#!/bin/sh\n",
		"terraform.tfstate": "{}", "terraform.tfstate.backup": "{}", ".terraform/providers/x": "", ".terraform.lock.hcl": "",
		".git/config": "", "terraform.tfstate.d/prod/terraform.tfstate": "", "crash.log": "",
	})
	if err := os.Chmod(filepath.Join(m.cfg.SourceDir, "bin/run.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("policy.json", filepath.Join(m.cfg.SourceDir, "files/link.json")); err != nil {
		t.Fatal(err)
	}
	copied(t, m)
	for rel, mode := range map[string]os.FileMode{
		"main.tf": 0o600, "files/policy.json": 0o600, "bin/run.sh": 0o700, "files/link.json": os.ModeSymlink | 0o777,
	} {
		info, err := os.Lstat(inCopy(m, rel))
		if err != nil || info.Mode() != mode {
			t.Errorf("%s: %v, %v, want mode %v", rel, info, err, mode)
		}
	}
	for _, rel := range []string{"terraform.tfstate", "terraform.tfstate.backup", ".terraform", ".terraform.lock.hcl", ".git", "terraform.tfstate.d", "crash.log"} {
		if exists(inCopy(m, rel)) {
			t.Errorf("%s was copied", rel)
		}
	}
}

func TestCopyWritesOnlyWhatDiffers(t *testing.T) {
	m := module(t, map[string]string{"main.tf": "# one\n", "same.txt": "same", "old.txt": "old"})
	copied(t, m)
	write(t, m.paths.run, map[string]string{"written-by-module.zip": "zip", ".terraform/x": "x"})
	before, err := os.Stat(inCopy(m, "same.txt"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, m.cfg.SourceDir, map[string]string{"main.tf": "# two\n"})
	if err := os.Remove(filepath.Join(m.cfg.SourceDir, "old.txt")); err != nil {
		t.Fatal(err)
	}
	copied(t, m)
	after, err := os.Stat(inCopy(m, "same.txt"))
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("an unchanged file was written again (%v)", err)
	}
	if data, err := os.ReadFile(inCopy(m, "main.tf")); err != nil || string(data) != "# two\n" {
		t.Errorf("main.tf = %q (%v)", data, err)
	}
	if exists(inCopy(m, "old.txt")) {
		t.Error("a removed file is still there")
	}
	if !exists(inCopy(m, "written-by-module.zip")) || !exists(inCopy(m, ".terraform/x")) {
		t.Error("files of the tool or the module were removed")
	}
}

// A link that somebody put into the workspace must not lead writes elsewhere.
func TestCopyDoesNotFollowPlantedLinks(t *testing.T) {
	m := module(t, map[string]string{"main.tf": "# mine\n", "sub/x.tf": "# mine\n"})
	victim := t.TempDir()
	write(t, victim, map[string]string{"main.tf": "precious", "x.tf": "precious"})
	if err := os.MkdirAll(m.paths.run, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(victim, "main.tf"), inCopy(m, "main.tf")); err != nil {
		t.Fatal(err)
	}
	copied(t, m)
	if err := os.RemoveAll(inCopy(m, "sub")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, inCopy(m, "sub")); err != nil {
		t.Fatal(err)
	}
	src, err := m.readSource("terraform")
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	if err := m.copyTree(src.root, src.files); err == nil {
		t.Error("a folder that leads out of the workspace was written through")
	}
	for _, name := range []string{"main.tf", "x.tf"} {
		if data, err := os.ReadFile(filepath.Join(victim, name)); err != nil || string(data) != "precious" {
			t.Errorf("%s = %q (%v)", name, data, err)
		}
	}
}

func TestCopyRefusals(t *testing.T) {
	outside := t.TempDir()
	write(t, outside, map[string]string{"secret": "s"})
	cases := []struct {
		name, message string
		plant         func(t *testing.T, dir string) error
	}{
		{"absolute link", "outside of the module", func(_ *testing.T, dir string) error {
			return os.Symlink(filepath.Join(outside, "secret"), filepath.Join(dir, "x"))
		}},
		{"relative link out", "outside of the module", func(t *testing.T, dir string) error {
			rel, err := filepath.Rel(dir, filepath.Join(outside, "secret"))
			if err != nil {
				return err
			}
			return os.Symlink(rel, filepath.Join(dir, "x"))
		}},
		{"dangling link", "leads nowhere", func(_ *testing.T, dir string) error { return os.Symlink("gone", filepath.Join(dir, "x")) }},
		{"pipe", "neither a file nor a folder", func(_ *testing.T, dir string) error {
			return syscall.Mkfifo(filepath.Join(dir, "x"), 0o600)
		}},
		{"huge file", "too large", func(_ *testing.T, dir string) error {
			write(t, dir, map[string]string{"x": ""})
			return os.Truncate(filepath.Join(dir, "x"), maxTreeBytes+1)
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := module(t, map[string]string{"main.tf": ""})
			if err := c.plant(t, m.cfg.SourceDir); err != nil {
				t.Fatal(err)
			}
			f := asFault(t, m.Validate(context.Background()))
			if f.Code != fault.Invalid || !strings.Contains(f.What+f.Why, c.message) {
				t.Errorf("fault = %v", f)
			}
		})
	}
}
