// Package fake is a runtime.Runtime in memory, for the tests of the packages
// above. Containers run registered functions instead of programs; images have
// labels and names but no files; networks hand out addresses that nothing
// answers on. It passes the conformance suite as far as that goes.
package fake

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/buildcontext"
)

// Process is what a program runs in.
type Process struct {
	Args   []string // without the program's name
	Env    map[string]string
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
}

// Program stands for an executable: it runs until it ends, or until ctx ends
// (SIGTERM, and SIGKILL after a grace period that it can't outlive), and
// returns the exit code.
type Program func(ctx context.Context, p Process) int

// Runtime is an engine in memory. Its fields may be set before its first use.
type Runtime struct {
	// Programs maps the name of an executable to what it does. Without one
	// a container just waits to be stopped, and exec succeeds silently.
	Programs map[string]Program
	// Fail, unless nil, is asked before every call of a method with the
	// method's name and its subject (a name, ID or image); the error it
	// returns is the method's.
	Fail func(method, subject string) error
	// Registry holds the references that can be pulled.
	Registry map[string]runtime.Image
	// CgroupVersion is what Info says; 0 means 2.
	CgroupVersion int

	mu         sync.Mutex
	images     []runtime.Image
	networks   []runtime.Network
	containers []*container
	volumes    []runtime.Volume
	listeners  map[*listener]struct{}
	lastID     int
	calls      []string
}

var _ runtime.Runtime = (*Runtime)(nil)

// New returns an empty engine that knows the programs.
func New(programs map[string]Program) *Runtime { return &Runtime{Programs: programs} }

// Calls lists the methods called so far, each with its subject: "BuildImage
// localhost/x:1".
func (r *Runtime) Calls() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

// enter notes the call, and returns the error that it has to fail with.
func (r *Runtime) enter(ctx context.Context, method, subject string) error {
	r.mu.Lock()
	r.calls = append(r.calls, strings.TrimSpace(method+" "+subject))
	fail := r.Fail
	r.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if fail != nil {
		return fail(method, subject)
	}
	return nil
}

// newID returns an ID of 64 hexadecimal digits; mu is held.
func (r *Runtime) newID() string {
	r.lastID++
	return hashID(fmt.Sprint(r.lastID))
}

