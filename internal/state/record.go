package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

// RecordSchema is the version of the record's JSON form.
const RecordSchema = 1

// ErrNoRecord says that a sandbox has no record: it was never brought up, or
// its record is lost.
var ErrNoRecord = errors.New("no record of this sandbox")

// Record is what sandbox knows of a sandbox it brought up. It helps to find
// things again; what really is there, only the engine and the cluster know.
type Record struct {
	Schema int `json:"schema"`
	// Name of the sandbox.
	Name string `json:"name"`
	// Run is the ID of the last run that changed it.
	Run string `json:"run,omitempty"`
	// Engine that its containers run in, such as "podman 4.3.1".
	Engine string `json:"engine,omitempty"`
	// Stack is the name of the stack, StackFile and StackDir where it is.
	Stack     string `json:"stack,omitempty"`
	StackFile string `json:"stackFile,omitempty"`
	StackDir  string `json:"stackDir,omitempty"`
	// Network is the name of its private network.
	Network string `json:"network,omitempty"`
	// Ports maps a component to its port on this host.
	Ports map[string]int `json:"ports,omitempty"`
	// Resources lists what was created, in order.
	Resources []Resource `json:"resources,omitempty"`
	// Facts holds the versions of tools and providers in use, and the like:
	// "terraform": "1.11.4".
	Facts map[string]string `json:"facts,omitempty"`
	// Steps tells how each step of the last run ended.
	Steps map[string]StepRecord `json:"steps,omitempty"`

	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
}

// Resource is one thing that was created.
type Resource struct {
	// Kind is "container", "network", "volume", "image", "cluster",
	// "release" or "process".
	Kind      string `json:"kind"`
	Name      string `json:"name"`
	ID        string `json:"id,omitempty"`
	Component string `json:"component,omitempty"`
}

// StepRecord is how a step ended.
type StepRecord struct {
	Outcome string    `json:"outcome"`
	Note    string    `json:"note,omitempty"`
	At      time.Time `json:"at"`
}

// Add puts r into the record, in the place of one of the same kind and name.
func (rec *Record) Add(r Resource) {
	same := func(old Resource) bool { return old.Kind == r.Kind && old.Name == r.Name }
	if i := slices.IndexFunc(rec.Resources, same); i >= 0 {
		rec.Resources[i] = r
		return
	}
	rec.Resources = append(rec.Resources, r)
}

// SetPort notes the port on this host where the component answers.
func (rec *Record) SetPort(component string, port int) {
	if rec.Ports == nil {
		rec.Ports = map[string]int{}
	}
	rec.Ports[component] = port
}

// SetFact notes a fact.
func (rec *Record) SetFact(key, value string) {
	if rec.Facts == nil {
		rec.Facts = map[string]string{}
	}
	rec.Facts[key] = value
}

// SetStep notes how a step ended.
func (rec *Record) SetStep(id string, s StepRecord) {
	if rec.Steps == nil {
		rec.Steps = map[string]StepRecord{}
	}
	rec.Steps[id] = s
}

func (d *Dir) recordPath() string { return filepath.Join(d.path, "sandbox.json") }

// Record reads the record. The error wraps ErrNoRecord where there is none,
// and is a *fault.Error where it cannot be read.
func (d *Dir) Record() (Record, error) {
	raw, err := os.ReadFile(d.recordPath())
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, fmt.Errorf("sandbox %q: %w", d.name, ErrNoRecord)
	}
	if err != nil {
		return Record{}, fmt.Errorf("read the record of sandbox %q: %w", d.name, err)
	}
	var rec Record
	if err := json.Unmarshal(raw, &rec); err != nil {
		return Record{}, fault.Wrap(fault.Failed, err, "sandbox down --name "+d.name+", which goes by labels and needs no record",
			"the record %s is damaged", d.recordPath())
	}
	if rec.Schema != RecordSchema {
		return Record{}, fault.New(fault.Failed,
			fmt.Sprintf("the record %s has schema %d", d.recordPath(), rec.Schema),
			fmt.Sprintf("this version of sandbox reads schema %d", RecordSchema),
			"use the version of sandbox that brought it up")
	}
	return rec, nil
}

// Update reads the record, or begins one, lets change change it and writes it
// back whole. An error of change is returned and nothing is written. The
// caller holds the Lock; steps of one process may call it at the same time.
func (d *Dir) Update(change func(*Record) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()

	now := time.Now().UTC()
	rec, err := d.Record()
	if errors.Is(err, ErrNoRecord) {
		rec, err = Record{Created: now}, nil
	}
	if err != nil {
		return err
	}
	if err := change(&rec); err != nil {
		return err
	}
	rec.Schema, rec.Name, rec.Updated = RecordSchema, d.name, now
	raw, err := json.MarshalIndent(rec, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the record of sandbox %q: %w", d.name, err)
	}
	return WriteFile(d.recordPath(), append(raw, '\n'))
}
