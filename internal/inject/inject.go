// Package inject breaks parts of a sandbox on purpose, for drills, and undoes it.
//
// What a fault changes is recorded before anything is changed, so that another
// process can undo it when the one that broke it was killed. Undo may be called
// again and again, also where nothing was broken or the thing itself is gone.
package inject

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/stack"
)

// Record is a fault as it is kept in the state directory: enough to undo it.
type Record struct {
	// ID is unique among the faults of a sandbox, and fit for a name in
	// Kubernetes and in an engine.
	ID string `json:"id"`
	// Kind is that of the stack file: crash, kill, scale …
	Kind string `json:"kind"`
	// Alert is the drill's.
	Alert string `json:"alert"`
	// What says what is broken, for people: "scale production/deployment/web-app to 0".
	What string `json:"what"`
	// Targets are what the fault touches. No two faults that are there at the same
	// time may share one.
	Targets []string `json:"targets"`
	// Level is what has to be there for the fault to be undone.
	Level Level     `json:"level"`
	Since time.Time `json:"since"`
	// Data is the injector's own.
	Data json.RawMessage `json:"data,omitempty"`
}

// Breaks says whether something is broken: a record of what is to be cleaned up
// breaks nothing.
func (rec Record) Breaks() bool { return len(rec.Targets) > 0 }

// Level is what has to be there for a fault to be undone.
type Level string

// The levels, in the order in which they come up.
const (
	LevelEngine  Level = "engine"  // the container engine
	LevelCluster Level = "cluster" // the cluster's API
	LevelStack   Level = "stack"   // everything else: the emulator with its modules, the releases
)

// Injector is one fault that a drill injects.
type Injector interface {
	// Prepare finds what the fault is to hit and changes nothing. What is not
	// there is an error of code fault.Invalid that says what was looked for.
	// The caller keeps the record before it calls Inject.
	Prepare(ctx context.Context) (Record, error)
	// Inject breaks it. It returns once the fault is there.
	Inject(ctx context.Context, rec Record) error
	// Sustain keeps it broken until ctx ends, where that takes something to be
	// done again and again; otherwise it just waits for that. Its error means
	// that the fault could not be kept up.
	Sustain(ctx context.Context, rec Record) error
	// Undo mends it.
	Undo(ctx context.Context, rec Record) error
}

// World is the sandbox that faults are injected into. The functions are called
// when they are needed, as what they give may change, or not be there.
type World struct {
	// Sandbox is the sandbox's name and Run the ID of this run, for labels.
	Sandbox, Run string
	// Network is the sandbox's network in the engine.
	Network string
	Engine  runtime.Runtime
	// Kube returns a client of the cluster.
	Kube func() (kubernetes.Interface, error)
	// Node returns the container of a node.
	Node func(ctx context.Context, name string) (runtime.Container, error)
	// Namespaces are those of the stack's releases.
	Namespaces []string
	// Containers returns the containers of a platform component, such as "aws".
	Containers func(ctx context.Context, component string) ([]runtime.Container, error)
	// Exec runs a command in a component, as `sandbox shell` does.
	Exec func(ctx context.Context, component string, command []string, out io.Writer) (exit int, err error)
	// Proxy starts a container that runs a proxy on the sandbox's network and
	// returns its address there. ProxyAddress returns that later, "" where it is
	// gone; StopProxy removes it, also where it is gone.
	Proxy        func(ctx context.Context, name string, spec ProxySpec) (address string, err error)
	ProxyAddress func(ctx context.Context, name string) (string, error)
	StopProxy    func(ctx context.Context, name string) error
	// Emulator returns where the emulator listens on the sandbox's network.
	Emulator func(ctx context.Context) (host string, port int, err error)
	// LeadEmulator leads what pods send to the emulator to another address, ""
	// back to the emulator itself. It is nil for who undoes and does that anyway.
	LeadEmulator func(ctx context.Context, address string, port int) error
	// Tamper deletes or changes a resource of a Terraform module in the emulator,
	// not by Terraform; an address that the module's state does not have is of
	// code fault.Invalid. Apply applies the module.
	Tamper func(ctx context.Context, module, address, action string) error
	// Resources returns the addresses in a Terraform module's state.
	Resources func(ctx context.Context, module string) ([]string, error)
	Apply     func(ctx context.Context, module string) error
	// Revive brings a component that was stopped back with all it held: an
	// emulator forgets what it held when it is stopped.
	Revive func(ctx context.Context, component string) error
}

// ProxySpec is what a proxy in front of something does to what passes.
type ProxySpec struct {
	// Listen is the port that it listens on.
	Listen int `json:"listen"`
	// Upstream is where it passes things on to: host:port on the sandbox's network.
	Upstream string `json:"upstream"`
	// Latency holds back what passes, Jitter varies that.
	Latency time.Duration `json:"latency,omitempty"`
	Jitter  time.Duration `json:"jitter,omitempty"`
	// Status, where it is not 0, is the answer to HTTP requests of Method, ""
	// for any, whose path begins with Path, for Percent of them.
	Status  int    `json:"status,omitempty"`
	Method  string `json:"method,omitempty"`
	Path    string `json:"path,omitempty"`
	Percent int    `json:"percent,omitempty"`
}

// New returns the injector of a fault.
func New(spec stack.Inject, w World) (Injector, error) {
	kinds := spec.Kinds()
	if len(kinds) != 1 {
		return nil, fmt.Errorf("a drill injects one fault, not %d", len(kinds))
	}
	build, ok := builders[kinds[0]]
	if !ok {
		return nil, fault.New(fault.Invalid, "no injector "+kinds[0], "this version of sandbox can't inject it", "choose another fault")
	}
	return build(spec, w), nil
}

// Undo mends a fault of this or an earlier process.
func Undo(ctx context.Context, rec Record, w World) error {
	build, ok := builders[rec.Kind]
	if !ok {
		return fmt.Errorf("undo %s: unknown fault %q", rec.ID, rec.Kind)
	}
	return build(stack.Inject{}, w).Undo(ctx, rec)
}

// builders make the injector of each kind of fault. To undo one, its record has
// to be enough: the spec is empty then.
var builders = map[string]func(stack.Inject, World) Injector{
	"cpu":       newCPU,
	"crash":     newCrash,
	"cut":       newCut,
	"delay":     newDelay,
	"exec":      newExec,
	"http":      newHTTP,
	"kill":      newKill,
	"pause":     newPause,
	"memory":    newMemory,
	"scale":     newScale,
	"stop":      newStop,
	"terraform": newTerraform,
}
