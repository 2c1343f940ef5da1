package packages

import (
	"archive/tar"
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// epoch is the time stamp of everything that the builder itself writes, so
// that the same inputs give the same bytes.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// layerWriter writes an uncompressed layer: a tar file and its digest.
// Layers stay uncompressed because they never travel: an engine on the same
// host loads them, and packing and unpacking would cost more than the copy.
type layerWriter struct {
	file *os.File
	buf  *bufio.Writer
	sum  hash.Hash
	tar  *tar.Writer
}

func createLayer(file string) (*layerWriter, error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("create layer: %w", err)
	}
	w := &layerWriter{file: f, sum: sha256.New()}
	w.buf = bufio.NewWriterSize(io.MultiWriter(f, w.sum), 1<<20)
	w.tar = tar.NewWriter(w.buf)
	return w, nil
}

// close finishes the layer and returns its sha256 in hex.
func (w *layerWriter) close() (string, error) {
	err := errors.Join(w.tar.Close(), w.buf.Flush(), w.file.Close())
	if err != nil {
		return "", fmt.Errorf("finish layer: %w", err)
	}
	return hex.EncodeToString(w.sum.Sum(nil)), nil
}

// copyTar copies the entries of a tar stream that keep accepts. Names are
// normalised to what layers use: no leading "./" or "/".
func (w *layerWriter) copyTar(ctx context.Context, r io.Reader, keep func(name string) bool) error {
	in := tar.NewReader(r)
	for {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read tar: %w", err)
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		name := path.Join("/", header.Name)
		if name == "/" || !keep(name) {
			continue
		}
		if header.Typeflag == tar.TypeLink {
			header.Linkname = strings.TrimPrefix(path.Join("/", header.Linkname), "/")
		}
		header.Name = strings.TrimPrefix(name, "/")
		if header.Typeflag == tar.TypeDir {
			header.Name += "/"
		}
		// Names of users differ between hosts; the numbers count.
		header.Uname, header.Gname = "", ""
		header.Format = tar.FormatUnknown
		header.AccessTime, header.ChangeTime = time.Time{}, time.Time{}
		header.ModTime = header.ModTime.Truncate(time.Second)
		if err := w.tar.WriteHeader(header); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		if _, err := io.Copy(w.tar, in); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
}

// entry is one path of a layer made from files.
type entry struct {
	name   string // absolute, or relative in a tree
	mode   fs.FileMode
	uid    int
	gid    int
	link   string // target of a symbolic link
	source string // host file with the content
	data   []byte // the content itself where source is empty
}

// placed collects entries; a later one of the same name wins.
type placed map[string]entry

func (p placed) add(e entry) { p[e.name] = e }

func (p placed) sorted() []entry {
	entries := make([]entry, 0, len(p))
	for _, e := range p {
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.name, b.name) })
	return entries
}

// withParents adds the folders that lead to the entries, so that extracting
// the layer alone gives the right modes.
func (p placed) withParents() placed {
	all := placed{}
	for _, e := range p.sorted() {
		for dir := path.Dir(e.name); dir != "/" && dir != "."; dir = path.Dir(dir) {
			if _, there := p[dir]; !there {
				all.add(entry{name: dir, mode: fs.ModeDir | 0o755})
			}
		}
		all.add(e)
	}
	return all
}

// writeEntries writes entries in the order given.
func (w *layerWriter) writeEntries(entries []entry) error {
	for _, e := range entries {
		if err := w.writeEntry(e); err != nil {
			return fmt.Errorf("write %s: %w", e.name, err)
		}
	}
	return nil
}

func (w *layerWriter) writeEntry(e entry) error {
	header := &tar.Header{
		Name: strings.TrimPrefix(e.name, "/"), Mode: int64(e.mode.Perm()), Uid: e.uid, Gid: e.gid, ModTime: epoch,
	}
	if e.mode&fs.ModeSticky != 0 {
		header.Mode |= 0o1000
	}
	switch {
	case e.mode.IsDir():
		header.Typeflag, header.Name = tar.TypeDir, header.Name+"/"
		return w.tar.WriteHeader(header)
	case e.link != "":
		header.Typeflag, header.Linkname, header.Mode = tar.TypeSymlink, e.link, 0o777
		return w.tar.WriteHeader(header)
	case e.source == "":
		header.Typeflag, header.Size = tar.TypeReg, int64(len(e.data))
		if err := w.tar.WriteHeader(header); err != nil {
			return err
		}
		_, err := w.tar.Write(e.data)
		return err
	}
	f, err := os.Open(e.source)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	header.Typeflag, header.Size = tar.TypeReg, info.Size()
	if err := w.tar.WriteHeader(header); err != nil {
		return err
	}
	_, err = io.Copy(w.tar, f)
	return err
}

// writeTree writes the entries below a folder of this host.
func writeTree(root string, entries []entry) error {
	for _, e := range entries {
		target := filepath.Join(root, filepath.FromSlash(e.name))
		if err := writeTreeEntry(target, e); err != nil {
			return fmt.Errorf("write %s: %w", e.name, err)
		}
	}
	return nil
}

func writeTreeEntry(target string, e entry) error {
	if e.mode.IsDir() {
		return os.MkdirAll(target, e.mode.Perm())
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	if e.link != "" {
		return os.Symlink(e.link, target)
	}
	if e.source == "" {
		return os.WriteFile(target, e.data, e.mode.Perm())
	}
	info, err := os.Stat(e.source)
	if err != nil {
		return err
	}
	if info.Mode().Perm() == e.mode.Perm() {
		return linkOrCopy(e.source, target) // a program may be placed twice, and be large
	}
	f, err := os.Open(e.source)
	if err != nil {
		return err
	}
	defer f.Close()
	return copyTo(target, f, e.mode.Perm())
}

func copyTo(target string, r io.Reader, mode fs.FileMode) error {
	f, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
