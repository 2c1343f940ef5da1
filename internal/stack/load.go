package stack

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

// Load reads and validates a stack: path is a stack file or a folder with one.
// Use Find to accept the name of a stack that comes with sandbox as well.
//
// An error about the content has code fault.Invalid and a position; where there
// are several, AllProblems returns them.
func Load(path string) (*Stack, error) {
	file, err := stackFile(path)
	if err != nil {
		return nil, err
	}
	data, err := readFile(file, maxBytes)
	if err != nil {
		return nil, err
	}
	dir, err := realDir(filepath.Dir(file))
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "check the path", "can't open the folder of %s", file)
	}
	return parse(file, dir, data)
}

// parse turns the content of a stack file in dir into a stack.
func parse(file, dir string, data []byte) (*Stack, error) {
	r := &report{}
	doc, pos := parseYAML(file, data, r)
	if err := r.err(); err != nil {
		return nil, err
	}
	if err := checkSchema(doc, pos, r); err != nil {
		return nil, fmt.Errorf("check %s: %w", file, err)
	}
	if err := r.err(); err != nil {
		return nil, err
	}
	s := &Stack{Dir: dir, File: file, positions: pos}
	if err := decode(doc, s); err != nil {
		return nil, fmt.Errorf("decode %s: %w", file, err)
	}
	s.setDefaults()
	s.check(r)
	if err := r.err(); err != nil {
		return nil, err
	}
	return s, nil
}

// stackFile returns the stack file that path means.
func stackFile(path string) (string, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fault.New(fault.Invalid, fmt.Sprintf("no stack at %s", quote(path)), "there is no such file or folder", "give a folder with a "+FileName)
	}
	if err != nil {
		return "", fault.Wrap(fault.Invalid, err, "check the path and its permissions", "can't open %s", quote(path))
	}
	if !info.IsDir() {
		return path, nil
	}
	file := filepath.Join(path, FileName)
	info, err = os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fault.New(fault.Invalid, fmt.Sprintf("no %s in %s", FileName, quote(path)), "a stack is a folder with a "+FileName, "give the folder that holds it, or the file itself")
	case err != nil:
		return "", fault.Wrap(fault.Invalid, err, "check its permissions", "can't open %s", quote(file))
	case info.IsDir():
		return "", fault.New(fault.Invalid, fmt.Sprintf("%s is a folder", quote(file)), "the stack file is a regular file", "move the stack into a file of this name")
	}
	return file, nil
}

// readFile reads a regular file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "check the path and its permissions", "can't read %s", quote(path))
	}
	if !info.Mode().IsRegular() {
		return nil, fault.New(fault.Invalid, fmt.Sprintf("%s is not a regular file", quote(path)), "a pipe, a device or a socket can't be read as a file", "give a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "check its permissions", "can't read %s", quote(path))
	}
	defer f.Close() // read only: nothing is lost when closing fails
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "check the file", "can't read %s", quote(path))
	}
	if int64(len(data)) > limit {
		return nil, fault.New(fault.Invalid, fmt.Sprintf("%s is larger than %d KiB", quote(path), limit>>10), "size limit", "move values into values files of the chart")
	}
	return data, nil
}

// realDir returns the absolute path of a folder with symbolic links resolved.
func realDir(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("make %s absolute: %w", dir, err)
	}
	resolved, err := filepath.EvalSymlinks(abs)
	if err != nil {
		return "", fmt.Errorf("resolve %s: %w", dir, err)
	}
	return resolved, nil
}
