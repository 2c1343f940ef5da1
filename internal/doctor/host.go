package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	sandbox "github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/port"
)

// Host is where checks get their facts from. This machine's is made by
// ThisHost; tests put other facts in place of some of them.
type Host struct {
	// Files is the machine's file system, rooted at /.
	Files  fs.FS
	Kernel Kernel
	Env    func(name string) string
	// Find returns the path of a program.
	Find func(name string) (string, error)
	// Output runs a program and returns what it prints.
	Output func(ctx context.Context, program string, args ...string) (string, error)
	OS     string // as runtime.GOOS
	User   User
	Now    func() time.Time
	Net    Net

	// PortOwner names who listens on a TCP port; nil where nobody does.
	PortOwner func(port int) (owner *port.Process, err error)
	// PortFree reports whether a port of 127.0.0.1 can be had.
	PortFree func(port int) bool

	// What is known of sandboxes, by the packages that do the work. Nil where
	// a check is made without it.

	// Choose decides which engine is used, and starts nothing.
	Choose     func(ctx context.Context) (Choice, error)
	OpenEngine func(ctx context.Context) (Engine, error)
	Terraform  func(ctx context.Context) (name string, err error)
	Sandboxes  func() ([]Sandbox, error)
	// Sources are where what is named comes from; without names, whoever can
	// be asked for the time.
	Sources func(ctx context.Context, names []string) ([]Source, error)
	// Unbuilt are the platform images that the stack needs and that neither
	// the engine, which may be nil, nor the cache has.
	Unbuilt func(ctx context.Context, engine Engine) ([]string, error)
	// Owner is the sandbox that a container belongs to, "" where it is none's.
	Owner func(sandbox.Container) string

	// StateDir and CacheDir are where sandboxes keep their files.
	StateDir, CacheDir string
	// CAFile is the file of certificate authorities in use, "" where there is none.
	CAFile string
}

// Choice is the engine that is used.
type Choice struct {
	Engine string // podman or docker
	Host   string // its address; empty where Podman serves sandbox alone
	Why    string // it is this one
}

// User is who runs this.
type User struct {
	UID  int
	Name string
}

// Kernel tells what the kernel grants to this process.
type Kernel interface {
	// Cores is the number of CPUs that this process may use.
	Cores() int
	// Limit is the hard limit on a resource, Unlimited where there is none.
	Limit(r Resource) (uint64, error)
	// Disk describes the file system that holds the path.
	Disk(path string) (Disk, error)
	// Inotify opens up to n instances, closes them, and tells how many it got.
	Inotify(n int) (got int, err error)
	// Dial connects to a Unix socket.
	Dial(ctx context.Context, socket string) error
}

// Resource is what a process has a limit on.
type Resource int

// The resources.
const (
	OpenFiles Resource = iota
	Processes
)

// Unlimited is the limit where there is none.
const Unlimited = ^uint64(0)

// Disk describes a file system.
type Disk struct {
	Device uint64 // tells file systems apart
	Free   uint64 // bytes for this user
	Total  uint64
	Inodes uint64 // free ones; Unlimited where the file system does not count them
}

// Engine is what is asked of a container engine.
type Engine interface {
	Info(ctx context.Context) (sandbox.Info, error)
	Containers(ctx context.Context, labels map[string]string) ([]sandbox.Container, error)
	Networks(ctx context.Context, labels map[string]string) ([]sandbox.Network, error)
	Volumes(ctx context.Context, labels map[string]string) ([]sandbox.Volume, error)
	Close() error
}

// Net is what is asked of the network.
type Net struct {
	// Lookup resolves a name.
	Lookup func(ctx context.Context, host string) ([]string, error)
	// Registry returns nil where the host answers as an image registry.
	Registry func(ctx context.Context, host string) error
	// Client asks package sources.
	Client *http.Client
}

// Sandbox is a sandbox that has a state folder.
type Sandbox struct {
	Name string
	// Engine is the one that it was made with, "" where that is not known.
	Engine string
	// Busy: a process works on it.
	Busy bool
	// Recorded: it was brought up.
	Recorded bool
}

