// Package terraform applies a Terraform or OpenTofu module to the AWS emulator.
//
// The module's folder is only ever read. What runs is a private copy of it, in
// a workspace below the sandbox's state directory, with a generated override
// file that sends every AWS service the installed provider knows to the
// emulator, an environment that holds nothing of the user's AWS setup, and a
// CLI configuration of its own. Nothing is destroyed resource by resource: a
// sandbox ends by dropping the emulator and this workspace.
//
// The measures make real AWS unreachable by accident: by omission of a service,
// an alias, a child module or a backend. They are not a wall against a module
// that means harm, which needs a network without a way out.
package terraform

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

// DefaultRegion is the AWS region of a module that names none.
const DefaultRegion = "us-east-1"

// Config says what to apply, with what and where to.
type Config struct {
	// Name of the module in the stack, such as "infra".
	Name string
	// SourceDir is the folder of the root module. It is never written.
	SourceDir string
	// Root is the folder that SourceDir and the local modules it calls lie
	// in; nothing outside is read. Empty means SourceDir.
	Root string
	// Workspace is the private folder of this module in the sandbox's state
	// directory. It is created with mode 0700.
	Workspace string
	// CacheDir holds what modules and sandboxes share: downloaded providers
	// and the endpoint lists of provider versions.
	CacheDir string
	// Tool is "auto" or empty, "terraform", "tofu", or the path of a binary.
	Tool string
	// Endpoint is the emulator's URL as seen from this host.
	Endpoint string
	// Region is the default AWS region. Empty means DefaultRegion.
	Region string
	// Vars are values of the root module's input variables.
	Vars map[string]any
	// PluginMirror is the root of a filesystem mirror of providers, used
	// before the registry. It may be empty or missing.
	PluginMirror string
	// Generation identifies the emulator's memory: it changes when the
	// emulator has lost what was created in it. Empty means that no emulator
	// is there; then what was applied to one is neither touched nor ok.
	Generation string
	// AllowProviders are provider sources, such as "cloudposse/utils", that
	// may be used beside those that cannot reach anything outside.
	AllowProviders []string
	// AllowExec permits provisioners and data sources that run programs of
	// the module's choice on this host.
	AllowExec bool
	// Environ is the environment that the allow-list picks from, in the form
	// of os.Environ, which is used where it is nil.
	Environ []string
}

// Module is one Terraform module of a sandbox. Its methods must not run at the
// same time for the same workspace; the sandbox's lock sees to that.
type Module struct {
	cfg   Config
	paths paths
	// base is the path of SourceDir below Root, "." where they are the same.
	base string
}

// New checks the configuration and returns the module. It creates nothing.
func New(cfg Config) (*Module, error) {
	if cfg.Name == "" || cfg.Workspace == "" || cfg.CacheDir == "" || cfg.Endpoint == "" {
		return nil, fmt.Errorf("terraform module %q: name, workspace, cache directory and endpoint are required", cfg.Name)
	}
	if cfg.Root == "" {
		cfg.Root = cfg.SourceDir
	}
	if cfg.Region == "" {
		cfg.Region = DefaultRegion
	}
	if cfg.Environ == nil {
		cfg.Environ = os.Environ()
	}
	for _, p := range []*string{&cfg.Root, &cfg.SourceDir, &cfg.Workspace, &cfg.CacheDir} {
		abs, err := filepath.Abs(*p)
		if err != nil {
			return nil, fmt.Errorf("terraform module %q: %w", cfg.Name, err)
		}
		*p = abs
	}
	if cfg.PluginMirror != "" {
		abs, err := filepath.Abs(cfg.PluginMirror)
		if err != nil {
			return nil, fmt.Errorf("terraform module %q: %w", cfg.Name, err)
		}
		cfg.PluginMirror = abs
	}
	base, err := filepath.Rel(cfg.Root, cfg.SourceDir)
	if err != nil || !filepath.IsLocal(base) {
		return nil, fault.New(fault.Invalid, fmt.Sprintf("terraform module %s leaves the stack's folder", cfg.Name),
			fmt.Sprintf("%s is not inside %s", cfg.SourceDir, cfg.Root), "move the module into the stack's folder")
	}
	return &Module{cfg: cfg, base: filepath.ToSlash(base), paths: newPaths(cfg.Workspace, base)}, nil
}

// Component is the module's name in health and events, such as "terraform/infra".
func (m *Module) Component() string { return "terraform/" + m.cfg.Name }

// paths are the files of a workspace.
type paths struct {
	dir       string // the workspace
	tree      string // copy of the source files, laid out as below Root
	run       string // copy of the root module: where the tool runs
	home      string // empty home directory
	cliConfig string // the tool's private configuration
	vars      string // values of input variables
	plan      string // saved plan of a comparison, while it is needed
	state     string // terraform.tfstate
	snapshot  string // the state as it was before the last apply
	backups   string // states that were set aside
	outputs   string // outputs of the last apply
	record    string // what was applied, see record
	manifest  string // files that were copied
}

func newPaths(workspace, base string) paths {
	in := func(name string) string { return filepath.Join(workspace, name) }
	return paths{
		dir: workspace, tree: in("tree"), run: filepath.Join(in("tree"), base), home: in("home"),
		cliConfig: in("cli.tfrc"), vars: in("vars.tfvars.json"), plan: in("saved.tfplan"),
		state: in("terraform.tfstate"), snapshot: in("before-apply.tfstate"), backups: in("backups"),
		outputs: in("outputs.json"), record: in("record.json"), manifest: in("manifest.json"),
	}
}

// sourcePath turns a file name of the tool's, relative to where it runs, into
// the path of the user's own file. Files that have no original, such as those
// of downloaded modules, keep the path of the copy.
func (m *Module) sourcePath(name string) string {
	p := name
	if !filepath.IsAbs(p) {
		p = filepath.Join(m.paths.run, p)
	}
	rel, err := filepath.Rel(m.paths.tree, p)
	if err != nil || !filepath.IsLocal(rel) || strings.HasPrefix(filepath.Base(p), overrideBase) {
		return p
	}
	if src := filepath.Join(m.cfg.Root, rel); exists(src) {
		return src
	}
	return p
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// Destroy drops the workspace: the copy, the state, the plan and the outputs.
// The resources themselves go with the emulator.
func (m *Module) Destroy() error {
	if err := os.RemoveAll(m.paths.dir); err != nil {
		return fmt.Errorf("drop workspace of terraform module %q: %w", m.cfg.Name, err)
	}
	return nil
}
