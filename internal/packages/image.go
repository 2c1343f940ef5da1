package packages

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// system is the bootstrapped base of a content: the parts of its Debian and
// Python layers, where it has them.
type system struct{ debian, python string }

func (b *Builder) buildSystem(ctx context.Context, j *job, c *Content) (system, error) {
	var s system
	var err error
	if c.Debian == nil {
		return s, nil
	}
	if s.debian, err = b.buildDebian(ctx, j, *c.Debian); err != nil {
		return s, err
	}
	if c.Python != nil {
		s.python, err = b.buildPython(ctx, j, *c.Debian, *c.Python)
	}
	return s, err
}

// assemble puts the recipe's image together; layers that are not parts are
// written into dir.
func (b *Builder) assemble(ctx context.Context, j *job, c *Content, systems []system, dir string) (v1.Image, error) {
	t := j.board.begin("assemble " + j.recipe.Name)
	defer t.end()
	image, err := b.contentImage(ctx, t, j, c, systems[0], filepath.Join(dir, "files.tar"))
	if err != nil {
		return nil, err
	}
	if j.recipe.Containerd == nil {
		return image, nil
	}
	store, err := b.buildStore(ctx, j, systems[1:], dir)
	if err != nil {
		return nil, err
	}
	return mutate.AppendLayers(image, store)
}

// contentImage makes an image of a content: its Debian and Python layers, one
// layer with its files (written to filesLayer), and its configuration.
func (b *Builder) contentImage(ctx context.Context, t *task, j *job, c *Content, s system, filesLayer string) (v1.Image, error) {
	var layers []v1.Layer
	for _, part := range []string{s.debian, s.python} {
		if part == "" {
			continue
		}
		layer, err := openPart(part)
		if err != nil {
			return nil, err
		}
		layers = append(layers, layer)
	}
	entries, err := b.place(ctx, t, j, c.Files)
	if err != nil {
		return nil, err
	}
	if c.HostCAs {
		data, err := readHostCAs(b.caFile)
		if err != nil {
			return nil, err
		}
		entries.add(entry{name: imageCAFile, mode: 0o644, data: data})
	}
	if len(entries) > 0 {
		layer, err := writeLayer(filesLayer, entries)
		if err != nil {
			return nil, err
		}
		layers = append(layers, layer)
	}
	image, err := mutate.AppendLayers(emptyOCI(), layers...)
	if err != nil {
		return nil, fmt.Errorf("append layers: %w", err)
	}
	return configure(image, c.Config)
}

func emptyOCI() v1.Image {
	return mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
}

// place resolves where each file comes from.
func (b *Builder) place(ctx context.Context, t *task, j *job, files []File) (placed, error) {
	all := placed{}
	for _, f := range files {
		if err := b.placeFile(ctx, t, j, f, all); err != nil {
			return nil, fmt.Errorf("file %s: %w", f.To, err)
		}
	}
	return all, nil
}

func (b *Builder) placeFile(ctx context.Context, t *task, j *job, f File, all placed) error {
	e := entry{name: strings.ReplaceAll(f.To, archPlaceholder, runtime.GOARCH), uid: f.UID, gid: f.GID, link: f.Link}
	fallback := fs.FileMode(0o644)
	switch {
	case f.Program != "":
		e.source, fallback = j.programs[f.Program], 0o755
	case f.Content != nil:
		e.data = []byte(*f.Content)
	case f.Dir:
		fallback = 0o755
	case f.From != nil:
		return b.placeTree(ctx, t, j, f, all)
	}
	mode, err := f.mode(fallback)
	if err != nil {
		return err
	}
	e.mode = mode & fs.ModePerm
	if mode&0o1000 != 0 {
		e.mode |= fs.ModeSticky
	}
	if f.Dir {
		e.mode |= fs.ModeDir
	}
	all.add(e)
	return nil
}

// placeTree adds a file or a folder with all below it.
func (b *Builder) placeTree(ctx context.Context, t *task, j *job, f File, all placed) error {
	mode, err := f.mode(0o644)
	if err != nil {
		return err
	}
	root, fsys := path.Join(j.recipe.Name, f.From.Path), b.recipes
	if f.From.GoModule != "" {
		dir, err := b.moduleDir(ctx, t, f.From.GoModule, f.From.Module)
		if err != nil {
			return err
		}
		root, fsys = f.From.Path, os.DirFS(dir)
	}
	return fs.WalkDir(fsys, root, func(file string, item fs.DirEntry, err error) error {
		if err != nil || item.IsDir() {
			return err
		}
		data, err := fs.ReadFile(fsys, file)
		if err != nil {
			return err
		}
		below := strings.TrimPrefix(strings.TrimPrefix(file, root), "/")
		all.add(entry{name: path.Join(f.To, below), mode: mode, uid: f.UID, gid: f.GID, data: data})
		return nil
	})
}

func writeLayer(file string, entries placed) (v1.Layer, error) {
	w, err := createLayer(file)
	if err != nil {
		return nil, err
	}
	writeErr := w.writeEntries(entries.withParents().sorted())
	sum, err := w.close()
	if err := errors.Join(writeErr, err); err != nil {
		return nil, err
	}
	return openLayer(file, sum)
}