// Source is where packages come from.
type Source struct {
	Name string // "Debian packages"
	URL  string // answers GET with less than 400 where it works
	// Needed programs of this machine.
	Programs []string
}

// ThisHost returns the machine that this process runs on. The caller fills in
// what other packages know.
func ThisHost() *Host {
	h := &Host{
		Files: os.DirFS("/"), Kernel: thisKernel{}, Env: os.Getenv, Find: exec.LookPath, Output: output, OS: runtime.GOOS,
		User: User{UID: os.Geteuid()}, Now: time.Now,
		PortFree:  func(p int) bool { return port.Free("127.0.0.1", p) },
		PortOwner: portOwner,
		Net:       Net{Lookup: lookup, Client: &http.Client{}},
	}
	h.User.Name = h.Env("USER")
	if u, err := user.LookupId(strconv.Itoa(h.User.UID)); err == nil {
		h.User.Name = u.Username
	}
	return h
}

func output(ctx context.Context, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.WaitDelay = 100 * time.Millisecond // for what it started and that holds its output open
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	return strings.TrimSpace(string(out)), err
}

func portOwner(p int) (*port.Process, error) {
	owner, found, err := port.Owner(p)
	if err != nil || !found {
		return nil, err
	}
	return &owner, nil
}

// root reports whether this runs as root.
func (h *Host) root() bool { return h.User.UID == 0 }

// has reports whether a program is on the PATH.
func (h *Host) has(program string) bool {
	_, err := h.Find(program)
	return err == nil
}

// read returns a file's text, without the white space around it.
func (h *Host) read(file string) (string, error) {
	text, err := fs.ReadFile(h.Files, strings.TrimPrefix(file, "/"))
	var at *fs.PathError
	if errors.As(err, &at) {
		err = fmt.Errorf("%s: %w", file, at.Err)
	}
	return strings.TrimSpace(string(text)), err
}

// number reads a file that holds a number.
func (h *Host) number(file string) (uint64, error) {
	text, err := h.read(file)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(text, 10, 64)
}

