// Package state keeps what sandbox must remember between two runs: one private
// directory per sandbox with a lock, a record of what was created, the events
// and the files that belong to it. Nothing outside of it is ever written.
package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"syscall"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

const (
	dirMode  = 0o700
	fileMode = 0o600
)

// namePattern is the rule for the name of a sandbox, and of whatever else
// becomes a folder in its directory.
var namePattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$`)

// Root returns the directory that holds the state of all sandboxes:
// $XDG_STATE_HOME/sandbox, or ~/.local/state/sandbox where that is not set.
// As the XDG specification asks, a relative value counts as not set.
func Root() (string, error) {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "sandbox"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fault.Wrap(fault.Unavailable, err, "export XDG_STATE_HOME=/some/folder", "no place for the state of sandboxes")
	}
	return filepath.Join(home, ".local", "state", "sandbox"), nil
}

// Dir is the state directory of one sandbox. Its methods are safe for
// concurrent use; between processes, the Lock guards changes.
type Dir struct {
	name string
	path string

	mu sync.Mutex // guards the record between steps of one process
}

// Open returns the state directory of the sandbox called name below Root and
// creates it where it is missing. Its mode is 0700 whatever the umask is, and
// also where it existed with another.
func Open(name string) (*Dir, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	return OpenIn(root, name)
}

// OpenIn is Open below another root.
func OpenIn(root, name string) (*Dir, error) {
	if !namePattern.MatchString(name) {
		return nil, fmt.Errorf("state of sandbox %q: the name does not match %s", name, namePattern)
	}
	d := &Dir{name: name, path: filepath.Join(root, name)}
	if err := os.MkdirAll(root, dirMode); err != nil {
		return nil, fmt.Errorf("create the state directory: %w", err)
	}
	if err := makeDir(d.path); err != nil {
		return nil, fmt.Errorf("create the state directory of sandbox %q: %w", name, err)
	}
	return d, nil
}

// makeDir creates a private directory. It refuses a symbolic link, by which
// another user could lead files of ours elsewhere.
func makeDir(path string) error {
	if err := os.Mkdir(path, dirMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", path)
	}
	if info.Mode().Perm() == dirMode {
		return nil
	}
	return os.Chmod(path, dirMode)
}

// Name returns the name of the sandbox.
func (d *Dir) Name() string { return d.name }

// Path returns the directory.
func (d *Dir) Path() string { return d.path }

// Events returns the path of the recorded event stream.
func (d *Dir) Events() string { return filepath.Join(d.path, "events.jsonl") }

// Kubeconfig returns the path of the private kubeconfig.
func (d *Dir) Kubeconfig() string { return filepath.Join(d.path, "kubeconfig") }

// Folder creates, where missing, the private folder of that name, such as
// "observe" or "stack", and returns its path.
func (d *Dir) Folder(name string) (string, error) {
	if !namePattern.MatchString(name) {
		return "", fmt.Errorf("folder %q of sandbox %q: the name does not match %s", name, d.name, namePattern)
	}
	path := filepath.Join(d.path, name)
	if err := makeDir(path); err != nil {
		return "", fmt.Errorf("create folder %q of sandbox %q: %w", name, d.name, err)
	}
	return path, nil
}

// Workspace creates, where missing, the private workspace of a Terraform
// module and returns its path.
func (d *Dir) Workspace(module string) (string, error) {
	if !namePattern.MatchString(module) {
		return "", fmt.Errorf("workspace %q of sandbox %q: the name does not match %s", module, d.name, namePattern)
	}
	parent, err := d.Folder("terraform")
	if err != nil {
		return "", err
	}
	path := filepath.Join(parent, module)
	if err := makeDir(path); err != nil {
		return "", fmt.Errorf("create workspace %q of sandbox %q: %w", module, d.name, err)
	}
	return path, nil
}

// Remove deletes the directory with all that is in it. The caller holds the
// Lock and closes it afterwards: the lock's file goes last, so that a process
// waiting for it finds either the whole state or none.
func (d *Dir) Remove() error {
	entries, err := os.ReadDir(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove the state of sandbox %q: %w", d.name, err)
	}
	for _, e := range entries {
		if e.Name() == lockName {
			continue
		}
		if err := os.RemoveAll(filepath.Join(d.path, e.Name())); err != nil {
			return fmt.Errorf("remove the state of sandbox %q: %w", d.name, err)
		}
	}
	// Not RemoveAll: a process that starts at this very moment may put a lock
	// of its own here, which is then no longer ours to remove.
	if err := os.Remove(filepath.Join(d.path, lockName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the state of sandbox %q: %w", d.name, err)
	}
	if err := os.Remove(d.path); err != nil && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the state of sandbox %q: %w", d.name, err)
	}
	return nil
}

// List returns the names of all sandboxes that have state below Root, sorted.
func List() ([]string, error) {
	root, err := Root()
	if err != nil {
		return nil, err
	}
	return ListIn(root)
}

// ListIn is List below another root.
func ListIn(root string) ([]string, error) {
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list sandboxes: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && namePattern.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}
