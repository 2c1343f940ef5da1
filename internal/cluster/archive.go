package cluster

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// layerName matches the layers of an archive in which a layer's file is named
// by the digest of its content, as Podman writes them.
var layerName = regexp.MustCompile(`^([0-9a-f]{64})\.tar$`)

// blobName matches the blobs of an OCI archive, as Docker writes them from 25 on.
var blobName = regexp.MustCompile(`^blobs/sha256/([0-9a-f]{64})$`)

// maxMetadata bounds the metadata files of an archive, which are held in
// memory. The largest, an image's configuration, has a few kilobytes.
const maxMetadata = 8 << 20

// archiveManifest is the part that counts of a docker archive's manifest.json.
type archiveManifest struct {
	Config string
	Layers []string
}

// sparseArchive copies the docker archive r to w as an OCI archive of the image
// named ref, leaving out the layers that the receiver has. An OCI archive may
// be incomplete in that way, a docker archive may not. From one that is both
// these layers are left out too. An archive whose layers are not named by their
// content, as Docker's are before 25, is copied unchanged.
func sparseArchive(r io.Reader, w io.Writer, ref string, have map[string]bool) error {
	var head bytes.Buffer
	in := tar.NewReader(io.TeeReader(r, &head))
	first, err := in.Next()
	if err != nil {
		return fmt.Errorf("read image archive: %w", err)
	}
	if strings.HasPrefix(first.Name, "blobs/") {
		return filterBlobs(tar.NewReader(io.MultiReader(&head, r)), tar.NewWriter(w), have)
	}
	if !layerName.MatchString(first.Name) {
		if _, err := io.Copy(w, io.MultiReader(&head, r)); err != nil {
			return fmt.Errorf("copy image archive: %w", err)
		}
		return nil
	}
	in = tar.NewReader(io.MultiReader(&head, r))
	return convertArchive(in, tar.NewWriter(w), ref, have)
}

// filterBlobs copies an OCI archive without the blobs that the receiver has.
func filterBlobs(in *tar.Reader, out *tar.Writer, have map[string]bool) error {
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read image archive: %w", err)
		}
		if m := blobName.FindStringSubmatch(h.Name); m != nil && have["sha256:"+m[1]] {
			continue
		}
		if err := out.WriteHeader(h); err != nil {
			return fmt.Errorf("copy image archive: %w", err)
		}
		if _, err := io.Copy(out, in); err != nil {
			return fmt.Errorf("copy image archive: %w", err)
		}
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("end image archive: %w", err)
	}
	return nil
}

func convertArchive(in *tar.Reader, out *tar.Writer, ref string, have map[string]bool) error {
	var (
		sizes    = map[string]int64{}  // of layers, by digest
		metadata = map[string][]byte{} // by name
	)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read image archive: %w", err)
		}
		if h.Typeflag != tar.TypeReg {
			continue // links of the older formats to the same layers
		}
		if m := layerName.FindStringSubmatch(h.Name); m != nil {
			d := "sha256:" + m[1]
			if _, again := sizes[d]; again {
				continue
			}
			sizes[d] = h.Size
			if have[d] {
				continue
			}
			if err := writeBlob(out, d, h.Size, in); err != nil {
				return err
			}
			continue
		}
		data, err := io.ReadAll(io.LimitReader(in, maxMetadata))
		if err != nil {
			return fmt.Errorf("read %s of image archive: %w", h.Name, err)
		}
		metadata[h.Name] = data
	}
	return writeIndex(out, ref, metadata, sizes)
}

// writeIndex ends the archive with what names and orders the layers.
func writeIndex(out *tar.Writer, ref string, metadata map[string][]byte, sizes map[string]int64) error {
	var manifests []archiveManifest
	if err := json.Unmarshal(metadata["manifest.json"], &manifests); err != nil {
		return fmt.Errorf("read manifest.json of image archive: %w", err)
	}
	if len(manifests) != 1 {
		return fmt.Errorf("image archive holds %d images, not one", len(manifests))
	}
	config, ok := metadata[manifests[0].Config]
	if !ok {
		return fmt.Errorf("image archive lacks the configuration %s", manifests[0].Config)
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    descriptor(ocispec.MediaTypeImageConfig, config),
	}
	for _, name := range manifests[0].Layers {
		d := "sha256:" + strings.TrimSuffix(path.Base(name), ".tar")
		size, ok := sizes[d]
		if !ok {
			return fmt.Errorf("image archive lacks the layer %s", name)
		}
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.Digest(d), Size: size})
	}
	manifest, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("write image manifest: %w", err)
	}
	entry := descriptor(ocispec.MediaTypeImageManifest, manifest)
	// containerd takes the image's full name from its own annotation.
	entry.Annotations = map[string]string{"io.containerd.image.name": ref, ocispec.AnnotationRefName: ref}
	index, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{entry},
	})
	if err != nil {
		return fmt.Errorf("write image index: %w", err)
	}
	layout, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return fmt.Errorf("write image layout: %w", err)
	}
	for _, blob := range [][]byte{config, manifest} {
		sum := sha256.Sum256(blob)
		if err := writeBlob(out, "sha256:"+hex.EncodeToString(sum[:]), int64(len(blob)), bytes.NewReader(blob)); err != nil {
			return err
		}
	}
	if err := writeFile(out, ocispec.ImageIndexFile, int64(len(index)), bytes.NewReader(index)); err != nil {
		return err
	}
	if err := writeFile(out, ocispec.ImageLayoutFile, int64(len(layout)), bytes.NewReader(layout)); err != nil {
		return err
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("end image archive: %w", err)
	}
	return nil
}

func descriptor(mediaType string, blob []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(blob), Size: int64(len(blob))}
}

func writeBlob(out *tar.Writer, d string, size int64, r io.Reader) error {
	return writeFile(out, "blobs/sha256/"+strings.TrimPrefix(d, "sha256:"), size, r)
}

func writeFile(out *tar.Writer, name string, size int64, r io.Reader) error {
	if err := out.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: size}); err != nil {
		return fmt.Errorf("write %s to image archive: %w", name, err)
	}
	if _, err := io.Copy(out, r); err != nil {
		return fmt.Errorf("write %s to image archive: %w", name, err)
	}
	return nil
}