// stat looks at a file; a missing one is no error.
func (h *Host) stat(file string) (info fs.FileInfo, there bool, err error) {
	info, err = fs.Stat(h.Files, strings.TrimPrefix(file, "/"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	return info, err == nil, err
}

// there reports whether one of the files exists and can be seen.
func (h *Host) there(files ...string) bool {
	for _, file := range files {
		if _, there, _ := h.stat(file); there { // what can't be seen does not help
			return true
		}
	}
	return false
}

// program finds what engines run, which need not be on the user's PATH.
func (h *Host) program(name string) bool {
	if h.has(name) {
		return true
	}
	for _, dir := range []string{
		"/usr/libexec/podman", "/usr/lib/podman", "/usr/local/libexec/podman", "/usr/local/lib/podman",
		"/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/bin", "/sbin",
	} {
		if h.there(path.Join(dir, name)) {
			return true
		}
	}
	return false
}

// existing is the path, or the nearest folder above it that exists.
func (h *Host) existing(file string) string {
	for file = filepath.Clean(file); file != "/" && file != "."; file = filepath.Dir(file) {
		if h.there(file) {
			break
		}
	}
	return file
}

// exam is one run of checks: what several of them need is asked for once.
type exam struct {
	*Host
	need Need

	chosen func() (Choice, error)

	engineOnce sync.Once
	engineDone chan struct{}
	opened     Engine
	info       sandbox.Info
	engineErr  error // valid after engineDone

	unbuiltOnce sync.Once
	unbuiltDone chan struct{}
	unbuiltList []string
	unbuiltErr  error // valid after unbuiltDone

	sourcesMu sync.Mutex
	sources   map[string]func() ([]Source, error) // by what they are for

	registryOnce sync.Once
	registryDone chan struct{}
	registryErrs map[string]error // by host; valid after registryDone
}

func newExam(h *Host, need Need) *exam {
	e := &exam{
		Host: h, need: need,
		engineDone: make(chan struct{}), registryDone: make(chan struct{}), unbuiltDone: make(chan struct{}),
	}
	e.chosen = sync.OnceValues(e.choose)
	return e
}

// choose asks which engine is used. Where none can be, it is the one that is
// installed, so that checks can say what is wrong with it.
func (e *exam) choose() (c Choice, err error) {
	if e.Choose != nil {
		ctx, cancel := context.WithTimeout(context.Background(), engineLimit)
		defer cancel()
		if c, err = e.Choose(ctx); err == nil {
			return c, nil
		}
	}
	for _, name := range []string{"podman", "docker"} {
		if e.has(name) {
			return Choice{Engine: name}, err
		}
	}
	return Choice{}, err
}

// uses reports whether the engine is used.
func (e *exam) uses(engine string) bool {
	c, _ := e.chosen() // checkRunning tells what is wrong
	return c.Engine == engine
}

// hasEngine reports whether an engine is installed, or answers.
func (e *exam) hasEngine() bool { return !e.uses("") }

var (
	errNoEngine   = errors.New("no container engine is installed")
	errEngineLate = errors.New("the engine does not answer within " + engineLimit.String())
)

// engine opens the engine, once for all who ask.
func (e *exam) engine(ctx context.Context) (Engine, error) {
	e.engineOnce.Do(func() { go e.connect(context.WithoutCancel(ctx)) })
	late := time.NewTimer(engineLimit)
	defer late.Stop()
	select {
	case <-e.engineDone:
		return e.opened, e.engineErr
	case <-late.C:
		return nil, errEngineLate
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (e *exam) connect(ctx context.Context) {
	defer close(e.engineDone)
	if e.OpenEngine == nil || !e.hasEngine() {
		e.engineErr = errNoEngine
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, engineLimit, errEngineLate)
	defer cancel()
	opened, err := e.OpenEngine(ctx)
	if err == nil {
		if e.info, err = opened.Info(ctx); err != nil {
			err = errors.Join(err, opened.Close())
		}
	}
	if err != nil && ctx.Err() != nil {
		err = errEngineLate
	}
	if err == nil {
		e.opened = opened
	}
	e.engineErr = err
}

// sourcesOf lists where what is named comes from, once for all who ask.
func (e *exam) sourcesOf(ctx context.Context, names []string) ([]Source, error) {
	if e.Sources == nil {
		return nil, nil
	}
	key := strings.Join(names, " ")
	e.sourcesMu.Lock()
	list, known := e.sources[key]
	if !known {
		list = sync.OnceValues(func() ([]Source, error) {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*checkLimit)
			defer cancel()
			return e.Sources(ctx, names)
		})
		if e.sources == nil {
			e.sources = map[string]func() ([]Source, error){}
		}
		e.sources[key] = list
	}
	e.sourcesMu.Unlock()
	return list()
}

// unbuilt lists the images that are still to be had, once for all who ask.
func (e *exam) unbuilt(ctx context.Context) ([]string, error) {
	if e.Unbuilt == nil {
		return nil, nil
	}
	e.unbuiltOnce.Do(func() {
		go func() {
			defer close(e.unbuiltDone)
			ctx := context.WithoutCancel(ctx)
			engine, err := e.engine(ctx)
			if err != nil {
				engine = nil // then the cache alone counts
			}
			ctx, cancel := context.WithTimeout(ctx, checkLimit)
			defer cancel()
			e.unbuiltList, e.unbuiltErr = e.Unbuilt(ctx, engine)
		}()
	})
	select {
	case <-e.unbuiltDone:
		return e.unbuiltList, e.unbuiltErr
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// close ends the engine's connection, and names the engine.
func (e *exam) close() (name string, err error) {
	begun := true
	e.engineOnce.Do(func() { begun = false })
	if !begun {
		return "", nil
	}
	// The engine's time is over by now. It is waited for, because opening it
	// changes the environment until that is undone.
	late := time.NewTimer(checkLimit)
	defer late.Stop()
	select {
	case <-e.engineDone:
	case <-late.C: // what it still opens ends with this process
		return "", nil
	}
	if e.opened == nil {
		return "", nil
	}
	return cmp.Or(e.info.Engine, "engine") + " " + e.info.Version, e.opened.Close()
}
