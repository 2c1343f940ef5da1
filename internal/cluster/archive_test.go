package cluster

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

type file struct {
	name, content string
	link          bool
}

func archive(t *testing.T, files ...file) *bytes.Buffer {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Size: int64(len(f.content)), Mode: 0o600, Typeflag: tar.TypeReg}
		if f.link {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, f.content, 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if !f.link {
			if _, err := io.WriteString(w, f.content); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &buf
}

func unpack(t *testing.T, r io.Reader) map[string]string {
	t.Helper()
	got := map[string]string{}
	in := tar.NewReader(r)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		got[h.Name] = string(data)
	}
}

func sum(s string) string {
	d := sha256.Sum256([]byte(s))
	return hex.EncodeToString(d[:])
}

// podmanArchive is shaped as Podman writes it: layers first, metadata last.
func podmanArchive(t *testing.T) *bytes.Buffer {
	t.Helper()
	return archive(t,
		file{name: sum("base") + ".tar", content: "base"},
		file{name: sum("app") + ".tar", content: "app"},
		file{name: sum("config") + ".json", content: "config"},
		file{name: "old/layer.tar", content: "../" + sum("base") + ".tar", link: true},
		file{name: "manifest.json", content: `[{"Config":"` + sum("config") + `.json","RepoTags":["localhost/app:1"],"Layers":["` +
			sum("base") + `.tar","` + sum("app") + `.tar"]}]`},
	)
}

func TestSparseArchiveLeavesOutKnownLayers(t *testing.T) {
	var out bytes.Buffer
	if err := sparseArchive(podmanArchive(t), &out, "localhost/app:1", map[string]bool{"sha256:" + sum("base"): true}); err != nil {
		t.Fatal(err)
	}
	got := unpack(t, &out)
	if _, there := got["blobs/sha256/"+sum("base")]; there {
		t.Error("a layer that the node has was sent")
	}
	if got["blobs/sha256/"+sum("app")] != "app" || got["blobs/sha256/"+sum("config")] != "config" {
		t.Errorf("layer or configuration missing: %v", got)
	}
	var index ocispec.Index
	if err := json.Unmarshal([]byte(got["index.json"]), &index); err != nil {
		t.Fatal(err)
	}
	entry := index.Manifests[0]
	if entry.Annotations["io.containerd.image.name"] != "localhost/app:1" {
		t.Errorf("annotations %v", entry.Annotations)
	}
	raw := got["blobs/sha256/"+entry.Digest.Encoded()]
	if int64(len(raw)) != entry.Size || sum(raw) != entry.Digest.Encoded() {
		t.Errorf("the index's digest and size are not those of the manifest %q", raw)
	}
	var m ocispec.Manifest
	if err := json.Unmarshal([]byte(raw), &m); err != nil {
		t.Fatal(err)
	}
	if len(m.Layers) != 2 || m.Layers[0].Digest.Encoded() != sum("base") || m.Layers[0].Size != 4 || m.Layers[1].Digest.Encoded() != sum("app") {
		t.Errorf("layers %+v", m.Layers)
	}
	if got["oci-layout"] != `{"imageLayoutVersion":"1.0.0"}` {
		t.Errorf("oci-layout %q", got["oci-layout"])
	}
}

// Docker's archive is an OCI archive with a docker archive's manifest.
func TestSparseArchiveOfDocker(t *testing.T) {
	files := []file{
		{name: "blobs/sha256/" + sum("app"), content: "app"},
		{name: "blobs/sha256/" + sum("base"), content: "base"},
		{name: "index.json", content: "{}"},
		{name: "manifest.json", content: "[]"},
		{name: "oci-layout", content: "{}"},
	}
	var out bytes.Buffer
	if err := sparseArchive(archive(t, files...), &out, "localhost/app:1", map[string]bool{"sha256:" + sum("base"): true}); err != nil {
		t.Fatal(err)
	}
	got := unpack(t, &out)
	if _, there := got["blobs/sha256/"+sum("base")]; there || len(got) != len(files)-1 || got["blobs/sha256/"+sum("app")] != "app" || got["index.json"] != "{}" {
		t.Errorf("got %v", got)
	}
	cut := archive(t, files...)
	cut.Truncate(1100)
	if err := sparseArchive(cut, io.Discard, "localhost/app:1", nil); err == nil {
		t.Error("half an archive went unnoticed")
	}
}

// An archive of another engine's making must arrive as it is.
func TestSparseArchiveCopiesWhatItDoesNotKnow(t *testing.T) {
	in := archive(t, file{name: sum("base") + "/layer.tar", content: "base"}, file{name: "manifest.json", content: "[]"})
	want := bytes.Clone(in.Bytes())
	var out bytes.Buffer
	if err := sparseArchive(in, &out, "x", map[string]bool{"sha256:" + sum("base"): true}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), want) {
		t.Error("the copy differs")
	}
}

func TestSparseArchiveRejectsWhatIsIncomplete(t *testing.T) {
	layer := file{name: sum("base") + ".tar", content: "base"}
	for name, in := range map[string]*bytes.Buffer{
		"empty":       bytes.NewBuffer(nil),
		"cut":         bytes.NewBuffer(podmanArchive(t).Bytes()[:700]),
		"no manifest": archive(t, layer),
		"no config":   archive(t, layer, file{name: "manifest.json", content: `[{"Config":"c.json","Layers":[]}]`}),
		"no layer":    archive(t, layer, file{name: "c", content: "c"}, file{name: "manifest.json", content: `[{"Config":"c","Layers":["x.tar"]}]`}),
		"two images":  archive(t, layer, file{name: "manifest.json", content: `[{},{}]`}),
	} {
		t.Run(name, func(t *testing.T) {
			if err := sparseArchive(in, io.Discard, "x", nil); err == nil {
				t.Error("accepted")
			}
		})
	}
}
