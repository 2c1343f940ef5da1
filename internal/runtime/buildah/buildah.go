// Package buildah builds images with the buildah command instead of the
// engine's own builder.
package buildah

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/buildcontext"
	"github.com/sandbox-stack/sandbox/internal/runtime/child"
	"github.com/sandbox-stack/sandbox/internal/runtime/install"
)

// stop bounds how long a canceled command may take to clean up.
const stop = 10 * time.Second

// Builder is an engine whose images Buildah builds. Buildah works in the store of
// Podman's: where that is the engine's too, nothing has to be carried; else
// base images go there and the result comes back as archives, and nothing stays.
type Builder struct {
	runtime.Runtime
	binary string
	dir    string // private, for archives

	// building is held by a build: another one may need the base image that
	// this one takes away at its end.
	building sync.Mutex
}

// New returns the engine with Buildah as its builder. dir is a private folder.
func New(engine runtime.Runtime, dir string) (*Builder, error) {
	binary, err := exec.LookPath("buildah")
	if err != nil {
		return nil, &fault.Error{
			Code: fault.Unavailable, What: "Buildah is not installed", Why: "no buildah command is on the PATH",
			Try: install.Command("buildah"), Cause: err,
		}
	}
	return &Builder{Runtime: engine, binary: binary, dir: dir}, nil
}

// BuildImage builds an image from a Dockerfile.
func (b *Builder) BuildImage(ctx context.Context, spec runtime.BuildSpec, log func(line string)) (runtime.Image, error) {
	b.building.Lock()
	defer b.building.Unlock()
	image, err := b.build(ctx, spec, log)
	if err != nil {
		return runtime.Image{}, fmt.Errorf("build image %q: %w", spec.Tag, err)
	}
	return image, nil
}

func (b *Builder) build(ctx context.Context, spec runtime.BuildSpec, log func(line string)) (runtime.Image, error) {
	files, err := buildcontext.Open(spec.Context, spec.Dockerfile)
	if err != nil {
		return runtime.Image{}, err
	}
	named, err := images(files.DockerfilePath(), spec)
	if err != nil {
		return runtime.Image{}, err
	}
	carried, err := b.bring(ctx, named)
	defer func() {
		for _, ref := range carried {
			if err := b.forget(context.WithoutCancel(ctx), ref); err != nil { // another program's build may use it
				log("left with Buildah: " + err.Error())
			}
		}
	}()
	if err != nil {
		return runtime.Image{}, err
	}
	args := append([]string{"build", "--pull=false", "--layers=" + fmt.Sprint(len(carried) == 0)}, Flags(spec, files.IgnoreFile)...)
	if err := b.run(ctx, log, args...); err != nil {
		return runtime.Image{}, err
	}
	id, err := b.id(ctx, spec.Tag)
	if err != nil {
		return runtime.Image{}, err
	}
	image, err := b.Image(ctx, spec.Tag)
	if err == nil && image.ID == id { // one store for both
		return image, nil
	}
	if err != nil && !errors.Is(err, runtime.ErrNotFound) {
		return runtime.Image{}, err
	}
	if err := errors.Join(b.handOver(ctx, spec.Tag), b.forget(context.WithoutCancel(ctx), spec.Tag)); err != nil {
		return runtime.Image{}, err
	}
	return b.Image(ctx, spec.Tag)
}

// imageName matches where a Dockerfile names an image.
var imageName = regexp.MustCompile(`(?im)^\s*FROM\s+(?:--\S+\s+)*(\S+)|\bfrom=([^\s,]+)`)

// images lists what may be the name of an image that the build needs: what the
// Dockerfile names, and the values of the arguments, which may stand for one.
func images(dockerfile string, spec runtime.BuildSpec) ([]string, error) {
	text, err := os.ReadFile(dockerfile)
	if err != nil {
		return nil, fmt.Errorf("read the Dockerfile: %w", err)
	}
	list := slices.Collect(maps.Values(spec.Args))
	for _, match := range imageName.FindAllStringSubmatch(string(text), -1) {
		list = append(list, match[1]+match[2])
	}
	list = slices.DeleteFunc(list, func(s string) bool { return s == "" || strings.ContainsAny(s, "$ \n") || s[0] == '/' })
	slices.Sort(list)
	return slices.Compact(list), nil
}

// bring carries the named images, as far as the engine has them and Buildah does
// not, and returns which.
func (b *Builder) bring(ctx context.Context, named []string) (carried []string, err error) {
	for _, ref := range named {
		image, err := b.Image(ctx, ref)
		if err != nil {
			if ctx.Err() != nil {
				return carried, ctx.Err()
			}
			continue // no image: some other value, or one to be pulled
		}
		if id, err := b.id(ctx, ref); err == nil && id == image.ID {
			continue
		}
		err = b.withArchive(func(path string) error {
			file, err := os.Create(path)
			if err != nil {
				return err
			}
			if err := errors.Join(b.SaveImage(ctx, ref, file), file.Close()); err != nil {
				return err
			}
			return b.run(ctx, nil, "pull", "--quiet", "docker-archive:"+path)
		})
		if err != nil {
			return carried, fmt.Errorf("give %s to Buildah: %w", ref, err)
		}
		carried = append(carried, ref)
	}
	return carried, nil
}

// handOver gives the built image to the engine.
func (b *Builder) handOver(ctx context.Context, tag string) error {
	return b.withArchive(func(path string) error {
		if err := b.run(ctx, nil, "push", "--quiet", tag, "docker-archive:"+path+":"+tag); err != nil {
			return fmt.Errorf("take the image from Buildah: %w", err)
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer func() { _ = file.Close() }() // an HTTP client may have closed it
		_, err = b.LoadImage(ctx, file)
		return err
	})
}

// withArchive calls f with the path of a file that does not exist yet and goes
// afterwards.
func (b *Builder) withArchive(f func(path string) error) error {
	dir, err := os.MkdirTemp(b.dir, "image-")
	if err != nil {
		return err
	}
	return errors.Join(f(filepath.Join(dir, "image.tar")), os.RemoveAll(dir))
}

// id is the ID of an image in Buildah's store.
func (b *Builder) id(ctx context.Context, ref string) (string, error) {
	var out []string
	err := b.run(ctx, func(line string) { out = append(out, line) }, "inspect", "--type=image", "--format={{.FromImageID}}", ref)
	if err != nil {
		return "", err
	}
	return "sha256:" + strings.TrimSpace(strings.Join(out, "")), nil
}

// forget removes an image from Buildah's store.
func (b *Builder) forget(ctx context.Context, ref string) error {
	return b.run(ctx, nil, "rmi", ref)
}

// run runs buildah; where log is nil, what it says is the error's.
func (b *Builder) run(ctx context.Context, log func(string), args ...string) error {
	var said []string
	if log == nil {
		log = func(line string) { said = append(said, line) }
	}
	// As with Podman: let what starts at the same time go first.
	cmd := exec.Command("nice", append([]string{"-n", "10", b.binary}, args...)...)
	if err := child.Lines(ctx, cmd, stop, log); err != nil {
		if len(said) > 0 {
			return fmt.Errorf("buildah %s: %w: %s", args[0], err, strings.Join(said, "\n"))
		}
		return fmt.Errorf("buildah %s: %w", args[0], err)
	}
	return nil
}