// configure sets the image's configuration.
func configure(image v1.Image, c Config) (v1.Image, error) {
	file, err := image.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("read image configuration: %w", err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Created = "linux", runtime.GOARCH, v1.Time{Time: epoch}
	for i := range file.History {
		file.History[i] = v1.History{CreatedBy: "sandbox", Created: v1.Time{Time: epoch}}
	}
	file.Config = v1.Config{
		Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env, User: c.User, WorkingDir: c.WorkingDir,
		Labels: c.Labels, StopSignal: c.StopSignal,
	}
	if len(c.Ports) > 0 {
		file.Config.ExposedPorts = toSet(c.Ports)
	}
	if len(c.Volumes) > 0 {
		file.Config.Volumes = toSet(c.Volumes)
	}
	if h := c.Healthcheck; h != nil {
		check := &v1.HealthConfig{Test: h.Test, Retries: h.Retries}
		for text, field := range map[string]*time.Duration{h.Interval: &check.Interval, h.Timeout: &check.Timeout, h.StartPeriod: &check.StartPeriod} {
			if text == "" {
				continue
			}
			if *field, err = time.ParseDuration(text); err != nil {
				return nil, fmt.Errorf("healthcheck: %w", err)
			}
		}
		file.Config.Healthcheck = check
	}
	image, err = mutate.ConfigFile(image, file)
	if err != nil {
		return nil, fmt.Errorf("configure image: %w", err)
	}
	return image, nil
}

func toSet(names []string) map[string]struct{} {
	set := make(map[string]struct{}, len(names))
	for _, name := range names {
		set[name] = struct{}{}
	}
	return set
}

// finishImage writes the image as an OCI layout and records the artifact.
func (b *Builder) finishImage(ctx context.Context, j *job, a Artifact, image v1.Image, dir string) error {
	t := j.board.begin("write image")
	defer t.end()
	root := filepath.Join(dir, "oci")
	if err := writeLayout(root, map[string]v1.Image{a.Ref: image}, refAnnotation); err != nil {
		return err
	}
	id, err := image.ConfigName()
	if err != nil {
		return fmt.Errorf("identify image: %w", err)
	}
	a.ImageID = id.String()
	layers, err := image.Layers()
	if err != nil {
		return fmt.Errorf("list layers: %w", err)
	}
	for _, layer := range layers {
		size, err := layer.Size()
		if err != nil {
			return fmt.Errorf("measure layer: %w", err)
		}
		a.Size += size
		// The layout has the layer now; the working copy goes. Parts stay.
		if own, ok := layer.(*tarLayer); ok && filepath.Dir(own.file) == dir {
			if err := os.Remove(own.file); err != nil {
				return fmt.Errorf("remove working copy: %w", err)
			}
		}
	}
	for i := range j.recipe.embeddedCount() {
		if err := os.RemoveAll(embeddedDir(dir, i)); err != nil {
			return fmt.Errorf("remove working copy: %w", err)
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return writeArtifact(dir, a)
}

// refAnnotation names an image in a layout for Podman and other OCI tools.
const refAnnotation = "org.opencontainers.image.ref.name"

// writeLayout writes images into an OCI layout, each named by annotation.
// Layer files become further names of the blobs instead of copies.
func writeLayout(root string, images map[string]v1.Image, annotation string) error {
	out, err := layout.Write(root, empty.Index)
	if err != nil {
		return fmt.Errorf("create layout: %w", err)
	}
	blobs := filepath.Join(root, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o755); err != nil {
		return fmt.Errorf("create layout: %w", err)
	}
	for _, ref := range sortedKeys(images) {
		layers, err := images[ref].Layers()
		if err != nil {
			return fmt.Errorf("list layers of %s: %w", ref, err)
		}
		for _, layer := range layers {
			if own, ok := layer.(localLayer); ok {
				file, digest := own.local()
				if err := linkOrCopy(file, filepath.Join(blobs, digest.Hex)); err != nil {
					return fmt.Errorf("store layer: %w", err)
				}
			}
		}
		if err := out.AppendImage(images[ref], layout.WithAnnotations(map[string]string{annotation: ref})); err != nil {
			return fmt.Errorf("write image %s: %w", ref, err)
		}
	}
	return nil
}

// localLayer is a layer that is a file on this host.
type localLayer interface {
	local() (file string, digest v1.Hash)
}

// tarLayer is an uncompressed layer in a file.
type tarLayer struct {
	file   string
	digest v1.Hash
	size   int64
}

func openPart(dir string) (v1.Layer, error) {
	sum, err := os.ReadFile(filepath.Join(dir, digestFile))
	if err != nil {
		return nil, fmt.Errorf("open part: %w", err)
	}
	return openLayer(filepath.Join(dir, layerFile), string(sum))
}

func openLayer(file, sum string) (v1.Layer, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("open layer: %w", err)
	}
	return &tarLayer{file: file, digest: v1.Hash{Algorithm: "sha256", Hex: sum}, size: info.Size()}, nil
}

func (l *tarLayer) Digest() (v1.Hash, error)             { return l.digest, nil }
func (l *tarLayer) DiffID() (v1.Hash, error)             { return l.digest, nil }
func (l *tarLayer) Compressed() (io.ReadCloser, error)   { return os.Open(l.file) }
func (l *tarLayer) Uncompressed() (io.ReadCloser, error) { return os.Open(l.file) }
func (l *tarLayer) Size() (int64, error)                 { return l.size, nil }
func (l *tarLayer) MediaType() (types.MediaType, error)  { return types.OCIUncompressedLayer, nil }
func (l *tarLayer) local() (file string, digest v1.Hash) { return l.file, l.digest }
