package packages

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Expire removes from the cache what no build has used since before: artifacts
// that no recipe gives any more, and parts. It returns the number of folders
// it removed. What a build works on at the moment is left alone.
func (b *Builder) Expire(ctx context.Context, before time.Time) (removed int, err error) {
	current, err := b.currentArtifacts()
	if err != nil {
		return 0, err
	}
	for _, pattern := range []string{"images/*/*", "parts/*"} {
		found, err := filepath.Glob(filepath.Join(b.cache, filepath.FromSlash(pattern)))
		if err != nil {
			return removed, fmt.Errorf("list cache: %w", err)
		}
		for _, dir := range found {
			if ctx.Err() != nil {
				return removed, context.Cause(ctx)
			}
			if current[dir] || strings.HasSuffix(dir, ".lock") || strings.HasSuffix(dir, ".partial") {
				continue
			}
			gone, err := expireFolder(dir, before)
			if err != nil {
				return removed, err
			}
			if gone {
				removed++
			}
		}
	}
	return removed, nil
}

// currentArtifacts returns the folders of what today's recipes give.
func (b *Builder) currentArtifacts() (map[string]bool, error) {
	all, err := b.Recipes()
	if err != nil {
		return nil, err
	}
	current := map[string]bool{}
	for _, r := range all {
		a, err := b.Plan(r.Name)
		if err != nil {
			return nil, err
		}
		current[b.artifactDir(a)] = true
	}
	return current, nil
}

func expireFolder(dir string, before time.Time) (bool, error) {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("clean the cache: %w", err)
	}
	if !info.IsDir() || info.ModTime().After(before) {
		return false, nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return false, fmt.Errorf("clean the cache: %w", err)
	}
	return true, nil
}

// markUsed notes that a folder of the cache was of use just now. Where the
// cache is read-only that cannot be noted, and nothing is removed either.
func markUsed(dir string) error {
	now := time.Now()
	err := os.Chtimes(dir, now, now)
	if errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return err
}
