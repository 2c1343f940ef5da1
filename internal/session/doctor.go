package session

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/sandbox-stack/sandbox/internal/cluster"
	"github.com/sandbox-stack/sandbox/internal/doctor"
	"github.com/sandbox-stack/sandbox/internal/image"
	"github.com/sandbox-stack/sandbox/internal/packages"
	"github.com/sandbox-stack/sandbox/internal/plan"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/detect"
	"github.com/sandbox-stack/sandbox/internal/stack"
	"github.com/sandbox-stack/sandbox/internal/state"
	"github.com/sandbox-stack/sandbox/internal/terraform"
)

// Examine prepares an examination of this machine, for a stack or, where there
// is none, for what a stack usually needs. Of the options, it looks at where
// images come from and at the engine.
func Examine(w *Wanted, opt Options) (*doctor.Host, doctor.Need, error) {
	builder, err := newBuilder()
	if err != nil {
		return nil, doctor.Need{}, err
	}
	cache, err := cacheDir()
	if err != nil {
		return nil, doctor.Need{}, err
	}
	stateDir, err := state.Root()
	if err != nil {
		return nil, doctor.Need{}, err
	}
	st := usualStack()
	if w != nil {
		st = w.Stack
	}
	wanted, err := recipesOf(builder, st)
	if err != nil {
		return nil, doctor.Need{}, err
	}
	h := doctor.ThisHost()
	h.StateDir, h.CacheDir, h.CAFile = stateDir, cache, packages.HostCAFile()
	h.Net.Registry = image.Reach
	asked := detect.Choice{Engine: opt.Runtime, Remote: opt.RemoteEngine}
	if w != nil {
		if asked, err = madeWith(w.Name, asked); err != nil {
			return nil, doctor.Need{}, err
		}
	}
	h.Choose = func(ctx context.Context) (doctor.Choice, error) {
		found, err := detect.Find(ctx, asked)
		return doctor.Choice{Engine: found.Engine, Host: found.Host, Why: found.Why}, err
	}
	h.OpenEngine = func(ctx context.Context) (doctor.Engine, error) { return openForLook(ctx, asked) }
	h.Owner = ownerOf
	h.Sandboxes = recordedSandboxes
	h.Terraform = func(ctx context.Context) (string, error) {
		tool, err := terraform.Detect(ctx, "auto")
		return tool.String(), err
	}
	h.Sources = func(ctx context.Context, names []string) ([]doctor.Source, error) {
		if len(names) == 0 {
			names = wanted
		}
		found, err := builder.Origins(ctx, names)
		list := make([]doctor.Source, len(found))
		for i, s := range found {
			list[i] = doctor.Source{Name: s.Name, URL: s.URL, Programs: s.Tools}
		}
		return list, err
	}
	h.Unbuilt = func(ctx context.Context, engine doctor.Engine) ([]string, error) {
		return unbuilt(ctx, builder, engine, wanted)
	}
	need, err := needOf(builder, w, st, wanted)
	need.Images = opt.Images
	return h, need, err
}

// madeWith is the engine that the sandbox was made with, or the one that is
// asked for where it is new.
func madeWith(name string, asked detect.Choice) (detect.Choice, error) {
	names, err := state.List()
	if err != nil || !slices.Contains(names, name) {
		return asked, err
	}
	dir, err := openState(name)
	if err != nil {
		return asked, err
	}
	return engineFor(dir, asked)
}

// usualStack is a stack with all there is, on the usual ports.
func usualStack() *stack.Stack {
	st := &stack.Stack{}
	st.Spec.Cluster.Nodes = 1
	st.Spec.AWS.Emulator = stack.EmulatorLocalStack
	st.Spec.Ports = stack.Ports{
		AWS: stack.DefaultPortAWS, Prometheus: stack.DefaultPortPrometheus,
		Alertmanager: stack.DefaultPortAlertmanager, Grafana: stack.DefaultPortGrafana,
	}
	st.Spec.Terraform = []stack.Terraform{{Name: "any", Tool: stack.DefaultTool}}
	return st
}

// recipesOf lists what the stack needs of what can be built from packages.
func recipesOf(builder *packages.Builder, st *stack.Stack) ([]string, error) {
	var list []string
	for _, it := range plan.Build(st) {
		switch it.Kind {
		case plan.Platform:
			list = append(list, it.Name)
		case plan.Toolchain:
			list = append(list, providersRecipe)
			if !installed("terraform", "tofu") {
				list = append(list, tofuRecipe)
			}
		}
	}
	known, err := builder.Recipes()
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list, func(name string) bool {
		return !slices.ContainsFunc(known, func(r *packages.Recipe) bool { return r.Name == name })
	}), nil
}

// installed reports whether one of the programs is on the PATH.
func installed(programs ...string) bool {
	return slices.ContainsFunc(programs, func(p string) bool {
		_, err := exec.LookPath(p)
		return err == nil
	})
}

