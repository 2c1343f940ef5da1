// Package session opens one sandbox: its state directory and lock, the engine,
// and the adapters, configured from the stack. It joins what the adapters do
// into the parts of a plan and into sources of health. It is the one package
// that knows all adapters.
package session

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sandbox-stack/sandbox/images"
	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/image"
	"github.com/sandbox-stack/sandbox/internal/packages"
	"github.com/sandbox-stack/sandbox/internal/plan"
	"github.com/sandbox-stack/sandbox/internal/release"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/detect"
	"github.com/sandbox-stack/sandbox/internal/stack"
	"github.com/sandbox-stack/sandbox/internal/state"
)

// Options say how a sandbox is to be brought up. They are recorded with it,
// so that a later up without them keeps them.
type Options struct {
	// AutoPorts takes free ports instead of the stack's.
	AutoPorts bool
	// Images is where platform images come from: auto, packages, registry.
	Images string
	// Strict makes a component that cannot be had an error.
	Strict bool
	// Runtime is the container engine: docker, podman, or auto or empty for the
	// one that runs. One that exists stays on its own.
	Runtime string
	// Builder is what builds the stack's images: buildah, or auto or empty for
	// the engine.
	Builder string
	// RemoteEngine allows an engine on another machine.
	RemoteEngine bool
	// Program is what runs in the sandbox's own containers, such as the exporter.
	// Empty stands for this program, which a test is not.
	Program string
}

// Wanted is a stack that was read and found valid, and the name of the sandbox
// it is for.
type Wanted struct {
	Name  string
	Stack *stack.Stack
}

// Session is one sandbox, opened.
type Session struct {
	name       string
	stack      *stack.Stack
	opt        Options
	run        string
	dir        *state.Dir
	lock       *state.Lock // nil where the session only looks
	engine     runtime.Runtime
	connecting sync.Mutex // held by Connect
	// disconnected is set once the engine is closed.
	disconnected bool
	info         runtime.Info
	found        detect.Found // why it is this engine
	// images is the engine with what builds images; restore undoes what that needs.
	images  runtime.Runtime
	restore func() error
	ports   map[string]int

	builder  *packages.Builder
	resolver *image.Resolver
	releases *release.Manager

	warnings []event.ObjectEvent // of the last Up
	faulting sync.Mutex          // held while the record of faults is changed

	mu    sync.Mutex
	drill drillConfig
	refs  map[string]string // platform image, or image/NAME of the stack → reference in the engine's store
}

// Load reads the stack that arg means: one that comes with sandbox, a folder
// or a file. name, where it is not empty, replaces the stack's own.
func Load(arg, name string) (Wanted, error) {
	cache, err := cacheDir()
	if err != nil {
		return Wanted{}, err
	}
	path, err := stack.Find(arg, filepath.Join(cache, "stacks"))
	if err != nil {
		return Wanted{}, err
	}
	st, err := stack.Load(path)
	if err != nil {
		return Wanted{}, err
	}
	if name == "" {
		name = st.Metadata.Name
	}
	if err := stack.CheckName(name); err != nil {
		return Wanted{}, err
	}
	return Wanted{Name: name, Stack: st}, nil
}

// Start opens a sandbox to bring it up: it takes the lock, opens the engine,
// chooses the ports and records what is wanted. Close ends it.
func Start(ctx context.Context, w Wanted, opt Options) (*Session, error) {
	dir, err := openState(w.Name)
	if err != nil {
		return nil, err
	}
	lock, err := dir.Lock("sandbox up")
	if err != nil {
		return nil, err
	}
	s := newSession(w.Name, w.Stack, opt, dir)
	s.run, s.lock = newRun(), lock
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.abandon())
	}
	if err := s.checkCommand(); err != nil {
		return nil, errors.Join(err, s.abandon())
	}
	if err := s.checkNodes(ctx); err != nil {
		return nil, errors.Join(err, s.abandon())
	}
	if err := s.choosePorts(ctx); err != nil {
		return nil, errors.Join(err, s.abandon())
	}
	if err := s.record(); err != nil {
		return nil, errors.Join(err, s.abandon())
	}
	return s, nil
}

// checkNodes refuses several nodes where the node image is built from packages:
// its pod network is fixed to one node.
func (s *Session) checkNodes(ctx context.Context) error {
	if s.stack.Spec.Cluster.Nodes <= 1 {
		return nil
	}
	list, err := s.resolver.List(ctx)
	if err != nil {
		return err
	}
	node := find(list, func(i image.Status) bool { return i.Name == plan.NodeImage })
	if !strings.HasPrefix(node.Ref, packages.RepositoryPrefix) {
		return nil
	}
	return &fault.Error{
		Code: fault.Unavailable, Pos: s.stack.Position("spec", "cluster", "nodes"),
		What: fmt.Sprintf("a cluster of %d nodes needs kind's own node image", s.stack.Spec.Cluster.Nodes),
		Why:  "no image registry can be reached, and the pod network of the image built from packages is fixed to one node",
		Try:  "nodes: 1, or sandbox up --images registry where a registry can be reached",
	}
}

