package terraform

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// stateFile is a Terraform state, format 4, as far as it is used here. The
// format has been the same since Terraform 0.12 and in every OpenTofu.
type stateFile struct {
	Version   int    `json:"version"`
	Lineage   string `json:"lineage"`
	Resources []struct {
		Mode      string            `json:"mode"`
		Type      string            `json:"type"`
		Instances []json.RawMessage `json:"instances"`
	} `json:"resources"`
	Outputs map[string]Output `json:"outputs"`
}

// managed counts the resources that exist because of the module.
func (s *stateFile) managed() int {
	n := 0
	for _, r := range s.Resources {
		if r.Mode == "managed" {
			n += len(r.Instances)
		}
	}
	return n
}

var errCorrupt = errors.New("the state is not complete")

// readState returns nil where there is no state or an empty one, and errCorrupt
// where the file was cut off, as by a crash while it was written.
func readState(file string) (st *stateFile, sum string, err error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(data) == 0 {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("read state: %w", err)
	}
	h := sha256.Sum256(data)
	sum = hex.EncodeToString(h[:])
	var s stateFile
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, sum, fmt.Errorf("%w: %w", errCorrupt, err)
	}
	if s.Version != 4 || s.Lineage == "" {
		return nil, sum, fmt.Errorf("%w: version %d", errCorrupt, s.Version)
	}
	return &s, sum, nil
}

// prepareState makes the state fit what the emulator holds before an apply. A
// state of an earlier generation is set aside, and lost says how many resources
// it named. A torn state is replaced by the last complete one. What remains is
// copied before the tool, which writes in place, touches it.
func (m *Module) prepareState(rec record, rep event.Reporter) (lost int, err error) {
	st, _, err := readState(m.paths.state)
	corrupt := errors.Is(err, errCorrupt)
	if err != nil && !corrupt {
		return 0, err
	}
	if rec.Generation != "" && rec.Generation != m.cfg.Generation {
		// rec counts the resources, should the state be unreadable.
		lost = rec.Resources
		if st != nil {
			lost = st.managed()
		}
		moved, err := m.setAside("lost-with-emulator")
		if err != nil {
			return 0, err
		}
		if moved != "" {
			rep.Log("sandbox", fmt.Sprintf("the emulator was recreated and %d resources were lost; their state is kept in %s", lost, moved))
		}
		return lost, nil
	}
	if corrupt {
		moved, err := m.setAside("corrupt")
		if err != nil {
			return 0, err
		}
		rep.Log("sandbox", "the state of "+m.cfg.Name+" was corrupt; backup at "+moved)
		return 0, m.restoreState(rep)
	}
	if st == nil {
		return 0, nil
	}
	data, err := os.ReadFile(m.paths.state)
	if err == nil {
		err = writeIfChanged(m.paths.snapshot, data)
	}
	if err != nil {
		return 0, fmt.Errorf("keep the state as it was before apply: %w", err)
	}
	return 0, nil
}

// setAside moves the state, and what could be restored from, into backups and
// returns the path of the state there, or "" where there was none.
func (m *Module) setAside(why string) (string, error) {
	if err := os.MkdirAll(m.paths.backups, 0o700); err != nil {
		return "", fmt.Errorf("back up state: %w", err)
	}
	stamp := time.Now().UTC().Format("20060102T150405.000")
	target := filepath.Join(m.paths.backups, fmt.Sprintf("%s-%s.tfstate", stamp, why))
	if err := os.Rename(m.paths.state, target); errors.Is(err, fs.ErrNotExist) {
		target = ""
	} else if err != nil {
		return "", fmt.Errorf("back up state: %w", err)
	}
	if why == "corrupt" {
		return target, nil
	}
	for _, f := range []string{m.paths.snapshot, m.paths.state + ".backup", m.paths.outputs} {
		if err := os.Remove(f); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("back up state: %w", err)
		}
	}
	return target, nil
}

// restoreState brings back the newest complete state: the tool's own backup or
// the copy from before the last apply. With neither the state starts empty.
func (m *Module) restoreState(rep event.Reporter) error {
	for _, f := range []string{m.paths.state + ".backup", m.paths.snapshot} {
		st, _, err := readState(f)
		if err != nil && !errors.Is(err, errCorrupt) {
			return err
		}
		if err != nil || st == nil {
			continue
		}
		data, err := os.ReadFile(f)
		if err == nil {
			err = writePrivate(m.paths.state, data)
		}
		if err != nil {
			return fmt.Errorf("restore state: %w", err)
		}
		rep.Log("sandbox", fmt.Sprintf("restored the state of %s from before the last apply: %d resources", m.cfg.Name, st.managed()))
		return nil
	}
	return nil
}

// protectState takes the group's and others' rights from the files that the
// tool creates, whatever the umask is.
func (m *Module) protectState() error {
	for _, f := range []string{m.paths.state, m.paths.state + ".backup", m.paths.plan} {
		if err := os.Chmod(f, 0o600); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("protect %s: %w", f, err)
		}
	}
	return nil
}
