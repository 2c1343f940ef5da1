package observe

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// fileSet is the content of a configuration folder: slash-separated relative
// path → content.
type fileSet map[string][]byte

// hash identifies the content.
func (f fileSet) hash() string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(f)) {
		fmt.Fprintf(h, "%s\x00%d\x00", name, len(f[name]))
		h.Write(f[name])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// readFiles returns the content of a folder; a missing folder is empty.
func readFiles(dir string) (fileSet, error) {
	files := fileSet{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return nil
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files[filepath.ToSlash(rel)] = content
		return nil
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read %s: %w", dir, err)
	}
	return files, nil
}

// write makes dir hold exactly the set, the file named last after all others,
// so that what refers to other files never refers to one that is not there
// yet. Each file is replaced in one go; files that are as they should be are
// left alone.
func (f fileSet) write(dir, last string) error {
	old, err := readFiles(dir)
	if err != nil {
		return err
	}
	names := slices.Sorted(maps.Keys(f))
	if i := slices.Index(names, last); i >= 0 {
		names = append(slices.Delete(names, i, i+1), last)
	}
	for _, name := range names {
		if content, ok := old[name]; ok && bytes.Equal(content, f[name]) {
			continue
		}
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return fmt.Errorf("write configuration: %w", err)
		}
		if err := replaceFile(path, f[name]); err != nil {
			return err
		}
	}
	for name := range old {
		if _, wanted := f[name]; !wanted {
			if err := os.Remove(filepath.Join(dir, filepath.FromSlash(name))); err != nil {
				return fmt.Errorf("remove old configuration: %w", err)
			}
		}
	}
	return nil
}

// replaceFile writes a file of mode 0600 so that a reader sees either the old
// or the new content.
func replaceFile(path string, content []byte) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*") // created with mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(tmp.Name()))
		}
	}()
	if _, err := tmp.Write(content); err != nil {
		return errors.Join(err, tmp.Close())
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
