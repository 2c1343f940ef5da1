package terraform

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/hashicorp/go-version"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
)

// platform is the name of this machine in a mirror.
var platform = runtime.GOOS + "_" + runtime.GOARCH

// mirrored maps provider addresses with their host, such as
// "registry.terraform.io/hashicorp/aws", to the versions that a filesystem
// mirror has of them for this platform.
type mirrored map[string][]*version.Version

// readMirror lists a filesystem mirror, in its packed and its unpacked layout.
// A mirror that is not there has nothing.
func readMirror(dir string) (mirrored, error) {
	found := mirrored{}
	if dir == "" {
		return found, nil
	}
	fsys := os.DirFS(dir)
	types, err := fs.Glob(fsys, "*/*/*")
	if err != nil {
		return nil, fmt.Errorf("read provider mirror %s: %w", dir, err)
	}
	for _, addr := range types {
		entries, err := fs.ReadDir(fsys, addr)
		if err != nil {
			continue // a file where a provider's folder would be
		}
		for _, e := range entries {
			if v := mirroredVersion(fsys, addr, e.Name()); v != nil && !slices.ContainsFunc(found[addr], v.Equal) {
				found[addr] = append(found[addr], v)
			}
		}
	}
	return found, nil
}

// mirroredVersion reads the version out of one entry of a provider's folder:
// VERSION/OS_ARCH/ or terraform-provider-TYPE_VERSION_OS_ARCH.zip.
func mirroredVersion(fsys fs.FS, addr, entry string) *version.Version {
	text := entry
	if prefix := "terraform-provider-" + path.Base(addr) + "_"; strings.HasPrefix(entry, prefix) {
		rest, ok := strings.CutSuffix(strings.TrimPrefix(entry, prefix), "_"+platform+".zip")
		if !ok {
			return nil
		}
		text = rest
	} else if _, err := fs.Stat(fsys, path.Join(addr, entry, platform)); err != nil {
		return nil
	}
	v, err := version.NewVersion(text)
	if err != nil {
		return nil
	}
	return v
}

// usable returns the addresses of which the mirror has a version that meets
// all constraints, and a note for each of which it has only others. Such a
// provider is left to the registry.
func (mi mirrored) usable(constraints map[string][]string) (addrs, notes []string) {
	for addr, versions := range mi {
		if slices.ContainsFunc(versions, func(v *version.Version) bool { return meets(v, constraints[addr]) }) {
			addrs = append(addrs, addr)
			continue
		}
		notes = append(notes, fmt.Sprintf("the provider mirror has %s %s, but the module wants %s: asking the registry",
			addr, versions[len(versions)-1], strings.Join(constraints[addr], ", ")))
	}
	slices.Sort(addrs)
	slices.Sort(notes)
	return addrs, notes
}

// meets reports whether a version meets every constraint. A constraint that
// cannot be read is left to the tool, which names its place.
func meets(v *version.Version, constraints []string) bool {
	for _, text := range constraints {
		if c, err := version.NewConstraint(text); err == nil && !c.Check(v) {
			return false
		}
	}
	return true
}

// cliConfig is the tool's configuration file: providers come from the mirror
// where it has them, else from their registry, and downloads are kept. No
// credentials, no plugin folders and no development overrides of the user's
// take part.
func cliConfig(mirrorDir string, fromMirror []string, pluginCache string) []byte {
	f := hclwrite.NewEmptyFile()
	body := f.Body()
	body.SetAttributeValue("plugin_cache_dir", cty.StringVal(pluginCache))
	// The lock file is private and names only what was installed here, so a
	// cached provider may leave out the checksums of other platforms.
	body.SetAttributeValue("plugin_cache_may_break_dependency_lock_file", cty.True)
	body.SetAttributeValue("disable_checkpoint", cty.True)
	install := body.AppendNewBlock("provider_installation", nil).Body()
	if len(fromMirror) == 0 {
		install.AppendNewBlock("direct", nil)
		return f.Bytes()
	}
	list := make([]cty.Value, len(fromMirror))
	for i, addr := range fromMirror {
		list[i] = cty.StringVal(addr)
	}
	mirror := install.AppendNewBlock("filesystem_mirror", nil).Body()
	mirror.SetAttributeValue("path", cty.StringVal(mirrorDir))
	mirror.SetAttributeValue("include", cty.ListVal(list))
	install.AppendNewBlock("direct", nil).Body().SetAttributeValue("exclude", cty.ListVal(list))
	return f.Bytes()
}

// writeIfChanged writes a private file, atomically, unless it has the content
// already. A symbolic link in its place is replaced, not followed.
func writeIfChanged(file string, content []byte) error {
	if info, err := os.Lstat(file); err == nil && info.Mode().IsRegular() {
		old, err := os.ReadFile(file)
		if err == nil && string(old) == string(content) {
			return nil
		}
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return writePrivate(file, content)
}

// writePrivate writes a file of mode 0600 atomically.
func writePrivate(file string, content []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), ".tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // gone after the rename
	if _, err := tmp.Write(content); err != nil {
		return errors.Join(err, tmp.Close())
	}
	if err := errors.Join(tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), file)
}
