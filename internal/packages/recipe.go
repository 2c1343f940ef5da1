package packages

import (
	"fmt"
	"io/fs"
	"path"
	"slices"

	"sigs.k8s.io/yaml"
)

// SchemaVersion is the version of the recipe format and of the way a recipe
// is turned into an artifact. It is part of every recipe's hash: raise it when
// the same recipe would give a different artifact.
const SchemaVersion = 1

// Kind is what building a recipe gives.
type Kind string

// The kinds of artifact.
const (
	// KindImage is an OCI image layout holding one image.
	KindImage Kind = "image"
	// KindTree is a folder holding the recipe's files, for example a
	// Terraform provider mirror.
	KindTree Kind = "tree"
	// KindTool is a single executable.
	KindTool Kind = "tool"
)

// Recipe describes one component that is built from packages. It is data
// only; images/README.md documents the format for people.
type Recipe struct {
	// Name is the component's name and the name of its folder.
	Name string `json:"name"`
	// Version is the upstream version of what the component is.
	Version string `json:"version"`
	Kind    Kind   `json:"kind"`
	// Description is one line for `sandbox images list`.
	Description string `json:"description"`
	// Go and C list the programs that are compiled for this recipe; files
	// refer to them by name.
	Go []GoBuild `json:"go,omitempty"`
	C  []CBuild  `json:"c,omitempty"`
	Content
	// Containerd, in a node image, holds images put into containerd's store.
	Containerd *Containerd `json:"containerd,omitempty"`
	// Provides lists further image references that the artifact holds, such
	// as those in a node's store. It is derived, never written.
	Provides []string `json:"-"`
}

// Content is what an image consists of.
type Content struct {
	Debian *Debian `json:"debian,omitempty"`
	Python *Python `json:"python,omitempty"`
	Files  []File  `json:"files,omitempty"`
	// HostCAs puts the certificate authorities that this host trusts into the
	// image, so that it works on networks that inspect TLS.
	HostCAs bool   `json:"hostCAs,omitempty"`
	Config  Config `json:"config,omitzero"`
}

// GoBuild compiles programs of one Go module in a single go build.
type GoBuild struct {
	// Module names a folder in images/gomod that holds go.mod.in and
	// go.sum.in. The sums are complete, so nothing unverified is compiled.
	Module string `json:"module"`
	// Programs are the packages to build.
	Programs []Program `json:"programs"`
	// Cgo enables cgo. Off, programs are static and fit any image.
	Cgo     bool     `json:"cgo,omitempty"`
	Tags    []string `json:"tags,omitempty"`
	LDFlags string   `json:"ldflags,omitempty"`
	// Edit builds from a cut-down copy of one of the module's requirements.
	Edit *GoEdit `json:"edit,omitempty"`
}

// Program is a main package and the name that files refer to it by.
type Program struct {
	Package string `json:"package"`
	// Name defaults to the last element of the package path that is not a
	// major version.
	Name string `json:"name,omitempty"`
}

// ProgramName returns the name that files refer to the program by.
func (p Program) ProgramName() string {
	if p.Name != "" {
		return p.Name
	}
	return goBinaryName(p.Package)
}

// CBuild compiles one static C program.
type CBuild struct {
	Name string `json:"name"`
	// Source is the C file: in the recipe's folder, or in a Go module.
	Source Source   `json:"source"`
	Flags  []string `json:"flags,omitempty"`
}

// Debian is a root file system made of Debian packages, or a part of one.
type Debian struct {
	// Suite is a Debian release's code name.
	Suite string `json:"suite"`
	// Variant is mmdebstrap's: "essential" (a system that can run scripts;
	// the default), "minbase" (with apt), "apt", "custom" (only the packages,
	// configured) or "extract" (only the packages' files, no scripts run).
	Variant  string   `json:"variant,omitempty"`
	Packages []string `json:"packages,omitempty"`
	// Keep, if set, limits what is taken to paths matching one of the globs;
	// Remove drops paths. "**" matches any number of path elements; a
	// pattern that matches a folder covers all below it.
	Keep   []string `json:"keep,omitempty"`
	Remove []string `json:"remove,omitempty"`
	// Run are shell lines run inside the new system at the end, as root.
	Run []string `json:"run,omitempty"`
}

// Python installs a hash-locked set of Python packages into Target with the
// pip of the Debian system (packages python3-pip or python3-venv are needed
// in it only while building, so BuildPackages are purged afterwards).
type Python struct {
	// Requirements is the lock file in the recipe's folder.
	Requirements string `json:"requirements"`
	// Target is an absolute folder, to be put on PYTHONPATH.
	Target string `json:"target"`
	// BuildPackages are Debian packages needed while installing, for example
	// python3-pip, build-essential; they do not stay in the image.
	BuildPackages []string `json:"buildPackages,omitempty"`
	// NoCompile leaves out byte code: smaller, slower to start.
	NoCompile bool `json:"noCompile,omitempty"`
}

