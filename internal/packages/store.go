package packages

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// containerdAnnotation names an image in a layout for containerd's import.
const containerdAnnotation = "io.containerd.image.name"

// storePaths are what a node needs of containerd's root: the blobs and the
// database that knows them. Images stay packed; a node unpacks those it runs.
var storePaths = []string{"io.containerd.content.v1.content/blobs", "io.containerd.metadata.v1.bolt/meta.db"}

// containerdStart is how long containerd may take to answer.
const containerdStart = 30 * time.Second

// buildStore makes the layer that holds containerd's store with the recipe's
// embedded images. systems are the bases of the images, in their order.
func (b *Builder) buildStore(ctx context.Context, j *job, systems []system, work string) (v1.Layer, error) {
	images, err := b.embeddedImages(ctx, j, systems, work)
	if err != nil {
		return nil, err
	}
	k := newKeyHash("store")
	if err := b.addStoreKey(k, j, images); err != nil {
		return nil, err
	}
	dir, err := b.part(ctx, j, "store-"+j.recipe.Name, k.sum(), "fill containerd's store", func(t *task, dir string) error {
		t.set("%d images", len(images))
		archive := filepath.Join(dir, "images")
		if err := writeLayout(archive, images, containerdAnnotation); err != nil {
			return err
		}
		defer os.RemoveAll(archive)
		// The root lies in a folder with a short name: its sockets' paths
		// must fit into 108 bytes.
		root, err := os.MkdirTemp("", "sandbox-ctrd-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(root)
		if err := b.importImages(ctx, t, j, root, archive); err != nil {
			return err
		}
		entries, err := storeEntries(filepath.Join(root, "root"), j.recipe.Containerd.Root)
		if err != nil {
			return err
		}
		w, err := createLayer(filepath.Join(dir, layerFile))
		if err != nil {
			return err
		}
		writeErr := w.writeEntries(entries.sorted())
		sum, err := w.close()
		if err := errors.Join(writeErr, err); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, digestFile), []byte(sum), 0o600)
	})
	if err != nil {
		return nil, err
	}
	return openPart(dir)
}

// addStoreKey identifies a store by the images' digests and the program that
// writes it.
func (b *Builder) addStoreKey(k keyHash, j *job, images map[string]v1.Image) error {
	for _, ref := range sortedKeys(images) {
		digest, err := images[ref].Digest()
		if err != nil {
			return fmt.Errorf("digest of %s: %w", ref, err)
		}
		k.add(ref, []byte(digest.String()))
	}
	k.add("containerd", []byte(filepath.Base(filepath.Dir(j.programs["containerd"]))))
	return k.addJSON("root", j.recipe.Containerd.Root)
}

// embeddedImages makes the images that go into the store, by reference. Their
// layers are packed, unlike those of images that an engine on this host loads:
// a node image is copied as a whole for every node.
func (b *Builder) embeddedImages(ctx context.Context, j *job, systems []system, work string) (map[string]v1.Image, error) {
	t := j.board.begin("assemble embedded images")
	defer t.end()
	images := map[string]v1.Image{}
	for i := range j.recipe.Containerd.Images {
		embedded := &j.recipe.Containerd.Images[i]
		t.set("%s", path.Base(embedded.Ref))
		dir := embeddedDir(work, i)
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, err
		}
		image, err := b.embeddedImage(ctx, t, j, embedded, systems[i], dir)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", embedded.Ref, err)
		}
		if images[embedded.Ref], err = packImage(image, dir); err != nil {
			return nil, fmt.Errorf("pack %s: %w", embedded.Ref, err)
		}
	}
	return images, nil
}

// embeddedDir is where the layers of an embedded image lie during the build.
func embeddedDir(work string, i int) string {
	return filepath.Join(work, fmt.Sprintf("embedded-%d", i))
}

func (r *Recipe) embeddedCount() int {
	if r.Containerd == nil {
		return 0
	}
	return len(r.Containerd.Images)
}

func (b *Builder) embeddedImage(ctx context.Context, t *task, j *job, e *Embedded, s system, dir string) (v1.Image, error) {
	if e.Recipe == "" {
		return b.contentImage(ctx, t, j, &e.Content, s, filepath.Join(dir, "files.tar"))
	}
	built, ok, err := b.Cached(e.Recipe)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("recipe %q has not been built", e.Recipe)
	}
	return built.image()
}

