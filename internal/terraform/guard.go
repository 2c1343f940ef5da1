package terraform

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/zclconf/go-cty/cty"

	"github.com/hashicorp/hcl/v2"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

var stringType = cty.String

// awsSource is the AWS provider's source without a host.
const awsSource = "hashicorp/aws"

// harmless are the providers that reach nothing but the files of the copy, and
// the AWS provider, which is sent to the emulator.
var harmless = []string{
	awsSource, "hashicorp/random", "hashicorp/null", "hashicorp/local", "hashicorp/tls", "hashicorp/archive",
	"hashicorp/time", "hashicorp/template", "hashicorp/cloudinit", "hashicorp/external", "opentofu/random",
	builtinSource,
}

// builtinSource is the provider that is part of the tool.
const builtinSource = "terraform.io/builtin/terraform"

// providerSource brings a provider's source into one form: namespace/type for
// the two public registries, host/namespace/type for others. A bare name is
// hashicorp's; "terraform" is built in.
func providerSource(source string) string {
	parts := strings.Split(strings.ToLower(source), "/")
	switch {
	case len(parts) == 1 && parts[0] == "terraform":
		return builtinSource
	case len(parts) == 1:
		return "hashicorp/" + parts[0]
	case len(parts) == 3 && (parts[0] == terraformHost || parts[0] == tofuHost):
		return parts[1] + "/" + parts[2]
	}
	return strings.Join(parts, "/")
}

// source returns the source that a local provider name stands for in a folder.
func (f *folder) source(name string) string {
	if r, ok := f.required[name]; ok {
		return r.source
	}
	return providerSource(name)
}

// sources lists the providers of a folder, each with the place of its first use.
func (f *folder) sources() map[string]hcl.Range {
	found := map[string]hcl.Range{}
	add := func(source string, rng hcl.Range) {
		if _, ok := found[source]; !ok {
			found[source] = rng
		}
	}
	for _, r := range f.required {
		add(r.source, r.rng)
	}
	for _, p := range f.providers {
		add(f.source(p.name), p.rng)
	}
	for name, rng := range f.uses {
		add(f.source(name), rng)
	}
	return found
}

// usesAWS reports whether any folder needs the AWS provider.
func usesAWS(folders []*folder) bool {
	return slices.ContainsFunc(folders, func(f *folder) bool {
		_, ok := f.sources()[awsSource]
		return ok
	})
}

// constraints collects the version constraints by provider address, with the
// tool's own registry as the host of sources that name none.
func constraints(folders []*folder, host string) map[string][]string {
	all := map[string][]string{}
	for _, f := range folders {
		for _, r := range f.required {
			if r.constraint != "" {
				addr := address(r.source, host)
				all[addr] = append(all[addr], r.constraint)
			}
		}
	}
	for _, list := range all {
		slices.Sort(list)
	}
	return all
}

// address adds the host to a normalized provider source.
func address(source, host string) string {
	if strings.Count(source, "/") == 1 {
		return host + "/" + source
	}
	return source
}

// guard refuses what would let a module out of the sandbox unasked, and values
// for variables that the root module, the first folder, does not have.
func (m *Module) guard(folders []*folder) error {
	for _, f := range folders {
		if err := m.guardFolder(f); err != nil {
			return err
		}
	}
	return m.guardVars(folders[0])
}

func (m *Module) guardFolder(f *folder) error {
	for _, name := range f.overrides {
		if name > overrideName || strings.Contains(name, ".tofu") {
			return fault.New(fault.Invalid, fmt.Sprintf("%s would override the sandbox's own settings", m.showSource(path.Join(f.dir, name))),
				fmt.Sprintf("override files are merged by name, and the last, %s, has to be the sandbox's", overrideName),
				"rename it, such as override.tf")
		}
	}
	for _, x := range f.forbidden {
		if x.exec && m.cfg.AllowExec {
			continue
		}
		e := fault.New(fault.Invalid, x.what, x.why, "remove it from the module")
		if x.exec {
			e.Try = "remove it, or allow it for this module"
		}
		e.Pos = position(x.rng)
		return e
	}
	return m.guardProviders(f)
}

func (m *Module) guardProviders(f *folder) error {
	found := f.sources()
	for _, source := range sortedKeys(found) {
		allowed := slices.Contains(harmless, source) ||
			slices.ContainsFunc(m.cfg.AllowProviders, func(s string) bool { return providerSource(s) == source })
		if allowed {
			continue
		}
		e := fault.New(fault.Invalid, fmt.Sprintf("provider %s is not allowed", source),
			"it may reach systems outside of the sandbox",
			"remove it from the module, or allow it for this module; allowed are "+strings.Join(harmless[:len(harmless)-1], ", "))
		e.Pos = position(found[source])
		return e
	}
	return nil
}

// guardVars checks the given values against the root module's variables.
func (m *Module) guardVars(root *folder) error {
	for _, name := range sortedKeys(m.cfg.Vars) {
		if _, ok := root.variables[name]; ok {
			continue
		}
		declared := strings.Join(sortedKeys(root.variables), ", ")
		if declared == "" {
			declared = "none"
		}
		return fault.New(fault.Invalid, fmt.Sprintf("terraform module %s has no variable %q", m.cfg.Name, name),
			"declared are: "+declared, "correct the name under vars")
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
