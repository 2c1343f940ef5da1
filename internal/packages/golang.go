package packages

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
)

const (
	goModFolder = "gomod"
	goModFile   = "go.mod.in"
	goSumFile   = "go.sum.in"
)

// goEnv makes a build independent of this host's Go settings: no workspace,
// no vendor folder, no flags of the user, and no module whose hash is not in
// go.sum. Proxy, caches and toolchain are the user's.
func goEnv(cgo bool) []string {
	enabled := "0"
	if cgo {
		enabled = "1"
	}
	return []string{
		"GOFLAGS=-mod=readonly", "GOWORK=off", "GO111MODULE=on",
		"GOOS=linux", "GOARCH=" + runtime.GOARCH, "CGO_ENABLED=" + enabled,
	}
}

// writeModule writes the module's go.mod and go.sum into dir.
func (b *Builder) writeModule(module, dir string) error {
	for from, to := range map[string]string{goModFile: "go.mod", goSumFile: "go.sum"} {
		data, err := fs.ReadFile(b.recipes, path.Join(goModFolder, module, from))
		if err != nil {
			return fmt.Errorf("read module %q: %w", module, err)
		}
		if err := os.WriteFile(filepath.Join(dir, to), data, 0o600); err != nil {
			return fmt.Errorf("write module %q: %w", module, err)
		}
	}
	return nil
}

// goKey identifies the programs of one go build by everything that is in the
// recipe. The toolchain is left out: a new patch release of Go is no reason to
// compile Kubernetes again.
func (b *Builder) goKey(g GoBuild) (string, error) {
	k := newKeyHash("go")
	if err := k.addTree(b.recipes, path.Join(goModFolder, g.Module)); err != nil {
		return "", err
	}
	if err := k.addJSON("build", g); err != nil {
		return "", err
	}
	return k.sum(), nil
}

// buildGo compiles all programs of g with one go build, which shares packages
// and uses all cores best, and returns the folder that holds them by name.
func (b *Builder) buildGo(ctx context.Context, j *job, g GoBuild) (string, error) {
	key, err := b.goKey(g)
	if err != nil {
		return "", err
	}
	return b.part(ctx, j, "go-"+g.Module, key, "go build "+g.Module, func(t *task, dir string) error {
		// Two go builds at once would compile shared packages twice and need
		// twice the memory.
		t.wait(true)
		if err := b.goSlot.Acquire(ctx, 1); err != nil {
			return err
		}
		defer b.goSlot.Release(1)
		t.wait(false)
		return b.compileGo(ctx, t, g, dir)
	})
}

func (b *Builder) compileGo(ctx context.Context, t *task, g GoBuild, dir string) error {
	source, err := os.MkdirTemp("", "sandbox-go-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(source)
	if g.Edit != nil {
		err = b.editedModule(ctx, t, g, source)
	} else {
		err = b.writeModule(g.Module, source)
	}
	if err != nil {
		return err
	}
	output := filepath.Join(source, "bin")
	args := []string{"build", "-trimpath", "-buildvcs=false", "-v", "-o", output + "/"}
	if len(g.Tags) > 0 {
		args = append(args, "-tags="+strings.Join(g.Tags, ","))
	}
	if g.LDFlags != "" {
		args = append(args, "-ldflags="+g.LDFlags)
	}
	for _, p := range g.Programs {
		args = append(args, p.Package)
	}
	compiled := 0
	err = b.exec(ctx, t, command{name: "go", args: args, dir: source, env: goEnv(g.Cgo), line: func(line string) {
		// -v prints the path of each package that had to be compiled, and
		// the go command its downloads; anything else is worth reading.
		if strings.Contains(line, " ") {
			t.log("go", line)
			return
		}
		compiled++
		t.set("%d packages compiled", compiled)
	}})
	if err != nil {
		return err
	}
	for _, p := range g.Programs {
		if err := moveFile(filepath.Join(output, goBinaryName(p.Package)), filepath.Join(dir, p.ProgramName())); err != nil {
			return fmt.Errorf("collect %s: %w", p.ProgramName(), err)
		}
	}
	return nil
}

// moveFile renames, or copies where that crosses file systems.
func moveFile(from, to string) error {
	if os.Rename(from, to) == nil {
		return nil
	}
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return copyTo(to, f, info.Mode().Perm())
}

// moduleDir returns the folder of a module in the user's module cache,
// downloaded and verified by the go.sum of goModule.
func (b *Builder) moduleDir(ctx context.Context, t *task, goModule, module string) (string, error) {
	work, err := os.MkdirTemp("", "sandbox-mod-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	if err := b.writeModule(goModule, work); err != nil {
		return "", err
	}
	var out bytes.Buffer
	if err := b.exec(ctx, t, command{
		name: "go", args: []string{"mod", "download", "-json", module}, dir: work, env: goEnv(false), stdout: &out,
	}); err != nil {
		return "", err
	}
	var downloaded struct{ Dir, Error string }
	if err := json.Unmarshal(out.Bytes(), &downloaded); err != nil {
		return "", fmt.Errorf("read what go mod download %s says: %w", module, err)
	}
	if downloaded.Error != "" || downloaded.Dir == "" {
		return "", fmt.Errorf("download %s: %s", module, downloaded.Error)
	}
	return downloaded.Dir, nil
}

// buildC compiles one static C program and returns its path.
func (b *Builder) buildC(ctx context.Context, j *job, c CBuild) (string, error) {
	k := newKeyHash("c")
	if err := k.addJSON("build", c); err != nil {
		return "", err
	}
	tree := path.Join(j.recipe.Name, c.Source.Path)
	if c.Source.GoModule != "" {
		tree = path.Join(goModFolder, c.Source.GoModule)
	}
	if err := k.addTree(b.recipes, tree); err != nil {
		return "", err
	}
	dir, err := b.part(ctx, j, "c-"+c.Name, k.sum(), "compile "+c.Name, func(t *task, dir string) error {
		source := filepath.Join(dir, "source.c")
		data, err := b.readSource(ctx, t, j.recipe, c.Source)
		if err != nil {
			return err
		}
		if err := os.WriteFile(source, data, 0o600); err != nil {
			return err
		}
		args := append([]string{"-Os", "-Wall", "-static", "-o", filepath.Join(dir, c.Name)}, c.Flags...)
		return b.exec(ctx, t, command{name: "gcc", args: append(args, source)})
	})
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, c.Name), nil
}

func (b *Builder) readSource(ctx context.Context, t *task, r *Recipe, s Source) ([]byte, error) {
	if s.GoModule == "" {
		return fs.ReadFile(b.recipes, path.Join(r.Name, s.Path))
	}
	dir, err := b.moduleDir(ctx, t, s.GoModule, s.Module)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(dir, filepath.FromSlash(s.Path)))
}
