package terraform

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// overrideBase starts the names that belong to the sandbox in a module folder;
// they sort after what people name their files.
const (
	overrideBase = "zzzz_sandbox_override."
	overrideName = overrideBase + "tf.json"
)

// maxRetries bounds how often the provider repeats a failed request, so that
// an emulator that is gone is reported in seconds and not in many minutes.
const maxRetries = 2

// override is the content of an override file. Terraform merges it into the
// blocks of the same name and alias: its arguments and nested blocks win.
type override struct {
	Terraform map[string]any              `json:"terraform,omitempty"`
	Provider  map[string][]map[string]any `json:"provider,omitempty"`
}

// overrideFor returns the override of one module folder, or nil where it needs
// none. The root module keeps its state in the workspace, whatever backend it
// names, and, where the tree uses AWS, gets the default provider configuration
// that its children inherit. Other folders get one for each configuration that
// they declare: to declare more would change what they inherit. Without a
// schema only the backend is overridden, which is what init needs.
func (m *Module) overrideFor(f *folder, isRoot bool, schema *providerInfo) *override {
	o := override{}
	if isRoot {
		o.Terraform = map[string]any{"backend": map[string]any{"local": map[string]any{"path": m.paths.state}}}
	}
	if schema != nil {
		for _, p := range f.awsConfigurations(isRoot) {
			if o.Provider == nil {
				o.Provider = map[string][]map[string]any{}
			}
			o.Provider[p.name] = append(o.Provider[p.name], m.providerOverride(p, schema))
		}
	}
	if o.Terraform == nil && o.Provider == nil {
		return nil
	}
	return &o
}

// awsConfigurations lists the folder's configurations of the AWS provider, one
// for each local name and alias, in a stable order.
func (f *folder) awsConfigurations(isRoot bool) []providerBlock {
	byKey := map[string]providerBlock{}
	add := func(p providerBlock) {
		key := p.name + "." + p.alias
		p.region = p.region || byKey[key].region
		byKey[key] = p
	}
	for _, p := range f.providers {
		if f.source(p.name) == awsSource {
			add(p)
		}
	}
	if isRoot {
		names := 0
		for name, r := range f.required {
			if r.source == awsSource {
				names++
				add(providerBlock{name: name})
			}
		}
		// A child's resources, or the root's own, may use the provider
		// without the root saying so: then its name is the plain one.
		if _, implied := f.uses["aws"]; (implied || names == 0) && f.source("aws") == awsSource {
			add(providerBlock{name: "aws"})
		}
	}
	list := make([]providerBlock, 0, len(byKey))
	for _, key := range sortedKeys(byKey) {
		list = append(list, byKey[key])
	}
	return list
}

// providerOverride sends one provider configuration to the emulator. Arguments
// that the installed provider does not know are left out.
func (m *Module) providerOverride(p providerBlock, schema *providerInfo) map[string]any {
	endpoints := make(map[string]string, len(schema.Endpoints))
	for _, service := range schema.Endpoints {
		endpoints[service] = m.cfg.Endpoint
	}
	args := map[string]any{
		"access_key":                  fakeKey,
		"secret_key":                  fakeSecret,
		"token":                       nil,
		"profile":                     nil,
		"shared_config_files":         nil,
		"shared_credentials_files":    nil,
		"allowed_account_ids":         nil,
		"forbidden_account_ids":       nil,
		"skip_credentials_validation": true,
		"skip_metadata_api_check":     "true",
		"skip_requesting_account_id":  true,
		"skip_region_validation":      true,
		"s3_use_path_style":           true,
		"use_fips_endpoint":           nil,
		"use_dualstack_endpoint":      nil,
		"http_proxy":                  nil,
		"https_proxy":                 nil,
		"max_retries":                 maxRetries,
	}
	// A module may work in several regions, which the emulator keeps apart.
	if !p.region {
		args["region"] = m.cfg.Region
	}
	for name := range args {
		if !slices.Contains(schema.Arguments, name) {
			delete(args, name)
		}
	}
	if p.alias != "" {
		args["alias"] = p.alias
	}
	args["endpoints"] = endpoints
	return args
}

// writeOverrides writes the override file of every folder of the copy and
// removes those that are no longer needed. The first folder is the root.
func (m *Module) writeOverrides(folders []*folder, schema *providerInfo) error {
	for i, f := range folders {
		file := filepath.Join(m.paths.tree, filepath.FromSlash(f.dir), overrideName)
		o := m.overrideFor(f, i == 0, schema)
		if o == nil {
			if err := os.Remove(file); err != nil && !os.IsNotExist(err) {
				return fmt.Errorf("remove override: %w", err)
			}
			continue
		}
		content, err := json.MarshalIndent(o, "", "  ")
		if err != nil {
			return fmt.Errorf("write override of module folder %s: %w", f.dir, err)
		}
		if err := writeIfChanged(file, append(content, '\n')); err != nil {
			return fmt.Errorf("write override of module folder %s: %w", f.dir, err)
		}
	}
	return nil
}