// image opens the artifact's image.
func (a Artifact) image() (v1.Image, error) {
	index, err := layout.ImageIndexFromPath(a.Path)
	if err != nil {
		return nil, fmt.Errorf("open image %s: %w", a.Name, err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, fmt.Errorf("open image %s: %w", a.Name, err)
	}
	if len(manifest.Manifests) != 1 {
		return nil, fmt.Errorf("open image %s: the layout holds %d images, not one", a.Name, len(manifest.Manifests))
	}
	return index.Image(manifest.Manifests[0].Digest)
}

// packImage returns the image with gzip layers, written into dir.
func packImage(image v1.Image, dir string) (v1.Image, error) {
	layers, err := image.Layers()
	if err != nil {
		return nil, err
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	packed := make([]v1.Layer, len(layers))
	for i, layer := range layers {
		if packed[i], err = packLayer(layer, filepath.Join(dir, fmt.Sprintf("%d.tar.gz", i))); err != nil {
			return nil, err
		}
	}
	out, err := mutate.AppendLayers(emptyOCI(), packed...)
	if err != nil {
		return nil, err
	}
	return mutate.ConfigFile(out, config)
}

// packedLayer is a gzip layer in a file.
type packedLayer struct {
	tarLayer
	diffID v1.Hash
}

func (l *packedLayer) DiffID() (v1.Hash, error)            { return l.diffID, nil }
func (l *packedLayer) MediaType() (types.MediaType, error) { return types.OCILayer, nil }

func (l *packedLayer) Uncompressed() (io.ReadCloser, error) {
	f, err := os.Open(l.file)
	if err != nil {
		return nil, err
	}
	unpacked, err := gzip.NewReader(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return struct {
		io.Reader
		io.Closer
	}{unpacked, f}, nil
}

func packLayer(layer v1.Layer, file string) (v1.Layer, error) {
	diffID, err := layer.DiffID()
	if err != nil {
		return nil, err
	}
	in, err := layer.Uncompressed()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	out, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	zip, err := gzip.NewWriterLevel(io.MultiWriter(out, sum), gzip.BestSpeed)
	if err != nil {
		return nil, errors.Join(err, out.Close())
	}
	size, err := io.Copy(zip, in)
	if err := errors.Join(err, zip.Close(), out.Close()); err != nil {
		return nil, err
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if size > 0 && info.Size() == 0 {
		return nil, fmt.Errorf("packing %s gave nothing", file)
	}
	digest := v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}
	return &packedLayer{tarLayer{file: file, digest: digest, size: info.Size()}, diffID}, nil
}

// importImages runs the recipe's containerd on this host, on a root, state and
// socket of its own, and lets ctr import the layout.
func (b *Builder) importImages(ctx context.Context, t *task, j *job, root, archive string) error {
	config, socket := filepath.Join(root, "config.toml"), filepath.Join(root, "ctrd.sock")
	if err := os.WriteFile(config, []byte(containerdConfig(root, socket)), 0o600); err != nil {
		return err
	}
	daemon, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- b.exec(daemon, t, asRoot(command{name: j.programs["containerd"], args: []string{"--config", config}}))
	}()
	err := b.importInto(ctx, t, j, socket, archive, ended)
	stop()
	if ended := <-ended; err == nil && ended != nil && !errors.Is(ended, context.Canceled) {
		err = fmt.Errorf("run containerd: %w", ended)
	}
	return err
}

func (b *Builder) importInto(ctx context.Context, t *task, j *job, socket, archive string, ended chan error) error {
	ctr := func(args ...string) command {
		return asRoot(command{name: j.programs["ctr"], args: append([]string{"--address", socket, "--namespace", "k8s.io"}, args...)})
	}
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		select {
		case err := <-ended:
			ended <- nil // the caller waits for it, too
			return struct{}{}, backoff.Permanent(fmt.Errorf("containerd ended: %w", err))
		default:
		}
		if !exists(socket) {
			return struct{}{}, errors.New("containerd has no socket yet")
		}
		return struct{}{}, b.runner.run(ctx, ctr("version"), func(string) {})
	}, backoff.WithBackOff(backoff.NewConstantBackOff(100*time.Millisecond)), backoff.WithMaxElapsedTime(containerdStart))
	if err != nil {
		return fmt.Errorf("start containerd: %w", err)
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(tarFolder(archive, w)) }() // documented to return nil always
	load := ctr("images", "import", "--local", "--no-unpack", "--all-platforms", "--label=io.cri-containerd.pinned=pinned", "-")
	load.stdin = r
	err = b.exec(ctx, t, load)
	r.CloseWithError(io.ErrClosedPipe) // documented to return nil always
	return err
}

// asRoot makes a command run as root of a user namespace where this process
// is not root: containerd insists on it, and writing its store needs no more.
func asRoot(c command) command {
	if os.Geteuid() != 0 {
		c.args = append([]string{"--user", "--map-root-user", c.name}, c.args...)
		c.name = "unshare"
	}
	return c
}

// containerdConfig is the least that can hold images: no pods, no snapshots.
func containerdConfig(root, socket string) string {
	return fmt.Sprintf(`version = 3
root = %q
state = %q
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",
  "io.containerd.podsandbox.controller.v1.podsandbox", "io.containerd.nri.v1.nri",
  "io.containerd.internal.v1.opt", "io.containerd.internal.v1.restart", "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.snapshotter.v1.overlayfs", "io.containerd.snapshotter.v1.erofs", "io.containerd.snapshotter.v1.blockfile",
]
[debug]
  level = "error"
[grpc]
  address = %q
[ttrpc]
  address = %q
`, filepath.Join(root, "root"), filepath.Join(root, "state"), socket, socket+".ttrpc")
}

// storeEntries lists what a node needs of a containerd root at root, to be
// placed below target.
func storeEntries(root, target string) (placed, error) {
	all := placed{}
	dir := func(name string) {
		all.add(entry{name: name, mode: fs.ModeDir | 0o700})
	}
	for _, wanted := range storePaths {
		err := fs.WalkDir(os.DirFS(root), wanted, func(file string, item fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			to := path.Join(target, file)
			for parent := path.Dir(to); len(parent) >= len(target); parent = path.Dir(parent) {
				dir(parent)
			}
			if item.IsDir() {
				dir(to)
				return nil
			}
			info, err := item.Info()
			if err != nil {
				return err
			}
			all.add(entry{name: to, mode: info.Mode().Perm(), source: filepath.Join(root, filepath.FromSlash(file))})
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read containerd's store: %w", err)
		}
	}
	return all, nil
}

// tarFolder writes the files of a folder as a tar stream.
func tarFolder(root string, w io.Writer) error {
	out := tar.NewWriter(w)
	if err := out.AddFS(os.DirFS(root)); err != nil {
		return fmt.Errorf("pack %s: %w", root, err)
	}
	return out.Close()
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, strings.Compare)
	return keys
}
