package doctor

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"

	"github.com/sandbox-stack/sandbox/internal/state"
)

// heardFile notes, in the cache, which warnings were shown.
const heardFile = "warned.json"

// Unheard returns the warnings that the user was not shown yet, and notes that
// they are shown now. One that went away and comes back is new. The error is
// about the note: the warnings are there all the same.
func Unheard(cacheDir string, report Report) (fresh []Result, err error) {
	path := filepath.Join(cacheDir, heardFile)
	var heard []string
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &heard)
	}
	if err != nil {
		heard = nil // no note, or a damaged one, costs a repeated warning
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
	text, err = json.Marshal(now)
	if err == nil {
		err = os.MkdirAll(cacheDir, 0o700)
	}
	if err == nil {
		err = state.WriteFile(path, text)
	}
	return fresh, err
}
