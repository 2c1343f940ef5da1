package engines

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// source is where packages come from.
type source struct {
	suite    string // empty is the machine's own
	packages []string
}

// sources are Debian's packages that hold the daemon and what it runs. What else
// they depend on, iptables above all, comes with Podman. The newest runc needs
// a newer C library than the release has.
func (o Options) sources() []source {
	if o.Newest {
		return []source{{"sid", []string{"docker.io", "docker-cli", "containerd", "tini-static"}}, {"", []string{"runc"}}}
	}
	return []source{{"", []string{"docker.io", "containerd", "runc", "tini"}}}
}

// unpack makes sure that the daemon, the shim and the docker command are in the
// folder. The packages are unpacked rather than installed: installing would
// start a daemon on the machine's own data.
func (d *Docker) unpack(ctx context.Context) error {
	root := filepath.Join(d.dir, "root")
	if _, err := os.Stat(filepath.Join(root, "usr", "sbin", "dockerd")); errors.Is(err, fs.ErrNotExist) {
		if err := (unpacked{d.dir}).download(ctx, d.opt.sources()); err != nil {
			return err
		}
	}
	for link, target := range map[string]string{
		filepath.Join(d.dir, "bin", "runc-real"): filepath.Join(root, "usr", "sbin", "runc"),
		filepath.Join(d.Commands(), "docker"):    filepath.Join(root, "usr", "bin", "docker"),
	} {
		if err := symlink(target, link); err != nil {
			return err
		}
	}
	shim := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", filepath.Join(d.dir, "bin", "runc"),
		"github.com/sandbox-stack/sandbox/e2e/engines/shim")
	shim.Env = append(os.Environ(), "CGO_ENABLED=0")
	return output(shim)
}

// unpacked is a folder in which packages are unpacked, below root.
type unpacked struct{ dir string }

// download fetches the packages and unpacks them. The folder appears complete or
// not at all.
func (d unpacked) download(ctx context.Context, sources []source) error {
	root := filepath.Join(d.dir, "root")
	for _, old := range []string{root, root + ".new", filepath.Join(d.dir, "packages")} {
		if err := os.RemoveAll(old); err != nil {
			return err
		}
	}
	packages := filepath.Join(d.dir, "packages")
	if err := os.MkdirAll(packages, 0o755); err != nil {
		return err
	}
	for _, from := range sources {
		if err := d.fetch(ctx, from, packages); err != nil {
			return err
		}
	}
	files, err := filepath.Glob(filepath.Join(packages, "*.deb"))
	if err != nil {
		return err
	}
	for _, file := range files {
		if err := output(exec.CommandContext(ctx, "dpkg-deb", "--extract", file, root+".new")); err != nil {
			return err
		}
	}
	return errors.Join(os.Rename(root+".new", root), os.RemoveAll(packages))
}

// fetch downloads the packages of a source into the folder.
func (d unpacked) fetch(ctx context.Context, from source, folder string) error {
	var options []string
	if from.suite != "" {
		var err error
		if options, err = d.lists(ctx, from.suite); err != nil {
			return err
		}
	}
	apt := func(args ...string) error {
		cmd := exec.CommandContext(ctx, "apt-get", append(append([]string{"-q"}, options...), args...)...)
		cmd.Dir = folder
		return output(cmd)
	}
	download := append([]string{"download"}, from.packages...)
	if from.suite == "" {
		if err := apt(download...); err == nil {
			return nil
		}
	}
	// The lists may be missing or old.
	if err := apt("update"); err != nil {
		return err
	}
	return apt(download...)
}

// lists prepares a folder for the package lists of another suite, from the
// machine's own mirror, and returns the options that use it.
func (d unpacked) lists(ctx context.Context, suite string) ([]string, error) {
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Component: main").Output()
	if err != nil {
		return nil, fmt.Errorf("find the machine's mirror: %w", err)
	}
	mirror, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	dir := filepath.Join(d.dir, "apt")
	for _, sub := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	list := filepath.Join(dir, "sources.list")
	line := "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] " + mirror + " " + suite + " main\n"
	if err := os.WriteFile(list, []byte(line), 0o644); err != nil {
		return nil, err
	}
	return []string{
		"-o", "Dir::Etc::sourcelist=" + list, "-o", "Dir::Etc::sourceparts=-",
		"-o", "Dir::State::lists=" + filepath.Join(dir, "lists"), "-o", "Dir::Cache=" + filepath.Join(dir, "cache"),
	}, nil
}

func symlink(target, link string) error {
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		return err
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(target, link)
}

// output runs the command; its error holds what it said.
func output(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd.Args, err, out)
	}
	return nil
}
