package terraform

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

// source is the module as the user has it, read and checked.
type source struct {
	root       *os.Root
	files      []sourceFile
	folders    []*folder // the root module first
	fromMirror []string  // provider addresses that the mirror serves
	notes      []string  // for the user, about the mirror and the lock file
	lock       []byte    // the user's lock file, less what the mirror serves
}

func (s *source) Close() error { return s.root.Close() }

// readSource reads and checks the module without writing or running anything.
func (m *Module) readSource(toolPath string) (*source, error) {
	root, err := os.OpenRoot(m.cfg.Root)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "", "the folder of terraform module %s cannot be read", m.cfg.Name)
	}
	s, err := m.readSourceIn(root, toolName(toolPath))
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return s, nil
}

func (m *Module) readSourceIn(root *os.Root, tool string) (*source, error) {
	s := &source{root: root}
	info, err := root.Stat(m.base)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil, fault.New(fault.Invalid, fmt.Sprintf("terraform module %s does not exist", m.cfg.Name),
			fmt.Sprintf("there is no folder %s", m.cfg.SourceDir), "correct dir")
	}
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "", "the folder of terraform module %s cannot be read", m.cfg.Name)
	}
	if s.folders, err = scanTree(root.FS(), m.base, tool, m.showSource); err != nil {
		return nil, err
	}
	if err := m.guard(s.folders); err != nil {
		return nil, err
	}
	dirs := make([]string, len(s.folders))
	for i, f := range s.folders {
		dirs[i] = f.dir
	}
	if s.files, err = m.readTree(root, dirs); err != nil {
		return nil, err
	}
	have, err := readMirror(m.cfg.PluginMirror)
	if err != nil {
		return nil, err
	}
	s.fromMirror, s.notes = have.usable(constraints(s.folders, Tool{Name: tool}.host()))
	lock, dropped, err := sourceLock(root.FS(), m.base, s.fromMirror)
	if err != nil {
		return nil, err
	}
	s.lock = lock
	for _, addr := range dropped {
		s.notes = append(s.notes, "the lock file's entry of "+addr+" is not used: the provider comes from the mirror")
	}
	return s, nil
}

// initKey identifies everything that decides what init would install.
func (s *source) initKey(t Tool, cliConfig []byte) (string, error) {
	type need struct {
		Dir      string
		Required map[string]string
		Uses     []string
		Calls    []string
	}
	needs := make([]need, 0, len(s.folders))
	for _, f := range s.folders {
		n := need{Dir: f.dir, Required: map[string]string{}, Uses: sortedKeys(f.sources())}
		for name, r := range f.required {
			n.Required[name] = r.source + " " + r.constraint
		}
		for _, c := range f.calls {
			n.Calls = append(n.Calls, c.name+" "+c.source+" "+c.version)
		}
		slices.Sort(n.Calls)
		needs = append(needs, n)
	}
	return digest(map[string]any{
		"needs": needs, "tool": t.Path, "version": t.Version, "config": string(cliConfig), "lock": string(s.lock),
	})
}

// Validate checks the module without writing or running anything: it parses,
// stays inside the stack's folder, uses allowed providers only, and has the
// variables that values are given for. Errors are Invalid faults with their
// place in the user's file.
func (m *Module) Validate(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	path, err := find(m.cfg.Tool)
	if err != nil {
		path = terraformName // the rules differ little; Apply reports the tool
	}
	s, err := m.readSource(path)
	if err != nil {
		return err
	}
	return s.Close()
}

// Status says whether an apply is needed.
type Status struct {
	// Unchanged means that the last apply succeeded and that nothing it
	// depended on has changed: files, values, tool, providers, emulator.
	Unchanged bool
	// Reason is why an apply is needed.
	Reason string
}

// Check compares the module with the last successful apply without running the
// tool. It does not ask the emulator; see Drift.
func (m *Module) Check(ctx context.Context) (Status, error) {
	if err := ctx.Err(); err != nil {
		return Status{}, err
	}
	path, err := find(m.cfg.Tool)
	if err != nil {
		return Status{}, err
	}
	s, err := m.readSource(path)
	if err != nil {
		return Status{}, err
	}
	defer s.Close() // a directory handle
	rec, err := m.readRecord()
	if err != nil {
		return Status{}, err
	}
	want, err := m.fingerprint(s.files, s.fromMirror, digestBytes(s.lock), path)
	if err != nil {
		return Status{}, err
	}
	_, sum, err := readState(m.paths.state)
	switch {
	case errors.Is(err, errCorrupt):
		return Status{Reason: "the state is corrupt"}, nil
	case err != nil:
		return Status{}, err
	case !rec.Applying.IsZero():
		return Status{Reason: "the last apply was interrupted"}, nil
	case rec.Failure != "":
		return Status{Reason: "the last apply failed"}, nil
	case rec.Fingerprint == "":
		return Status{Reason: "not applied yet"}, nil
	case m.withoutEmulator(rec):
		return Status{Reason: "the emulator is not there"}, nil
	case rec.Generation != m.cfg.Generation:
		return Status{Reason: "the emulator was recreated"}, nil
	case sum != rec.StateSum || !exists(m.paths.outputs):
		return Status{Reason: "the state has changed since the last apply"}, nil
	case rec.Fingerprint != want:
		return Status{Reason: "the module, its values or its tools have changed"}, nil
	}
	return Status{Unchanged: true}, nil
}

// toTree maps a path that the tool names, relative to where it runs, to a
// slash path below the copy's root.
func (m *Module) toTree(name string) (string, error) {
	rel, err := filepath.Rel(m.paths.tree, filepath.Join(m.paths.run, name))
	if err != nil || !filepath.IsLocal(rel) {
		return "", fmt.Errorf("module folder %s is outside of the workspace", name)
	}
	return filepath.ToSlash(rel), nil
}
