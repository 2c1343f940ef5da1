package terraform

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

// Limits of what is copied: beyond them the folder is most likely not a
// module's.
const (
	maxTreeBytes = 256 << 20
	maxTreeFiles = 20_000
)

// lockName is the tool's dependency lock file. It is not copied as it is: see
// seedLock.
const lockName = ".terraform.lock.hcl"

// sourceFile is one file of a module's folders.
type sourceFile struct {
	rel  string // slash path below the root
	exec bool
	link string // target of a symbolic link, else empty
	sum  string // SHA-256 of the content, in hex; empty for links
}

// readTree lists the files of the folders, which are slash paths below the
// root, and hashes them. What cannot be copied without leaving the folders is
// an Invalid fault.
func (m *Module) readTree(root *os.Root, dirs []string) ([]sourceFile, error) {
	var files []sourceFile
	var total int64
	for _, dir := range topmost(dirs) {
		err := fs.WalkDir(root.FS(), dir, func(rel string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if skipped(rel, e) {
				if e.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
			if e.IsDir() {
				return nil
			}
			f, size, err := m.readFile(root, rel, e, dirs)
			if err != nil {
				return err
			}
			files = append(files, f)
			if total += size; total > maxTreeBytes || len(files) > maxTreeFiles {
				return fault.New(fault.Invalid, fmt.Sprintf("%s is too large for a Terraform module", m.showSource(dir)),
					fmt.Sprintf("it holds more than %d MB or %d files", maxTreeBytes>>20, maxTreeFiles),
					"name the folder of the root module, and keep other things out of it")
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read module %q: %w", m.cfg.Name, err)
		}
	}
	slices.SortFunc(files, func(a, b sourceFile) int { return strings.Compare(a.rel, b.rel) })
	return files, nil
}

// topmost removes the folders that lie in another of the list.
func topmost(dirs []string) []string {
	var top []string
	for _, d := range dirs {
		if !slices.ContainsFunc(dirs, func(other string) bool { return other != d && contains(other, d) }) && !slices.Contains(top, d) {
			top = append(top, d)
		}
	}
	return top
}

// contains reports whether a path is a folder or lies in it. Both are clean
// slash paths; one that begins with ".." lies in none.
func contains(dir, p string) bool {
	return dir == "." && fs.ValidPath(p) || p == dir || strings.HasPrefix(p, dir+"/")
}

// skipped names what stays behind: the tool's own files, states and version
// control.
func skipped(rel string, e fs.DirEntry) bool {
	name := path.Base(rel)
	if e.IsDir() {
		return name == ".terraform" || name == ".git" || name == "terraform.tfstate.d"
	}
	return name == lockName || name == ".terraform.tfstate.lock.info" || name == "crash.log" ||
		strings.HasSuffix(name, ".tfstate") || strings.Contains(name, ".tfstate.")
}

func (m *Module) readFile(root *os.Root, rel string, e fs.DirEntry, dirs []string) (sourceFile, int64, error) {
	refuse := func(why string) error {
		return fault.New(fault.Invalid, fmt.Sprintf("%s cannot be part of the sandbox", m.showSource(rel)), why, "remove it from the module")
	}
	if strings.HasPrefix(path.Base(rel), overrideBase) {
		return sourceFile{}, 0, refuse("files of this name are the sandbox's own")
	}
	if e.Type()&fs.ModeSymlink != 0 {
		target, err := root.Readlink(rel)
		if err != nil {
			return sourceFile{}, 0, err
		}
		to := path.Join(path.Dir(rel), filepath.ToSlash(target))
		if filepath.IsAbs(target) || !slices.ContainsFunc(dirs, func(d string) bool { return contains(d, to) }) {
			return sourceFile{}, 0, refuse("it is a link to " + target + ", outside of the module")
		}
		if _, err := root.Stat(rel); err != nil {
			return sourceFile{}, 0, refuse("it is a link to " + target + ", which leads nowhere or outside")
		}
		return sourceFile{rel: rel, link: target}, 0, nil
	}
	info, err := e.Info()
	if err != nil {
		return sourceFile{}, 0, err
	}
	if !info.Mode().IsRegular() {
		return sourceFile{}, 0, refuse("it is neither a file nor a folder")
	}
	if info.Size() > maxTreeBytes {
		return sourceFile{}, info.Size(), nil // the caller reports the limit
	}
	sum, err := hashFile(root, rel)
	return sourceFile{rel: rel, exec: info.Mode()&0o111 != 0, sum: sum}, info.Size(), err
}

func hashFile(root *os.Root, rel string) (string, error) {
	f, err := root.Open(rel)
	if err != nil {
		return "", err
	}
	defer f.Close() // read only
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// showSource returns the user's path of a slash path below the root.
func (m *Module) showSource(rel string) string {
	return filepath.Join(m.cfg.Root, filepath.FromSlash(rel))
}

// copyTree brings the copy to the state of the source files. Only what differs
// is written, so that the tool's own files beside it stay good; files that an
// earlier copy brought and the source no longer has are removed. Files that
// the module itself has written into the copy are left alone.
func (m *Module) copyTree(src *os.Root, files []sourceFile) error {
	if err := os.MkdirAll(m.paths.run, 0o700); err != nil {
		return fmt.Errorf("create workspace of module %q: %w", m.cfg.Name, err)
	}
	dst, err := os.OpenRoot(m.paths.tree)
	if err != nil {
		return fmt.Errorf("open workspace of module %q: %w", m.cfg.Name, err)
	}
	defer dst.Close() // a directory handle
	old, err := m.readManifest()
	if err != nil {
		return err
	}
	now := make([]string, len(files))
	for i, f := range files {
		now[i] = f.rel
	}
	// Old names stay listed until they are gone, should this be interrupted.
	if err := m.writeManifest(append(slices.Clone(old), now...)); err != nil {
		return err
	}
	for _, rel := range old {
		if _, keep := slices.BinarySearch(now, rel); keep {
			continue
		}
		if err := dst.Remove(rel); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove %s from the copy of module %q: %w", rel, m.cfg.Name, err)
		}
	}
	for _, f := range files {
		if err := copyFile(src, dst, f); err != nil {
			return fmt.Errorf("copy %s of module %q: %w", f.rel, m.cfg.Name, err)
		}
	}
	return m.writeManifest(now)
}

func copyFile(src, dst *os.Root, f sourceFile) error {
	info, err := dst.Lstat(f.rel)
	there := err == nil
	switch {
	case there && info.Mode()&fs.ModeSymlink != 0:
		if target, err := dst.Readlink(f.rel); err == nil && f.link != "" && target == f.link {
			return nil
		}
	case there && info.IsDir():
		if err := dst.RemoveAll(f.rel); err != nil {
			return err
		}
	case there && f.link == "" && (info.Mode()&0o100 != 0) == f.exec:
		if sum, err := hashFile(dst, f.rel); err == nil && sum == f.sum {
			return nil
		}
	}
	if err := dst.MkdirAll(path.Dir(f.rel), 0o700); err != nil {
		return err
	}
	if err := dst.Remove(f.rel); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if f.link != "" {
		return dst.Symlink(f.link, f.rel)
	}
	mode := fs.FileMode(0o600)
	if f.exec {
		mode = 0o700
	}
	in, err := src.Open(f.rel)
	if err != nil {
		return err
	}
	defer in.Close() // read only
	out, err := dst.OpenFile(f.rel, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return errors.Join(err, out.Close())
	}
	return out.Close()
}

// readManifest returns the names that earlier copies brought.
func (m *Module) readManifest() ([]string, error) {
	data, err := os.ReadFile(m.paths.manifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	if err == nil {
		err = json.Unmarshal(data, &names)
	}
	if err != nil {
		return nil, fmt.Errorf("read file list of module %q: %w", m.cfg.Name, err)
	}
	return names, nil
}

func (m *Module) writeManifest(names []string) error {
	slices.Sort(names)
	data, err := json.Marshal(slices.Compact(names))
	if err == nil {
		err = writeIfChanged(m.paths.manifest, data)
	}
	if err != nil {
		return fmt.Errorf("write file list of module %q: %w", m.cfg.Name, err)
	}
	return nil
}
