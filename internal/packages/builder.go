package packages

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
)

// RepositoryPrefix is what the references of all built images start with.
const RepositoryPrefix = "localhost/sandbox/"

// shortHash is how much of a hash appears in names: enough for a cache.
const shortHash = 12

// Artifact is a finished component in the cache.
type Artifact struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Kind    Kind   `json:"kind"`
	// Hash is the recipe's hash: equal hashes, equal artifacts.
	Hash string `json:"hash"`
	// Path is the OCI layout, the tree, or the executable.
	Path string `json:"path"`
	// Ref is the image's reference in an engine; empty for other kinds.
	Ref string `json:"ref,omitempty"`
	// ImageID is the digest of the image's configuration, which engines use
	// as its ID; empty for other kinds.
	ImageID string `json:"imageID,omitempty"`
	// Size of the image's layers in bytes, uncompressed.
	Size int64 `json:"size,omitempty"`
	// Provides lists the references of images inside a node image.
	Provides []string `json:"provides,omitempty"`
}

// Builder builds recipes. It is safe for concurrent use; the same component
// or part asked for twice, also by another process, is built once.
type Builder struct {
	recipes fs.FS
	cache   string
	caFile  string
	runner  runner
	goSlot  *semaphore.Weighted
}

// Options configure a Builder.
type Options struct {
	// Recipes holds a folder per component; normally images.FS.
	Recipes fs.FS
	// CacheDir holds artifacts and parts; empty means DefaultCacheDir.
	CacheDir string
}

// New returns a Builder. It touches nothing yet.
func New(o Options) (*Builder, error) {
	if o.CacheDir == "" {
		dir, err := DefaultCacheDir()
		if err != nil {
			return nil, err
		}
		o.CacheDir = dir
	}
	return &Builder{
		recipes: o.Recipes, cache: o.CacheDir, caFile: HostCAFile(), runner: hostRunner{}, goSlot: semaphore.NewWeighted(1),
	}, nil
}

// Recipes returns all recipes by name.
func (b *Builder) Recipes() ([]*Recipe, error) { return Recipes(b.recipes) }

// Plan returns what Build would give, without building: Path is where the
// artifact will be, and ImageID and Size are unknown.
func (b *Builder) Plan(name string) (Artifact, error) {
	_, a, err := b.plan(name)
	return a, err
}

// Cached returns the artifact if it is built already.
func (b *Builder) Cached(name string) (Artifact, bool, error) {
	_, a, err := b.plan(name)
	if err != nil {
		return Artifact{}, false, err
	}
	done, err := b.readArtifact(a)
	if errors.Is(err, fs.ErrNotExist) {
		return a, false, nil
	}
	return done, err == nil, err
}

func (b *Builder) plan(name string) (*Recipe, Artifact, error) {
	r, err := b.recipe(name)
	if err != nil {
		return nil, Artifact{}, err
	}
	sum, err := recipeHash(b.recipes, r, b.caFile)
	if err != nil {
		return nil, Artifact{}, fmt.Errorf("hash recipe %q: %w", name, err)
	}
	a := Artifact{Name: r.Name, Version: r.Version, Kind: r.Kind, Hash: sum, Provides: r.Provides}
	dir := b.artifactDir(a)
	switch r.Kind {
	case KindImage:
		a.Path = filepath.Join(dir, "oci")
		a.Ref = RepositoryPrefix + r.Name + ":" + r.Version + "-" + sum[:shortHash]
	case KindTree:
		a.Path = filepath.Join(dir, "tree")
	case KindTool:
		a.Path = filepath.Join(dir, "tree", filepath.FromSlash(r.Files[0].To))
	}
	return r, a, nil
}

func (b *Builder) recipe(name string) (*Recipe, error) {
	if _, err := fs.Stat(b.recipes, name+"/"+recipeFile); err != nil {
		known, listErr := Recipes(b.recipes)
		if listErr != nil {
			return nil, listErr
		}
		names := make([]string, len(known))
		for i, r := range known {
			names[i] = r.Name
		}
		return nil, fault.New(fault.Unavailable, fmt.Sprintf("no recipe for %q", name),
			fmt.Sprintf("these components can be built from packages: %v", names), "sandbox images list")
	}
	return LoadRecipe(b.recipes, name)
}

func (b *Builder) artifactDir(a Artifact) string {
	return filepath.Join(b.cache, "images", a.Name, a.Hash[:shortHash])
}

const artifactFile = "artifact.json"

// readArtifact completes a planned artifact with what is recorded of it.
// Paths are taken from the plan, so that a cache can be moved.
func (b *Builder) readArtifact(a Artifact) (Artifact, error) {
	data, err := os.ReadFile(filepath.Join(b.artifactDir(a), artifactFile))
	if err != nil {
		return Artifact{}, fmt.Errorf("read artifact %q: %w", a.Name, err)
	}
	var recorded Artifact
	if err := json.Unmarshal(data, &recorded); err != nil {
		return Artifact{}, fmt.Errorf("read artifact %q: %w", a.Name, err)
	}
	a.ImageID, a.Size = recorded.ImageID, recorded.Size
	return a, nil
}

