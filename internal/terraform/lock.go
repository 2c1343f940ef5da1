package terraform

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclwrite"
)

// locked is one provider of the dependency lock file: what init selected.
type locked struct {
	Address string
	Version string
	Hashes  []string
}

var (
	lockSchema       = &hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{{Type: "provider", LabelNames: []string{"address"}}}}
	lockedBodySchema = &hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "version"}, {Name: "hashes"}}}
)

// readLock reads the copy's lock file. None means that the module needs no
// provider from outside.
func (m *Module) readLock() ([]locked, error) {
	file := filepath.Join(m.paths.run, lockName)
	src, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read lock file: %w", err)
	}
	parsed, diags := hclparse.NewParser().ParseHCL(src, file)
	if err := invalid(diags); err != nil {
		return nil, err
	}
	content, err := blocks(parsed.Body, lockSchema)
	if err != nil {
		return nil, err
	}
	list := make([]locked, 0, len(content.Blocks))
	for _, b := range content.Blocks {
		inner, err := blocks(b.Body, lockedBodySchema)
		if err != nil {
			return nil, err
		}
		l := locked{Address: b.Labels[0]}
		if a := inner.Attributes["version"]; a != nil {
			l.Version, _ = literal(a.Expr)
		}
		if a := inner.Attributes["hashes"]; a != nil {
			items, diags := hcl.ExprList(a.Expr)
			if err := invalid(diags); err != nil {
				return nil, err
			}
			for _, item := range items {
				if h, ok := literal(item); ok {
					l.Hashes = append(l.Hashes, h)
				}
			}
		}
		list = append(list, l)
	}
	return list, nil
}

// installed reports whether every locked provider is in place for this
// platform, following the links into a mirror or cache.
func (m *Module) installed(list []locked) bool {
	for _, l := range list {
		if _, err := os.Stat(filepath.Join(m.paths.run, ".terraform", "providers", filepath.FromSlash(l.Address), l.Version, platform)); err != nil {
			return false
		}
	}
	return true
}

// sourceLock returns the user's lock file without the providers that come from
// the mirror, and the addresses that were left out.
func sourceLock(fsys fs.FS, base string, fromMirror []string) (content []byte, dropped []string, err error) {
	src, err := fs.ReadFile(fsys, path.Join(base, lockName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read lock file: %w", err)
	}
	return unlock(src, path.Join(base, lockName), fromMirror)
}

// unlock removes providers that come from the mirror from a lock file: one that
// was built from source has other checksums than the published one, and than
// the one that was built before, and the mirror need not have that version.
func unlock(src []byte, name string, fromMirror []string) (content []byte, dropped []string, err error) {
	f, diags := hclwrite.ParseConfig(src, name, hcl.InitialPos)
	if err := invalid(diags); err != nil {
		return nil, nil, err
	}
	for _, b := range f.Body().Blocks() {
		if labels := b.Labels(); b.Type() == "provider" && len(labels) == 1 && slices.Contains(fromMirror, labels[0]) {
			f.Body().RemoveBlock(b)
			dropped = append(dropped, labels[0])
		}
	}
	return f.Bytes(), dropped, nil
}

// unlockCopy does so in the copy's lock file before init selects anew.
func (m *Module) unlockCopy(fromMirror []string) error {
	file := filepath.Join(m.paths.run, lockName)
	src, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read lock file: %w", err)
	}
	content, _, err := unlock(src, file, fromMirror)
	if err != nil {
		return err
	}
	if err := writeIfChanged(file, content); err != nil {
		return fmt.Errorf("write lock file: %w", err)
	}
	return nil
}
