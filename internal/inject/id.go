package inject

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// newID returns an ID of a fault: its kind and six hexadecimal digits, which
// fits into the names of what is made for it.
func newID(kind string) string {
	digits := make([]byte, 3)
	_, _ = rand.Read(digits) // never fails
	return kind + "-" + hex.EncodeToString(digits)
}

// short returns the digits of an ID.
func short(id string) string { return id[strings.LastIndexByte(id, '-')+1:] }

// newRecord returns the record of a fault. Whose alert it is for, the caller adds.
func newRecord(kind, what string, level Level, data any, targets ...string) (Record, error) {
	rec := Record{ID: newID(kind), Kind: kind, What: what, Targets: targets, Level: level, Since: time.Now().UTC()}
	return rec, rec.keep(data)
}

// keep puts the injector's own data into the record.
func (r *Record) keep(data any) error {
	raw, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("record the fault %s: %w", r.ID, err)
	}
	r.Data = raw
	return nil
}

// read reads the injector's own data.
func (r Record) read(data any) error {
	if err := json.Unmarshal(r.Data, data); err != nil {
		return fmt.Errorf("read the record of the fault %s: %w", r.ID, err)
	}
	return nil
}

// labelDrill is the label of what is made in the cluster for a fault: its ID.
const labelDrill = "sandbox.drill"

// labels are those of what is made in the cluster for a fault.
func (w World) labels(rec Record) map[string]string {
	return map[string]string{
		runtime.LabelName: w.Sandbox, runtime.LabelRun: w.Run, runtime.LabelComponent: "drill", labelDrill: rec.ID,
	}
}

// steady is a fault that stays until it is undone.
type steady struct{}

// Sustain waits for the end.
func (steady) Sustain(ctx context.Context, _ Record) error {
	<-ctx.Done()
	return nil
}
