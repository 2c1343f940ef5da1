package podman

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/BurntSushi/toml"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime/install"
)

// machine is what decides whether Podman's own defaults work here.
type machine struct {
	root     bool
	cgroupV1 bool
	runc     string // path of runc, "" where there is none
	// mayRaiseLimits: the process has CAP_SYS_RESOURCE, or that is unknown.
	mayRaiseLimits bool
	// maxFiles and maxProcesses are the hard limits on open files and
	// processes; 0 means unlimited.
	maxFiles, maxProcesses uint64
}

// settings returns what containers.conf has to say on this machine, empty
// where Podman's defaults work.
//
//   - crun refuses a cgroup v1 host, and may be the default; runc does not.
//   - Podman gives root's containers 1048576 open files and processes. Without
//     CAP_SYS_RESOURCE the OCI runtime can't raise the limits of a container
//     above its own, and no container starts. (Without root, Podman stays
//     below the user's limits by itself.)
func (m machine) settings() (map[string]any, error) {
	settings := map[string]any{}
	if m.cgroupV1 {
		if m.runc == "" {
			return nil, fault.New(fault.Unavailable,
				"Podman needs runc on this machine",
				"the kernel offers cgroup v1 only, which crun does not support",
				install.Command("runc"))
		}
		settings["engine"] = map[string]any{"runtime": "runc"}
	}
	if m.root && !m.mayRaiseLimits {
		var limits []string
		for _, l := range []struct {
			name string
			max  uint64
		}{{"nofile", m.maxFiles}, {"nproc", m.maxProcesses}} {
			if l.max != 0 {
				limits = append(limits, fmt.Sprintf("%s=%d:%d", l.name, l.max, l.max))
			}
		}
		if len(limits) > 0 {
			settings["containers"] = map[string]any{"default_ulimits": limits}
		}
	}
	return settings, nil
}

// Adapt points CONTAINERS_CONF to settings that work on this machine, for other
// programs that read Podman's configuration, until restore is called. dir is a
// private folder.
func Adapt(dir string) (restore func() error, err error) {
	restore, err = adapt(dir, thisMachine(), slog.New(slog.DiscardHandler))
	if restore == nil {
		restore = func() error { return nil }
	}
	return restore, err
}

// adapt writes a containers.conf that holds the user's or the system's
// settings, overlaid with what machine m needs, and points CONTAINERS_CONF to
// it until restore is called. Where the machine needs nothing it changes
// nothing, and restore is nil.
//
// The file is a merge because Podman, given CONTAINERS_CONF, reads that file
// alone; an override variable came only after 4.3.
func adapt(dir string, m machine, log *slog.Logger) (restore func() error, err error) {
	needed, err := m.settings()
	if err != nil || len(needed) == 0 {
		return nil, err
	}
	before := os.Getenv(confVariable)
	merged, err := mergeConf(confFiles(before))
	if err != nil {
		return nil, err
	}
	overlay(merged, needed)

	path := filepath.Join(dir, "containers.conf")
	var text bytes.Buffer
	text.WriteString("# Written by sandbox for this machine; do not edit.\n")
	if err := toml.NewEncoder(&text).Encode(merged); err != nil {
		return nil, fmt.Errorf("render %s: %w", path, err)
	}
	if err := writeFile(path, text.Bytes()); err != nil {
		return nil, err
	}
	if err := os.Setenv(confVariable, path); err != nil {
		return nil, fmt.Errorf("set %s: %w", confVariable, err)
	}
	log.Debug("podman: adapted to this machine", "file", path, "settings", needed)
	return func() error {
		if os.Getenv(confVariable) != path {
			return nil // somebody else has set it since
		}
		if before == "" {
			return os.Unsetenv(confVariable)
		}
		return os.Setenv(confVariable, before)
	}, nil
}

// confVariable names the one configuration file that Podman is to read.
const confVariable = "CONTAINERS_CONF"

// mergeConf reads those of the files that exist, of which later ones win.
func mergeConf(files []string) (map[string]any, error) {
	merged := map[string]any{}
	for _, file := range files {
		var part map[string]any
		_, err := toml.DecodeFile(file, &part)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fault.Wrap(fault.Failed, err, "podman info", "%s can't be read", file)
		}
		overlay(merged, part)
	}
	return merged, nil
}

// confFiles lists the configuration files in force, in the order in which later
// ones win: the one that CONTAINERS_CONF names, or else the system's and the
// user's. A chosen file that is gone is one that sandbox wrote and removed.
func confFiles(chosen string) []string {
	if chosen != "" {
		if _, err := os.Stat(chosen); !errors.Is(err, os.ErrNotExist) {
			return []string{chosen}
		}
	}
	files := []string{"/usr/share/containers/containers.conf", "/etc/containers/containers.conf"}
	files = append(files, confDir("/etc/containers/containers.conf.d")...)
	if config, err := os.UserConfigDir(); err == nil && os.Geteuid() != 0 {
		files = append(files, filepath.Join(config, "containers", "containers.conf"))
		files = append(files, confDir(filepath.Join(config, "containers", "containers.conf.d"))...)
	}
	return files
}

// confDir lists the drop-in files of dir in their order.
func confDir(dir string) []string {
	files, err := filepath.Glob(filepath.Join(dir, "*.conf"))
	if err != nil {
		return nil // the pattern is constant and valid
	}
	slices.Sort(files)
	return files
}

// overlay merges top into base: tables are merged, everything else replaced.
func overlay(base, top map[string]any) {
	for key, value := range top {
		if table, ok := value.(map[string]any); ok {
			if under, ok := base[key].(map[string]any); ok {
				overlay(under, table)
				continue
			}
			value = maps.Clone(table)
		}
		base[key] = value
	}
}

// findOCIRuntime looks for an OCI runtime where Podman does.
func findOCIRuntime(name string) string {
	for _, dir := range []string{"/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/sbin", "/bin", "/usr/lib/cri-o-runc/sbin"} {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return ""
}

// writeFile replaces the private file at path, so that a reader never sees
// half of it.
func writeFile(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("create the state directory: %w", err)
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".containers-*.conf")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() { _ = os.Remove(temp.Name()) }() // gone already after the rename
	_, err = temp.Write(content)
	if err := errors.Join(err, temp.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(temp.Name(), path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