// unbuilt lists which of the recipes are neither in the engine nor built.
func unbuilt(ctx context.Context, builder *packages.Builder, engine doctor.Engine, names []string) ([]string, error) {
	var stored func(string) bool
	if rt, ok := engine.(runtime.Runtime); ok {
		resolver, err := image.NewResolver(rt, image.Auto, recipes{builder})
		if err != nil {
			return nil, err
		}
		stored = func(name string) bool {
			there, err := resolver.Stored(ctx, name)
			return err == nil && there // what the engine can't tell is not counted on
		}
	}
	var list []string
	for _, name := range names {
		_, built, err := builder.Cached(name)
		if err != nil {
			return nil, err
		}
		if !built && (stored == nil || !stored(name)) {
			list = append(list, name)
		}
	}
	return list, nil
}

// What a sandbox takes, measured: a node with the web-app stack's pods takes
// 1.5 GB of memory, the emulator 0.75 GB, Prometheus and Alertmanager 0.2 GB. The
// images fill 2 GB of the engine's store, and building all of them from packages
// 5 GB of the cache and 5 GB of the Go build cache.
const (
	nodeMemory     = 1400 * doctor.MB
	moreNodeMemory = 600 * doctor.MB
	awsMemory      = 800 * doctor.MB
	observeMemory  = 300 * doctor.MB
	storeDisk      = 3 * doctor.GB
	stateDisk      = 200 * doctor.MB
	providersDisk  = 1 * doctor.GB
	buildDisk      = 10 * doctor.GB
	cores          = 2
)

// needOf is what the stack takes from the machine. What a sandbox that was
// brought up already has is not asked for again.
func needOf(builder *packages.Builder, w *Wanted, st *stack.Stack, wanted []string) (doctor.Need, error) {
	need := doctor.Need{Cores: cores, State: stateDisk, Terraform: len(st.Spec.Terraform) > 0}
	registries, err := image.Registries()
	if err != nil {
		return need, err
	}
	need.Registries = registries
	s := &Session{stack: st}
	for _, p := range s.publishers() {
		need.Ports = append(need.Ports, doctor.Port{Number: p.wanted, Component: p.component, Key: p.key})
	}
	if w != nil {
		need.Stack, need.Name, need.Strict = st.Metadata.Name, w.Name, true
		names, err := state.List()
		if err != nil {
			return need, err
		}
		if slices.Contains(names, w.Name) {
			return need, nil
		}
	}
	need.Nodes = st.Spec.Cluster.Nodes
	need.Memory = nodeMemory + uint64(max(0, st.Spec.Cluster.Nodes-1))*moreNodeMemory
	if st.Spec.AWS.On() {
		need.Memory += awsMemory
	}
	if st.Spec.Observability.On() {
		need.Memory += observeMemory
	}
	need.Store = storeDisk
	if need.Terraform {
		need.Cache = providersDisk
	}
	for _, name := range wanted {
		_, built, err := builder.Cached(name)
		if err != nil {
			return need, err
		}
		if !built {
			need.Build = buildDisk
		}
	}
	return need, nil
}

// openForLook opens the engine with a folder that goes with it.
func openForLook(ctx context.Context, choice detect.Choice) (doctor.Engine, error) {
	dir, err := os.MkdirTemp("", "sandbox-engine-")
	if err != nil {
		return nil, err
	}
	engine, _, err := openEngine(ctx, dir, choice)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return looking{engine, dir}, nil
}

type looking struct {
	runtime.Runtime
	dir string
}

func (l looking) Close() error { return errors.Join(l.Runtime.Close(), os.RemoveAll(l.dir)) }

// ownerOf is the sandbox that a container belongs to.
func ownerOf(c runtime.Container) string {
	if name := c.Labels[runtime.LabelName]; name != "" {
		return name
	}
	name, ours := strings.CutPrefix(c.Labels[cluster.LabelKind], cluster.KindName(""))
	if !ours {
		return ""
	}
	return name
}

// recordedSandboxes lists the state folders and whether somebody works on them.
func recordedSandboxes() ([]doctor.Sandbox, error) {
	names, err := state.List()
	if err != nil {
		return nil, err
	}
	list := make([]doctor.Sandbox, len(names))
	for i, name := range names {
		list[i].Name = name
		dir, err := openState(name)
		if err != nil {
			return nil, err
		}
		if rec, err := dir.Record(); err == nil {
			list[i].Recorded = true
			choice, _ := recordedEngine(rec)
			list[i].Engine = choice.Engine
		} else if !errors.Is(err, state.ErrNoRecord) {
			return nil, err
		}
		if _, list[i].Busy, err = dir.Holder(); err != nil {
			return nil, err
		}
	}
	return list, nil
}
