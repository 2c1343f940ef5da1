package terraform

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/terraform-exec/tfexec"
	"github.com/rogpeppe/go-internal/lockedfile"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// prepared is a workspace that is ready to plan.
type prepared struct {
	tool        Tool
	tf          *tfexec.Terraform
	rec         record
	fingerprint string
	// initialized says that init ran just now, and not at an earlier time.
	initialized bool
	folders     []*folder     // of the source and of downloaded modules
	schema      *providerInfo // nil where the module does not use AWS
}

// Prepare does what an Apply needs and what needs no emulator: it copies and
// initializes the module. An Apply does it too; beforehand, it takes place while
// the emulator still starts.
func (m *Module) Prepare(ctx context.Context, rep event.Reporter) error {
	_, err := m.prepare(ctx, rep, false)
	return err
}

// prepare copies the module, initializes the copy where needed and points it at
// the emulator. force runs init in any case.
func (m *Module) prepare(ctx context.Context, rep event.Reporter, force bool) (*prepared, error) {
	tool, err := Detect(ctx, m.cfg.Tool)
	if err != nil {
		return nil, err
	}
	rep.Progress(event.Progress{Text: "copying the module"})
	src, err := m.readSource(tool.Path)
	if err != nil {
		return nil, err
	}
	defer src.Close() // a directory handle
	if err := m.makeWorkspace(); err != nil {
		return nil, err
	}
	p := &prepared{tool: tool}
	if p.rec, err = m.readRecord(); err != nil {
		return nil, err
	}
	if p.fingerprint, err = m.fingerprint(src.files, src.fromMirror, digestBytes(src.lock), tool.Path); err != nil {
		return nil, err
	}
	if err := m.copyTree(src.root, src.files); err != nil {
		return nil, err
	}
	if err := m.seedLock(&p.rec, src.lock); err != nil {
		return nil, err
	}
	config := cliConfig(m.cfg.PluginMirror, src.fromMirror, m.pluginCache())
	if err := m.writeSettings(config); err != nil {
		return nil, err
	}
	if p.tf, err = m.terraform(tool); err != nil {
		return nil, err
	}
	key, err := src.initKey(tool, config)
	if err != nil {
		return nil, err
	}
	if force || key != p.rec.InitKey || !m.ready(src.folders) {
		for _, note := range src.notes {
			rep.Log("sandbox", note)
		}
		if err := m.unlockCopy(src.fromMirror); err != nil {
			return nil, err
		}
		if err := m.init(ctx, p, src.folders, key, rep); err != nil {
			return nil, err
		}
	}
	return p, m.redirect(ctx, p, src.folders, rep)
}

// makeWorkspace creates the private folders.
func (m *Module) makeWorkspace() error {
	for _, dir := range []string{m.paths.dir, m.paths.run, m.paths.home, m.pluginCache()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("create workspace of terraform module %q: %w", m.cfg.Name, err)
		}
	}
	return nil
}

func (m *Module) pluginCache() string { return filepath.Join(m.cfg.CacheDir, "terraform", "plugins") }

// seedLock takes over the user's lock file when it is new or has changed. After
// that the copy's lock file belongs to the tool.
func (m *Module) seedLock(rec *record, lock []byte) error {
	sum := digestBytes(lock)
	file := filepath.Join(m.paths.run, lockName)
	if rec.SourceLock == sum {
		return nil
	}
	if lock == nil {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove lock file: %w", err)
		}
	} else if err := writePrivate(file, lock); err != nil {
		return fmt.Errorf("copy lock file: %w", err)
	}
	rec.SourceLock, rec.InitKey = sum, ""
	return m.writeRecord(*rec)
}

// writeSettings writes the tool's configuration and the variables' values,
// which thus appear on no command line.
func (m *Module) writeSettings(config []byte) error {
	if err := writeIfChanged(m.paths.cliConfig, config); err != nil {
		return fmt.Errorf("write CLI configuration of module %q: %w", m.cfg.Name, err)
	}
	vars := m.cfg.Vars
	if vars == nil {
		vars = map[string]any{}
	}
	data, err := json.MarshalIndent(vars, "", "  ")
	if err == nil {
		err = writeIfChanged(m.paths.vars, data)
	}
	if err != nil {
		return fmt.Errorf("write variables of module %q: %w", m.cfg.Name, err)
	}
	return nil
}

