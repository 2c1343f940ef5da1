// Package stacks holds the stacks that come with sandbox, and the JSON schema of
// a stack file.
package stacks

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Schema is the JSON schema of a stack file. It is generated from the Go types
// of the package internal/stack.
//
//go:embed schema.json
var Schema []byte

// content lists what belongs to the stacks, so that what tools leave in their
// folders (node_modules, .terraform) stays out.
//
//go:embed minimal/stack.yaml minimal/app all:minimal/chart
//go:embed web-app/stack.yaml web-app/alerts.yaml web-app/tests/*.yaml web-app/dashboards/*.json web-app/terraform/*.tf
//go:embed web-app/app/Dockerfile web-app/app/.dockerignore web-app/app/*.json web-app/app/src web-app/app/test
//go:embed all:web-app/chart
var content embed.FS

// Names returns the names of the stacks that come with sandbox, sorted.
func Names() []string {
	entries, err := content.ReadDir(".")
	if err != nil {
		panic(fmt.Sprintf("read the embedded stacks: %v", err)) // the root of an embed.FS always opens
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names
}

// Materialize writes the stack of a name to a folder of that name below dir and
// returns the folder. Files that are already as they should be are not touched;
// files that do not belong to the stack are removed. It fails with
// fs.ErrNotExist where there is no stack of that name.
func Materialize(name, dir string) (string, error) {
	if !slices.Contains(Names(), name) {
		return "", fmt.Errorf("open the stack %q: %w", name, fs.ErrNotExist)
	}
	stack, err := fs.Sub(content, name)
	if err != nil {
		return "", fmt.Errorf("open the stack %q: %w", name, err)
	}
	target := filepath.Join(dir, name)
	if err := os.MkdirAll(target, 0o700); err != nil {
		return "", fmt.Errorf("create the folder of stack %q: %w", name, err)
	}
	// Writes go through the root, so that a link planted in the folder can't
	// lead them out of it.
	root, err := os.OpenRoot(target)
	if err != nil {
		return "", fmt.Errorf("open the folder of stack %q: %w", name, err)
	}
	defer root.Close() // a folder handle: nothing is lost when closing fails
	if err := removeForeign(root, stack); err != nil {
		return "", fmt.Errorf("clean the folder of stack %q: %w", name, err)
	}
	if err := writeAll(root, stack); err != nil {
		return "", fmt.Errorf("write the stack %q: %w", name, err)
	}
	return target, nil
}

// removeForeign removes what the stack does not have, or has as something else.
func removeForeign(root *os.Root, stack fs.FS) error {
	return fs.WalkDir(root.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		want, err := fs.Stat(stack, path)
		if err == nil && want.IsDir() == d.IsDir() && (d.IsDir() || d.Type().IsRegular()) {
			return nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := root.RemoveAll(path); err != nil {
			return err
		}
		if d.IsDir() {
			return fs.SkipDir
		}
		return nil
	})
}

// writeAll writes the files that are missing or differ, each in one rename.
func writeAll(root *os.Root, stack fs.FS) error {
	return fs.WalkDir(stack, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return root.MkdirAll(path, 0o755)
		}
		data, err := fs.ReadFile(stack, path)
		if err != nil {
			return err
		}
		if have, err := root.ReadFile(path); err == nil && bytes.Equal(have, data) {
			return nil
		}
		next := fmt.Sprintf("%s.%d.new", path, os.Getpid())
		if err := root.WriteFile(next, data, 0o644); err != nil {
			return err
		}
		return root.Rename(next, path)
	})
}
