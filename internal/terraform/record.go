package terraform

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// recordSchema is the version of the record's form. A record of another
// version is treated as if there were none.
const recordSchema = 1

// record is what this package remembers of a workspace between runs.
type record struct {
	Schema int `json:"schema"`
	// Generation of the emulator that the state belongs to.
	Generation string `json:"generation"`
	// InitKey identifies what the last successful init was for.
	InitKey string `json:"initKey,omitempty"`
	// SourceLock is the hash of the user's lock file that was taken over.
	SourceLock string `json:"sourceLock,omitempty"`
	// Fingerprint identifies what the last successful apply was for; empty
	// after one that failed or is under way.
	Fingerprint string `json:"fingerprint,omitempty"`
	// StateSum is the hash of the state that it left.
	StateSum  string    `json:"stateSum,omitempty"`
	Resources int       `json:"resources"`
	Tool      string    `json:"tool,omitempty"`
	AppliedAt time.Time `json:"appliedAt,omitzero"`
	// Applying is when the apply that is under way, or was killed, began.
	Applying time.Time `json:"applying,omitzero"`
	// Failure is why the last apply failed.
	Failure string `json:"failure,omitempty"`
}

// readRecord returns an empty record where there is none.
func (m *Module) readRecord() (record, error) {
	data, err := os.ReadFile(m.paths.record)
	if errors.Is(err, fs.ErrNotExist) {
		return record{Schema: recordSchema}, nil
	}
	if err != nil {
		return record{}, fmt.Errorf("read record of module %q: %w", m.cfg.Name, err)
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return record{}, fmt.Errorf("read record of module %q in %s: %w", m.cfg.Name, m.paths.record, err)
	}
	if r.Schema != recordSchema {
		return record{Schema: recordSchema}, nil
	}
	return r, nil
}

// withoutEmulator reports whether the module was applied to an emulator and
// there is none now.
func (m *Module) withoutEmulator(r record) bool { return r.Generation != "" && m.cfg.Generation == "" }

func (m *Module) writeRecord(r record) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = writePrivate(m.paths.record, append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write record of module %q: %w", m.cfg.Name, err)
	}
	return nil
}

// fingerprint identifies everything that decides what an apply would do.
func (m *Module) fingerprint(files []sourceFile, fromMirror []string, lockSum, toolPath string) (string, error) {
	info, err := os.Stat(toolPath)
	if err != nil {
		return "", fmt.Errorf("look at %s: %w", toolPath, err)
	}
	return digest(map[string]any{
		"files": files2map(files), "lock": lockSum, "vars": m.cfg.Vars,
		"endpoint": m.cfg.Endpoint, "region": m.cfg.Region, "generation": m.cfg.Generation,
		"mirror": fromMirror, "tool": toolPath, "toolSize": info.Size(), "toolTime": info.ModTime().UnixNano(),
	})
}

func files2map(files []sourceFile) map[string]string {
	m := make(map[string]string, len(files))
	for _, f := range files {
		m[f.rel] = fmt.Sprintf("%t %s %s", f.exec, f.sum, f.link)
	}
	return m
}

// digest hashes a value's JSON form, in which map keys are sorted.
func digest(v any) (string, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("hash: %w", err)
	}
	return digestBytes(data), nil
}

func digestBytes(data []byte) string {
	h := sha256.Sum256(data)
	return hex.EncodeToString(h[:])
}