// Build returns the component, building what is missing of it.
func (b *Builder) Build(ctx context.Context, name string, reporter event.Reporter) (Artifact, error) {
	r, a, err := b.plan(name)
	if err != nil {
		return Artifact{}, err
	}
	if done, err := b.readArtifact(a); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return done, err
	}
	if runtime.GOOS != "linux" {
		return Artifact{}, fault.New(fault.Unavailable, "cannot build "+name+" from packages",
			"building platform images needs Linux, this host runs "+runtime.GOOS, "use a registry: --images registry")
	}
	if err := b.needTools(r, b.tools(r)); err != nil {
		return Artifact{}, err
	}
	waiting := func() {
		reporter.Progress(event.Progress{Text: "waiting for another build of " + name})
	}
	_, err = once(ctx, b.artifactDir(a), waiting, func(partial string) error {
		return b.build(ctx, r, a, partial, reporter)
	})
	if err != nil {
		return Artifact{}, fmt.Errorf("build %s: %w", name, err)
	}
	return b.readArtifact(a)
}

// tools lists the host tools that building the recipe takes.
func (b *Builder) tools(r *Recipe) []string {
	need := map[string]bool{}
	need["go"] = len(r.modules()) > 0
	need["gcc"] = len(r.C) > 0
	for _, g := range r.Go {
		need["gcc"] = need["gcc"] || g.Cgo
	}
	for _, c := range r.contents() {
		need["mmdebstrap"] = need["mmdebstrap"] || c.Debian != nil
	}
	need["unshare"] = r.Containerd != nil && os.Geteuid() != 0
	var tools []string
	for tool, needed := range need {
		if needed {
			tools = append(tools, tool)
		}
	}
	slices.Sort(tools)
	return tools
}

// job is one build of a recipe.
type job struct {
	recipe *Recipe
	board  *board

	mu       sync.Mutex
	programs map[string]string // name → file
}

func (j *job) addPrograms(dir string, names ...string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, name := range names {
		j.programs[name] = filepath.Join(dir, name)
	}
}

func (b *Builder) build(ctx context.Context, r *Recipe, a Artifact, dir string, reporter event.Reporter) error {
	j := &job{recipe: r, programs: map[string]string{}, board: newBoard(reporter, r.countParts())}
	defer j.board.close()

	systems := make([]system, len(r.contents()))
	if err := b.buildParts(ctx, j, systems); err != nil {
		return err
	}
	if r.Kind != KindImage {
		t := j.board.begin("place files")
		defer t.end()
		entries, err := b.place(ctx, t, j, r.Files)
		if err != nil {
			return err
		}
		if err := writeTree(filepath.Join(dir, "tree"), entries.sorted()); err != nil {
			return err
		}
		return writeArtifact(dir, a)
	}
	image, err := b.assemble(ctx, j, &r.Content, systems, dir)
	if err != nil {
		return err
	}
	return b.finishImage(ctx, j, a, image, dir)
}

// buildParts builds everything that is compiled or bootstrapped, at the same
// time as far as it is independent.
func (b *Builder) buildParts(ctx context.Context, j *job, systems []system) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, g := range j.recipe.Go {
		group.Go(func() error {
			dir, err := b.buildGo(ctx, j, g)
			if err != nil {
				return err
			}
			for _, p := range g.Programs {
				j.addPrograms(dir, p.ProgramName())
			}
			return nil
		})
	}
	for _, c := range j.recipe.C {
		group.Go(func() error {
			file, err := b.buildC(ctx, j, c)
			if err != nil {
				return err
			}
			j.addPrograms(filepath.Dir(file), c.Name)
			return nil
		})
	}
	for i, c := range j.recipe.contents() {
		group.Go(func() error {
			var err error
			systems[i], err = b.buildSystem(ctx, j, c)
			return err
		})
	}
	for _, name := range j.recipe.embeds() {
		group.Go(func() error {
			t := j.board.begin("build " + name)
			defer t.end()
			_, err := b.Build(ctx, name, nested{t})
			return err
		})
	}
	return group.Wait()
}

// nested shows the build of an embedded recipe as one task of the outer one.
type nested struct{ task *task }

func (n nested) Progress(p event.Progress) { n.task.set("%s", p.Text) }
func (n nested) Log(source, line string)   { n.task.log(source, line) }

func (r *Recipe) countParts() int {
	n := len(r.Go) + len(r.C) + len(r.embeds()) + 1
	for _, c := range r.contents() {
		if c.Debian != nil {
			n++
		}
		if c.Python != nil {
			n++
		}
	}
	return n
}

// part returns the folder of a cached part, filling it if it is not there.
func (b *Builder) part(ctx context.Context, j *job, kind, key, title string, fill func(t *task, dir string) error) (string, error) {
	t := j.board.begin(title)
	defer t.end()
	dir := filepath.Join(b.cache, "parts", kind+"-"+key[:shortHash])
	_, err := once(ctx, dir, func() { t.wait(true) }, func(partial string) error {
		t.wait(false)
		return fill(t, partial)
	})
	if err != nil {
		return "", fmt.Errorf("%s: %w", title, err)
	}
	return dir, markUsed(dir)
}

func writeArtifact(dir string, a Artifact) error {
	data, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return fmt.Errorf("record artifact: %w", err)
	}
	return os.WriteFile(filepath.Join(dir, artifactFile), append(data, '\n'), 0o600)
}