// Source says where a file or folder comes from: the recipe's folder, or a
// folder of a Go module that GoModule's go.sum verifies.
type Source struct {
	// Path is relative to the recipe's folder or to the module's root.
	Path string `json:"path"`
	// GoModule names a folder in images/gomod; Module is the module path
	// within its requirements.
	GoModule string `json:"goModule,omitempty"`
	Module   string `json:"module,omitempty"`
}

// archPlaceholder in a File's To stands for the architecture in Go's words:
// Terraform looks for providers in a folder named by it.
const archPlaceholder = "{arch}"

// File puts one thing at To. Exactly one of the sources is set.
type File struct {
	// To is an absolute path in the image, or a relative one in a tree.
	To string `json:"to"`
	// Mode is octal, "0644" by default, "0755" for programs and folders.
	// With a folder as source it applies to the regular files in it.
	Mode string `json:"mode,omitempty"`
	// UID and GID own it; 0 by default.
	UID int `json:"uid,omitempty"`
	GID int `json:"gid,omitempty"`

	// Program is the name of a Go or C program built by the recipe.
	Program string `json:"program,omitempty"`
	// From is a file or a folder.
	From *Source `json:"from,omitempty"`
	// Content is the file's text.
	Content *string `json:"content,omitempty"`
	// Link is the target of a symbolic link.
	Link string `json:"link,omitempty"`
	// Dir makes an empty folder.
	Dir bool `json:"dir,omitempty"`
}

// Config is the part of an image's configuration that recipes set.
type Config struct {
	Entrypoint []string `json:"entrypoint,omitempty"`
	Cmd        []string `json:"cmd,omitempty"`
	// Env are NAME=value lines.
	Env        []string          `json:"env,omitempty"`
	User       string            `json:"user,omitempty"`
	WorkingDir string            `json:"workingDir,omitempty"`
	Ports      []string          `json:"ports,omitempty"`
	Volumes    []string          `json:"volumes,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	StopSignal string            `json:"stopSignal,omitempty"`
	// Healthcheck is kept in the image for engines that honour it.
	Healthcheck *Healthcheck `json:"healthcheck,omitempty"`
}

// Healthcheck is a container health check. Durations are Go's: "2s".
type Healthcheck struct {
	// Test is the command as in a Dockerfile: ["CMD", …] or ["CMD-SHELL", …].
	Test        []string `json:"test"`
	Interval    string   `json:"interval,omitempty"`
	Timeout     string   `json:"timeout,omitempty"`
	StartPeriod string   `json:"startPeriod,omitempty"`
	Retries     int      `json:"retries,omitempty"`
}

// Containerd fills containerd's content store in a node image, so that the
// kubelet finds the images there. The recipe's own programs "containerd" and
// "ctr" do the import, on this host, without an engine.
type Containerd struct {
	// Root is containerd's root folder in the image.
	Root   string     `json:"root"`
	Images []Embedded `json:"images"`
}

// Embedded is an image inside a node image: another recipe, or its own content.
type Embedded struct {
	// Ref is the full reference pods use, for example
	// registry.k8s.io/pause:3.10.2.
	Ref string `json:"ref"`
	// Recipe is the name of another recipe of kind image.
	Recipe string `json:"recipe,omitempty"`
	Content
}

const recipeFile = "image.yaml"

// Recipes reads and validates all recipes of fsys, in the order of their names.
func Recipes(fsys fs.FS) ([]*Recipe, error) {
	found, err := fs.Glob(fsys, "*/"+recipeFile)
	if err != nil {
		return nil, fmt.Errorf("list recipes: %w", err)
	}
	slices.Sort(found)
	recipes := make([]*Recipe, 0, len(found))
	for _, file := range found {
		r, err := LoadRecipe(fsys, path.Dir(file))
		if err != nil {
			return nil, err
		}
		recipes = append(recipes, r)
	}
	return recipes, nil
}

// LoadRecipe reads and validates the recipe in folder name of fsys.
func LoadRecipe(fsys fs.FS, name string) (*Recipe, error) {
	file := path.Join(name, recipeFile)
	data, err := fs.ReadFile(fsys, file)
	if err != nil {
		return nil, fmt.Errorf("read recipe %q: %w", name, err)
	}
	r := new(Recipe)
	if err := yaml.UnmarshalStrict(data, r); err != nil {
		return nil, fmt.Errorf("parse %s: %w", file, err)
	}
	if err := r.validate(fsys, name); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if r.Containerd != nil {
		for _, image := range r.Containerd.Images {
			r.Provides = append(r.Provides, image.Ref)
		}
	}
	return r, nil
}
