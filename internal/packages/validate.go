package packages

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
)

var (
	validName    = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	majorVersion = regexp.MustCompile(`^v[0-9]+$`)
	// mergedFolders are links to /usr/… in a configured Debian system.
	mergedFolders = []string{"bin", "lib", "lib64", "sbin"}
	debianVariant = []string{"", "essential", "minbase", "apt", "custom", "extract"}
)

// goBinaryName is the name that `go build -o DIR/` gives to a main package.
func goBinaryName(pkg string) string {
	base := path.Base(pkg)
	if majorVersion.MatchString(base) {
		base = path.Base(path.Dir(pkg))
	}
	return base
}

// validate reports everything that is wrong with the recipe, not only the
// first thing.
func (r *Recipe) validate(fsys fs.FS, folder string) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if r.Name != folder {
		bad("name %q is not the folder's name %q", r.Name, folder)
	}
	if !validName.MatchString(r.Name) {
		bad("name %q does not match %s", r.Name, validName)
	}
	if r.Version == "" {
		bad("version is missing")
	}
	if !slices.Contains([]Kind{KindImage, KindTree, KindTool}, r.Kind) {
		bad("kind %q is none of image, tree, tool", r.Kind)
	}
	programs := r.validateBuilds(fsys, bad)
	r.validateContent("", &r.Content, fsys, programs, bad)
	if r.Kind != KindImage {
		if r.Debian != nil || r.Python != nil || r.Containerd != nil {
			bad("kind %s takes only programs and files", r.Kind)
		}
		if r.Kind == KindTool && (len(r.Files) != 1 || r.Files[0].Program == "") {
			bad("kind tool takes exactly one file, a program")
		}
	}
	if c := r.Containerd; c != nil {
		if !path.IsAbs(c.Root) {
			bad("containerd.root %q is not absolute", c.Root)
		}
		for _, need := range []string{"containerd", "ctr"} {
			if !programs[need] {
				bad("containerd needs a program %q among the recipe's go programs", need)
			}
		}
		refs := map[string]bool{}
		for i := range c.Images {
			r.validateEmbedded(&c.Images[i], refs, fsys, programs, bad)
		}
	}
	return errors.Join(errs...)
}

// validateBuilds checks the go and c sections and returns the names of the
// programs they give.
func (r *Recipe) validateBuilds(fsys fs.FS, bad func(string, ...any)) map[string]bool {
	programs := map[string]bool{}
	add := func(name string) {
		if programs[name] {
			bad("program %q is built twice", name)
		}
		programs[name] = true
	}
	for i, g := range r.Go {
		checkModule(fmt.Sprintf("go[%d]", i), g.Module, fsys, bad)
		if len(g.Programs) == 0 {
			bad("go[%d]: no programs", i)
		}
		if g.Edit != nil {
			g.Edit.validate(fmt.Sprintf("go[%d].edit", i), bad)
		}
		for _, p := range g.Programs {
			if p.Package == "" {
				bad("go[%d]: a program without a package", i)
				continue
			}
			add(p.ProgramName())
		}
	}
	for i, c := range r.C {
		if c.Name == "" {
			bad("c[%d]: name is missing", i)
		}
		add(c.Name)
		r.checkSource(fmt.Sprintf("c[%d].source", i), c.Source, fsys, bad)
	}
	return programs
}

func (r *Recipe) validateEmbedded(e *Embedded, refs map[string]bool, fsys fs.FS, programs map[string]bool, bad func(string, ...any)) {
	where := fmt.Sprintf("containerd image %q: ", e.Ref)
	if ref, err := name.ParseReference(e.Ref, name.StrictValidation); err != nil || strings.TrimPrefix(ref.Name(), "index.") != e.Ref {
		bad("%sthe reference must be complete: registry/name:tag", where)
	}
	if refs[e.Ref] {
		bad("%slisted twice", where)
	}
	refs[e.Ref] = true
	inline := e.Debian != nil || e.Python != nil || len(e.Files) > 0
	switch {
	case e.Recipe != "" && inline:
		bad("%shas both a recipe and content of its own", where)
	case e.Recipe == "" && !inline:
		bad("%shas neither a recipe nor content", where)
	case e.Recipe != "":
		if _, err := fs.Stat(fsys, path.Join(e.Recipe, recipeFile)); err != nil {
			bad("%sno recipe %q", where, e.Recipe)
		}
	default:
		r.validateContent(where, &e.Content, fsys, programs, bad)
	}
}