func hashID(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func notFound(kind, name string) error {
	return fmt.Errorf("%s %q: %w", kind, name, runtime.ErrNotFound)
}

// Info describes the fake.
func (r *Runtime) Info(ctx context.Context) (runtime.Info, error) {
	if err := r.enter(ctx, "Info", ""); err != nil {
		return runtime.Info{}, err
	}
	version := r.CgroupVersion
	if version == 0 {
		version = 2
	}
	return runtime.Info{Engine: "fake", Version: "1.0.0", CgroupVersion: version, Socket: "/fake.sock"}, nil
}

// Close stops the programs of all containers and waits for them.
func (r *Runtime) Close() error {
	r.mu.Lock()
	containers := slices.Clone(r.containers)
	r.mu.Unlock()
	for _, c := range containers {
		r.stop(c, 0)
	}
	return nil
}

// AddImage puts an image into the store; without an ID it gets one.
func (r *Runtime) AddImage(image runtime.Image) runtime.Image {
	r.mu.Lock()
	defer r.mu.Unlock()
	if image.ID == "" {
		image.ID = "sha256:" + r.newID()
	}
	r.putImage(image)
	return image
}

// putImage stores the image and moves its names to it; mu is held.
func (r *Runtime) putImage(image runtime.Image) {
	kept := r.images[:0]
	for _, i := range r.images {
		if i.ID == image.ID {
			image.Names = append(slices.Clone(i.Names), image.Names...)
			continue
		}
		i.Names = slices.DeleteFunc(i.Names, func(n string) bool { return slices.Contains(image.Names, n) })
		kept = append(kept, i)
	}
	slices.Sort(image.Names)
	image.Names = slices.Compact(image.Names)
	kept = append(kept, image)
	r.images = kept
}

// findImage finds an image by name or ID; mu is held.
func (r *Runtime) findImage(ref string) (runtime.Image, bool) {
	for _, i := range r.images {
		if i.ID == ref || strings.TrimPrefix(i.ID, "sha256:") == ref || slices.Contains(i.Names, ref) {
			return i, true
		}
	}
	return runtime.Image{}, false
}

// Image finds an image by name or ID.
func (r *Runtime) Image(ctx context.Context, ref string) (runtime.Image, error) {
	if err := r.enter(ctx, "Image", ref); err != nil {
		return runtime.Image{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	image, ok := r.findImage(ref)
	if !ok {
		return runtime.Image{}, notFound("image", ref)
	}
	return image, nil
}

// Images lists the images with the labels.
func (r *Runtime) Images(ctx context.Context, labels map[string]string) ([]runtime.Image, error) {
	if err := r.enter(ctx, "Images", ""); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []runtime.Image
	for _, i := range r.images {
		if runtime.MatchLabels(i.Labels, labels) {
			found = append(found, i)
		}
	}
	slices.SortFunc(found, func(a, b runtime.Image) int { return strings.Compare(a.ID, b.ID) })
	return found, nil
}

// LoadImage reads what SaveImage wrote.
func (r *Runtime) LoadImage(ctx context.Context, archive io.Reader) ([]string, error) {
	if err := r.enter(ctx, "LoadImage", ""); err != nil {
		return nil, err
	}
	var image runtime.Image
	if err := json.NewDecoder(archive).Decode(&image); err != nil {
		return nil, fmt.Errorf("load image: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.putImage(image)
	return image.Names, nil
}

// SaveImage writes an image as JSON.
func (r *Runtime) SaveImage(ctx context.Context, ref string, w io.Writer) error {
	if err := r.enter(ctx, "SaveImage", ref); err != nil {
		return err
	}
	r.mu.Lock()
	image, ok := r.findImage(ref)
	r.mu.Unlock()
	if !ok {
		return notFound("image", ref)
	}
	return json.NewEncoder(w).Encode(image)
}

// PullImage copies an image of the Registry.
func (r *Runtime) PullImage(ctx context.Context, ref string, log func(line string)) (runtime.Image, error) {
	if err := r.enter(ctx, "PullImage", ref); err != nil {
		return runtime.Image{}, err
	}
	image, ok := r.Registry[ref]
	if !ok {
		return runtime.Image{}, fmt.Errorf("pull image %q: the registry has no such image", ref)
	}
	log("pulled " + ref)
	image.Names = append(slices.Clone(image.Names), ref)
	return r.AddImage(image), nil
}

// BuildImage makes an image whose ID is a hash of the context and the spec. It
// follows no instruction of the Dockerfile.
func (r *Runtime) BuildImage(ctx context.Context, spec runtime.BuildSpec, log func(line string)) (runtime.Image, error) {
	if err := r.enter(ctx, "BuildImage", spec.Tag); err != nil {
		return runtime.Image{}, err
	}
	files, err := buildcontext.Open(spec.Context, spec.Dockerfile)
	if err != nil {
		return runtime.Image{}, fmt.Errorf("build image %q: %w", spec.Tag, err)
	}
	hash, err := files.Hash()
	if err != nil {
		return runtime.Image{}, fmt.Errorf("build image %q: %w", spec.Tag, err)
	}
	log("built " + spec.Tag)
	return r.AddImage(runtime.Image{
		ID:     "sha256:" + hashID(fmt.Sprint(hash, spec.Target, spec.Args, spec.Labels)),
		Names:  []string{spec.Tag},
		Labels: maps.Clone(spec.Labels),
		Size:   1 << 20,
	}), nil
}

// RemoveImage removes a name, and the image with its last name.
func (r *Runtime) RemoveImage(ctx context.Context, ref string) error {
	if err := r.enter(ctx, "RemoveImage", ref); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for n, i := range r.images {
		i.Names = slices.DeleteFunc(slices.Clone(i.Names), func(name string) bool { return name == ref })
		if len(i.Names) == 0 && (len(r.images[n].Names) > 0 || i.ID == ref) {
			r.images = slices.Delete(r.images, n, n+1)
			return nil
		}
		r.images[n] = i
	}
	return nil
}

// CreateNetwork creates a network, or returns the one with the same labels.
func (r *Runtime) CreateNetwork(ctx context.Context, name string, labels map[string]string) (runtime.Network, error) {
	if err := r.enter(ctx, "CreateNetwork", name); err != nil {
		return runtime.Network{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.networks {
		if n.Name != name {
			continue
		}
		if !runtime.MatchLabels(n.Labels, labels) {
			return runtime.Network{}, fault.New(fault.Conflict, "a network named "+name+" is in the way", "its labels differ", "")
		}
		return n, nil
	}
	third := len(r.networks)
	n := runtime.Network{
		Name: name, ID: r.newID(), Labels: maps.Clone(labels),
		Subnets: []string{fmt.Sprintf("10.89.%d.0/24", third)}, Gateway: fmt.Sprintf("10.89.%d.1", third),
	}
	r.networks = append(r.networks, n)
	return n, nil
}

// Networks lists the networks with the labels.
func (r *Runtime) Networks(ctx context.Context, labels map[string]string) ([]runtime.Network, error) {
	if err := r.enter(ctx, "Networks", ""); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []runtime.Network
	for _, n := range r.networks {
		if runtime.MatchLabels(n.Labels, labels) {
			found = append(found, n)
		}
	}
	slices.SortFunc(found, func(a, b runtime.Network) int { return strings.Compare(a.Name, b.Name) })
	return found, nil
}

// RemoveNetwork removes a network that no container uses.
func (r *Runtime) RemoveNetwork(ctx context.Context, name string) error {
	if err := r.enter(ctx, "RemoveNetwork", name); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.containers {
		if _, on := c.state.Aliases[name]; on {
			return fmt.Errorf("remove network %q: container %s uses it", name, c.spec.Name)
		}
	}
	r.networks = slices.DeleteFunc(r.networks, func(n runtime.Network) bool { return n.Name == name })
	return nil
}

// AddVolume puts a volume into the store.
func (r *Runtime) AddVolume(v runtime.Volume) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.volumes = append(r.volumes, v)
}

// Volumes lists the volumes with the labels.
func (r *Runtime) Volumes(ctx context.Context, labels map[string]string) ([]runtime.Volume, error) {
	if err := r.enter(ctx, "Volumes", ""); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []runtime.Volume
	for _, v := range r.volumes {
		if runtime.MatchLabels(v.Labels, labels) {
			found = append(found, v)
		}
	}
	return found, nil
}

// RemoveVolume removes a volume.
func (r *Runtime) RemoveVolume(ctx context.Context, name string) error {
	if err := r.enter(ctx, "RemoveVolume", name); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.volumes = slices.DeleteFunc(r.volumes, func(v runtime.Volume) bool { return v.Name == name })
	return nil
}

// Stats returns made-up figures for the running containers among ids.
func (r *Runtime) Stats(ctx context.Context, ids []string) ([]runtime.Stats, error) {
	if err := r.enter(ctx, "Stats", strings.Join(ids, " ")); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var stats []runtime.Stats
	for _, id := range ids {
		if c := r.find(id); c != nil && c.state.Running() {
			stats = append(stats, runtime.Stats{ID: c.state.ID, Name: c.state.Name, CPU: 0.1, Memory: 16 << 20, Limit: c.spec.Memory})
		}
	}
	return stats, nil
}
