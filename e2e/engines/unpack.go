package engines

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// dockerPackages are Debian's packages that hold the daemon and what it runs.
// What else they depend on, iptables above all, comes with Podman.
var dockerPackages = []string{"docker.io", "containerd", "runc", "tini"}

// unpack makes sure that the daemon, the shim and the docker command are in the
// folder. The packages are unpacked rather than installed: installing would
// start a daemon on the machine's own data.
func (d *Docker) unpack(ctx context.Context) error {
	root := filepath.Join(d.dir, "root")
	if _, err := os.Stat(filepath.Join(root, "usr", "sbin", "dockerd")); errors.Is(err, fs.ErrNotExist) {
		if err := d.download(ctx, root); err != nil {
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

// download fetches the packages from the machine's sources and unpacks them. The
// folder appears complete or not at all.
func (d *Docker) download(ctx context.Context, root string) error {
	for _, old := range []string{root, root + ".new", filepath.Join(d.dir, "packages")} {
		if err := os.RemoveAll(old); err != nil {
			return err
		}
	}
	packages := filepath.Join(d.dir, "packages")
	if err := os.MkdirAll(packages, 0o755); err != nil {
		return err
	}
	fetch := func() error {
		cmd := exec.CommandContext(ctx, "apt-get", append([]string{"download", "-q"}, dockerPackages...)...)
		cmd.Dir = packages
		return output(cmd)
	}
	if err := fetch(); err != nil { // the lists may be missing or old
		if err := output(exec.CommandContext(ctx, "apt-get", "update", "-q")); err != nil {
			return err
		}
		if err := fetch(); err != nil {
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