// abandon ends a session that could not start. The state folder of a sandbox
// that was never recorded goes with it, so that nothing is left.
func (s *Session) abandon() error {
	errs := []error{s.disconnect()}
	if _, err := s.dir.Record(); errors.Is(err, state.ErrNoRecord) {
		errs = append(errs, s.dir.Remove())
	}
	return errors.Join(append(errs, s.Close())...)
}

// Peek returns a sandbox that was brought up as it is recorded, without its
// engine: Watch connects it, and Connect.
func Peek(name string) (*Session, error) { return recorded(name) }

// Connect connects the engine of a session that Peek has returned, unless that
// is done.
func (s *Session) Connect(ctx context.Context) error {
	s.connecting.Lock()
	defer s.connecting.Unlock()
	if s.releases != nil { // it is what comes last
		return nil
	}
	return s.open(ctx)
}

// Open opens a sandbox that was brought up, to look at it.
func Open(ctx context.Context, name string) (*Session, error) {
	s, err := recorded(name)
	if err != nil {
		return nil, err
	}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// recorded returns the session of a recorded sandbox, without its engine.
func recorded(name string) (*Session, error) {
	names, err := state.List()
	if err != nil {
		return nil, err
	}
	if !slices.Contains(names, name) {
		return nil, noSandbox(name, names)
	}
	dir, err := openState(name)
	if err != nil {
		return nil, err
	}
	rec, err := dir.Record()
	if errors.Is(err, state.ErrNoRecord) {
		return nil, noSandbox(name, nil)
	}
	if err != nil {
		return nil, err
	}
	st, err := readStack(dir, rec)
	if err != nil {
		return nil, err
	}
	s := newSession(name, st, Options{Images: rec.Facts["images"], Strict: rec.Facts["strict"] == "true"}, dir)
	s.run, s.ports = rec.Run, rec.Ports
	for key, value := range rec.Facts {
		if ref, ok := strings.CutPrefix(key, refFact); ok {
			s.refs[ref] = value
		}
	}
	return s, nil
}

// Reread returns the sandbox as it is recorded now, by this session's engine: for
// those who look for longer, while other commands change it. It lives as long as
// s does and must not be closed.
func (s *Session) Reread() (*Session, error) {
	now, err := recorded(s.name)
	if err != nil {
		return nil, err
	}
	now.engine, now.info, now.found = s.engine, s.info, s.found
	now.builder, now.resolver, now.releases = s.builder, s.resolver, s.releases
	return now, nil
}

// openState opens the state folder of a sandbox, whose name was checked.
func openState(name string) (*state.Dir, error) {
	dir, err := state.Open(name)
	var said *fault.Error
	if err != nil && !errors.As(err, &said) {
		return nil, fault.Wrap(fault.Failed, err, "export XDG_STATE_HOME=/some/folder that can be written", "no state folder for sandbox %s", name)
	}
	return dir, err
}

// refFact leads the facts that hold image references and paths.
const refFact = "ref/"

func newSession(name string, st *stack.Stack, opt Options, dir *state.Dir) *Session {
	return &Session{name: name, stack: st, opt: opt, dir: dir, refs: map[string]string{}}
}

// open connects the engine and prepares what images come from.
func (s *Session) open(ctx context.Context) error {
	engineDir, err := s.dir.Folder("engine")
	if err != nil {
		return err
	}
	choice, err := engineFor(s.dir, detect.Choice{Engine: s.opt.Runtime, Remote: s.opt.RemoteEngine})
	if err != nil {
		return err
	}
	if s.engine, s.found, err = openEngine(ctx, engineDir, choice); err != nil {
		return err
	}
	if s.info, err = s.engine.Info(ctx); err != nil {
		return fmt.Errorf("describe the container engine: %w", err)
	}
	if err := s.openBuilder(engineDir); err != nil {
		return err
	}
	if s.builder, s.resolver, err = newResolver(s.engine, s.opt.Images); err != nil {
		return err
	}
	s.releases = release.New(release.Config{Kubeconfig: s.dir.Kubeconfig(), Sandbox: s.name, Run: s.run})
	return nil
}

// newBuilder returns what builds platform images from packages.
func newBuilder() (*packages.Builder, error) {
	dir, err := cacheDir()
	if err != nil {
		return nil, err
	}
	return packages.New(packages.Options{Recipes: images.FS, CacheDir: dir})
}

// cacheDir is where what was built or downloaded is kept for all sandboxes.
func cacheDir() (string, error) {
	dir, err := packages.DefaultCacheDir()
	if err != nil {
		return "", fault.Wrap(fault.Unavailable, err, "export XDG_CACHE_HOME=/some/folder", "no place for the cache of sandboxes")
	}
	return dir, nil
}

// newResolver returns what builds platform images and what finds them.
func newResolver(engine runtime.Runtime, mode string) (*packages.Builder, *image.Resolver, error) {
	builder, err := newBuilder()
	if err != nil {
		return nil, nil, err
	}
	resolver, err := image.NewResolver(engine, image.Mode(mode), recipes{builder})
	if err != nil {
		return nil, nil, err
	}
	return builder, resolver, nil
}

// Close ends the session: the engine's connection and the lock. What was
// brought up stays.
func (s *Session) Close() error {
	return errors.Join(s.disconnect(), s.Unlock())
}

// Unlock lets other commands change the sandbox.
func (s *Session) Unlock() error {
	if s.lock == nil {
		return nil
	}
	lock := s.lock
	s.lock = nil
	return lock.Unlock()
}

// disconnect closes the engine's connection, once. The engine stays in place: a
// probe that was given up may still use it, and gets an error.
func (s *Session) disconnect() error {
	if s.engine == nil || s.disconnected {
		return nil
	}
	s.disconnected = true
	if s.restore == nil {
		return s.engine.Close()
	}
	return errors.Join(s.restore(), s.engine.Close())
}

// Events is the file that runs of the sandbox are recorded in.
func (s *Session) Events() string { return s.dir.Events() }

// Name is the sandbox's name.
func (s *Session) Name() string { return s.name }

func newRun() string {
	b := make([]byte, 4)
	_, _ = rand.Read(b) // never fails: see crypto/rand
	return time.Now().UTC().Format("20060102-150405-") + hex.EncodeToString(b)
}

// stackFile keeps the stack as it was brought up: what a sandbox consists of
// does not change because somebody edits the stack file.
const stackFile = "stack.json"

func (s *Session) record() error {
	data, err := json.MarshalIndent(s.stack, "", "  ")
	if err != nil {
		return fmt.Errorf("record the stack: %w", err)
	}
	if err := state.WriteFile(filepath.Join(s.dir.Path(), stackFile), data); err != nil {
		return err
	}
	return s.dir.Update(func(rec *state.Record) error {
		rec.Run = s.run
		rec.Engine = s.info.Engine + " " + s.info.Version
		s.recordEngine(rec)
		rec.Stack, rec.StackFile, rec.StackDir = s.stack.Metadata.Name, s.stack.File, s.stack.Dir
		rec.Network = s.network()
		rec.Ports = s.ports
		rec.SetFact("images", s.opt.Images)
		if s.opt.AutoPorts {
			rec.SetFact("ports", "auto")
		}
		rec.SetFact("strict", fmt.Sprint(s.opt.Strict))
		return nil
	})
}

func readStack(dir *state.Dir, rec state.Record) (*stack.Stack, error) {
	data, err := os.ReadFile(filepath.Join(dir.Path(), stackFile))
	if err != nil {
		return nil, fault.Wrap(fault.Failed, err, "sandbox up", "the record of sandbox %s is incomplete", dir.Name())
	}
	st := &stack.Stack{}
	if err := json.Unmarshal(data, st); err != nil {
		return nil, fault.Wrap(fault.Failed, err, "sandbox up", "the record of sandbox %s is damaged", dir.Name())
	}
	st.Dir, st.File = rec.StackDir, rec.StackFile
	return st, nil
}

// The keys under which the session keeps paths beside image references.
const (
	refProviders = "terraform-providers"
	refTool      = "terraform-tool"
)

func (s *Session) ref(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refs[name]
}

// setRef notes where a platform image or artifact is, for the parts that use
// it and for sessions that only look.
func (s *Session) setRef(name, ref string) error {
	s.mu.Lock()
	same := s.refs[name] == ref
	s.refs[name] = ref
	s.mu.Unlock()
	if same {
		return nil
	}
	return s.dir.Update(func(rec *state.Record) error {
		rec.SetFact(refFact+name, ref)
		return nil
	})
}

func (s *Session) cache() string {
	dir, err := cacheDir()
	if err != nil { // Load and newBuilder have asked already
		panic(err)
	}
	return dir
}