func (r *Recipe) validateContent(where string, c *Content, fsys fs.FS, programs map[string]bool, bad func(string, ...any)) {
	if d := c.Debian; d != nil {
		if d.Suite == "" {
			bad("%sdebian.suite is missing", where)
		}
		if !slices.Contains(debianVariant, d.Variant) {
			bad("%sdebian.variant %q is none of%s", where, d.Variant, strings.Join(debianVariant, " "))
		}
		for _, glob := range slices.Concat(d.Keep, d.Remove) {
			if _, err := path.Match(glob, ""); err != nil || !path.IsAbs(glob) {
				bad("%spattern %q must be an absolute glob", where, glob)
			}
		}
	}
	if p := c.Python; p != nil {
		if c.Debian == nil {
			bad("%spython needs debian", where)
		}
		if _, err := fs.Stat(fsys, path.Join(r.Name, p.Requirements)); err != nil || p.Requirements == "" {
			bad("%spython.requirements %q is not in the recipe's folder", where, p.Requirements)
		}
		if !path.IsAbs(p.Target) {
			bad("%spython.target %q is not absolute", where, p.Target)
		}
	}
	merged := c.Debian != nil && c.Debian.Variant != "extract"
	for i, f := range c.Files {
		if top, _, _ := strings.Cut(strings.TrimPrefix(f.To, "/"), "/"); merged && slices.Contains(mergedFolders, top) {
			bad("%sfiles[%d] %q: /%s is a link in a Debian system and would be replaced; use /usr%s", where, i, f.To, top, f.To)
		}
		r.validateFile(fmt.Sprintf("%sfiles[%d] %q: ", where, i, f.To), f, fsys, programs, bad)
	}
	if h := c.Config.Healthcheck; h != nil {
		for _, d := range []string{h.Interval, h.Timeout, h.StartPeriod} {
			if _, err := time.ParseDuration(d); d != "" && err != nil {
				bad("%shealthcheck: %w", where, err)
			}
		}
	}
	for _, e := range c.Config.Env {
		if name, _, ok := strings.Cut(e, "="); !ok || name == "" {
			bad("%senv %q is not NAME=value", where, e)
		}
	}
}

func (r *Recipe) validateFile(where string, f File, fsys fs.FS, programs map[string]bool, bad func(string, ...any)) {
	if image := r.Kind == KindImage; image != path.IsAbs(f.To) || path.Clean(f.To) != f.To || strings.HasPrefix(f.To, "..") {
		bad("%spath must be clean, absolute in an image, relative otherwise", where)
	}
	sources := 0
	for _, set := range []bool{f.Program != "", f.From != nil, f.Content != nil, f.Link != "", f.Dir} {
		if set {
			sources++
		}
	}
	if sources != 1 {
		bad("%sneeds exactly one of program, from, content, link, dir", where)
	}
	if f.Program != "" && !programs[f.Program] {
		bad("%sno program %q is built by this recipe", where, f.Program)
	}
	if f.From != nil {
		r.checkSource(where+"from", *f.From, fsys, bad)
	}
	if _, err := f.mode(0); err != nil {
		bad("%s%w", where, err)
	}
}

// mode returns the permission bits of the file, or fallback where none are set.
func (f File) mode(fallback fs.FileMode) (fs.FileMode, error) {
	if f.Mode == "" {
		return fallback, nil
	}
	bits, err := strconv.ParseUint(f.Mode, 8, 12)
	if err != nil {
		return 0, fmt.Errorf("mode %q is not octal", f.Mode)
	}
	return fs.FileMode(bits), nil
}

func (r *Recipe) checkSource(where string, s Source, fsys fs.FS, bad func(string, ...any)) {
	if !fs.ValidPath(s.Path) {
		bad("%s: path %q must be relative, clean and stay inside", where, s.Path)
	}
	if (s.GoModule == "") != (s.Module == "") {
		bad("%s: goModule and module belong together", where)
	}
	if s.GoModule != "" {
		checkModule(where, s.GoModule, fsys, bad)
		return
	}
	if _, err := fs.Stat(fsys, path.Join(r.Name, s.Path)); err != nil {
		bad("%s: %q is not in the recipe's folder", where, s.Path)
	}
}

func checkModule(where, module string, fsys fs.FS, bad func(string, ...any)) {
	for _, file := range []string{goModFile, goSumFile} {
		if _, err := fs.Stat(fsys, path.Join(goModFolder, module, file)); err != nil || module == "" {
			bad("%s: no %s/%s/%s", where, goModFolder, module, file)
		}
	}
}
