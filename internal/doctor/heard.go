package doctor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// heardFile notes, in the cache, which warnings were shown.
const heardFile = "warned.json"

// Unheard returns the warnings that the user was not shown yet, and notes that
// they are shown now. One that went away and comes back is new.
func Unheard(cacheDir string, report Report) (fresh []Result, err error) {
	path := filepath.Join(cacheDir, heardFile)
	var heard []string
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &heard)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		heard = nil // a damaged note costs a repeated warning
	}
	var now []string
	for _, c := range report.Checks {
		if c.State != Warn {
			continue
		}
		now = append(now, c.ID)
		if !slices.Contains(heard, c.ID) {
			fresh = append(fresh, c)
		}
	}
	if slices.Equal(now, heard) {
		return fresh, nil
	}
	return fresh, writeNote(path, now)
}

// writeNote replaces the file, so that a reader never sees half of it.
func writeNote(path string, ids []string) error {
	text, err := json.Marshal(ids)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), heardFile+"-*")
	if err != nil {
		return err
	}
	_, err = temp.Write(text)
	if err = errors.Join(err, temp.Close()); err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("%w", errors.Join(err, os.Remove(temp.Name())))
	}
	return nil
}