// terraform returns the library's handle on the tool, in the copy and with the
// private environment.
func (m *Module) terraform(t Tool) (*tfexec.Terraform, error) {
	tf, err := tfexec.NewTerraform(m.paths.run, t.Path)
	if err == nil {
		err = tf.SetEnv(m.environment())
	}
	if err == nil {
		err = tf.SetWaitDelay(stopGrace)
	}
	if err != nil {
		return nil, fmt.Errorf("set up %s for module %q: %w", t.Name, m.cfg.Name, err)
	}
	return tf, nil
}

// ready reports whether what an earlier init installed is still there.
func (m *Module) ready(folders []*folder) bool {
	list, err := m.readLock()
	if err != nil || !m.installed(list) {
		return false
	}
	for _, f := range folders {
		if len(f.calls) > 0 && !exists(m.modulesFile()) {
			return false
		}
	}
	return exists(filepath.Join(m.paths.run, ".terraform"))
}

// init installs providers and modules. Only the backend is overridden yet: the
// provider's schema, which the rest needs, is not there before.
func (m *Module) init(ctx context.Context, p *prepared, folders []*folder, key string, rep event.Reporter) error {
	if err := m.writeOverrides(folders, nil); err != nil {
		return err
	}
	unlock, err := m.lockCache(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	s := newStream(rep, p.tool.Name, "installing providers and modules")
	stop := s.follow()
	if p.tool.parsed.LessThan(initJSONVersion) {
		p.tf.SetStdout(s)
		p.tf.SetStderr(s)
		err = p.tf.Init(ctx)
		p.tf.SetStderr(nil)
	} else {
		err = p.tf.InitJSON(ctx, s)
	}
	p.tf.SetStdout(nil)
	stop()
	s.finish()
	switch {
	case ctx.Err() != nil:
		return m.interrupted(ctx, "init", p.tool, "")
	case err != nil:
		return m.failure("init", p.tool, s, err, "")
	}
	p.initialized = true
	p.rec.InitKey = key
	return m.writeRecord(p.rec)
}

// lockCache keeps two inits from writing the shared provider cache at once,
// which the tool does not allow.
func (m *Module) lockCache(ctx context.Context) (unlock func(), err error) {
	type result struct {
		unlock func()
		err    error
	}
	got := make(chan result, 1)
	go func() {
		unlock, err := lockedfile.MutexAt(m.pluginCache() + ".lock").Lock()
		got <- result{unlock, err}
	}()
	select {
	case r := <-got:
		if r.err != nil {
			return nil, fmt.Errorf("lock provider cache: %w", r.err)
		}
		return r.unlock, nil
	case <-ctx.Done():
		go func() {
			if r := <-got; r.err == nil {
				r.unlock()
			}
		}()
		return nil, fmt.Errorf("wait for another run to install providers: %w", ctx.Err())
	}
}

// redirect writes the complete overrides: for the source's folders and for
// those of downloaded modules, which are checked here for the first time.
func (m *Module) redirect(ctx context.Context, p *prepared, folders []*folder, rep event.Reporter) error {
	more, err := m.downloaded(p.tool.Name, folders)
	if err != nil {
		return err
	}
	p.folders = slices.Concat(folders, more)
	if usesAWS(p.folders) {
		list, err := m.readLock()
		if err != nil {
			return err
		}
		if p.schema, err = m.awsProvider(ctx, p.tool, list, rep); err != nil {
			return err
		}
	}
	return m.writeOverrides(p.folders, p.schema)
}

func (m *Module) modulesFile() string {
	return filepath.Join(m.paths.run, ".terraform", "modules", "modules.json")
}

// downloaded scans and checks the modules that init fetched.
func (m *Module) downloaded(tool string, known []*folder) ([]*folder, error) {
	data, err := os.ReadFile(m.modulesFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var list struct {
		Modules []struct {
			Dir string `json:"Dir"`
		} `json:"Modules"`
	}
	if err == nil {
		err = json.Unmarshal(data, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("read list of downloaded modules: %w", err)
	}
	seen := map[string]bool{}
	for _, f := range known {
		seen[f.dir] = true
	}
	tree := os.DirFS(m.paths.tree)
	show := func(rel string) string { return filepath.Join(m.paths.tree, filepath.FromSlash(rel)) }
	var folders []*folder
	for _, entry := range list.Modules {
		dir, err := m.toTree(entry.Dir)
		if err != nil {
			return nil, err
		}
		if seen[dir] || !exists(show(dir)) {
			continue // known, or a call that is no longer made
		}
		seen[dir] = true
		f, err := scanFolder(tree, dir, tool, show)
		if err != nil {
			return nil, err
		}
		folders = append(folders, f)
	}
	for _, f := range folders {
		if err := m.guardFolder(f); err != nil {
			return nil, err
		}
	}
	return folders, nil
}
