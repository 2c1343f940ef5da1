package packages

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
)

// keyHash collects the inputs of something that is cached. Each input is a
// label and a value, both length-prefixed, so that no two lists of inputs
// give the same bytes.
type keyHash struct{ h hash.Hash }

func newKeyHash(kind string) keyHash {
	k := keyHash{sha256.New()}
	k.add("kind", []byte(kind))
	k.add("schema", fmt.Append(nil, SchemaVersion))
	k.add("arch", []byte(runtime.GOARCH))
	return k
}

func (k keyHash) add(label string, value []byte) {
	fmt.Fprintf(k.h, "%d:%s=%d:", len(label), label, len(value))
	k.h.Write(value)
}

// addJSON adds a value of a recipe. Its types marshal without error: they
// hold strings, numbers, booleans, maps of strings and lists of these.
func (k keyHash) addJSON(label string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("hash %s: %w", label, err)
	}
	k.add(label, data)
	return nil
}

// addTree adds every file below root, or the file root, by path and content.
func (k keyHash) addTree(fsys fs.FS, root string) error {
	err := fs.WalkDir(fsys, root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(fsys, file)
		if err != nil {
			return err
		}
		k.add(file, data)
		return nil
	})
	if err != nil {
		return fmt.Errorf("hash %s: %w", root, err)
	}
	return nil
}

func (k keyHash) sum() string { return hex.EncodeToString(k.h.Sum(nil)) }

// recipeHash identifies the artifact of a recipe by everything it is made
// from: its folder, the Go modules it names, the recipes it embeds, and the
// host's certificate authorities where they go into the image.
func recipeHash(fsys fs.FS, r *Recipe, caFile string) (string, error) {
	k := newKeyHash("recipe")
	if err := k.addTree(fsys, r.Name); err != nil {
		return "", err
	}
	for _, module := range r.modules() {
		if err := k.addTree(fsys, path.Join(goModFolder, module)); err != nil {
			return "", err
		}
	}
	for _, name := range r.embeds() {
		embedded, err := LoadRecipe(fsys, name)
		if err != nil {
			return "", err
		}
		sum, err := recipeHash(fsys, embedded, caFile)
		if err != nil {
			return "", err
		}
		k.add("recipe "+name, []byte(sum))
	}
	if r.usesHostCAs() {
		data, err := readHostCAs(caFile)
		if err != nil {
			return "", err
		}
		k.add("host CAs", data)
	}
	return k.sum(), nil
}

// modules returns the names of the Go modules the recipe takes anything from.
func (r *Recipe) modules() []string {
	var names []string
	for _, g := range r.Go {
		names = append(names, g.Module)
	}
	for _, c := range r.C {
		names = append(names, c.Source.GoModule)
	}
	for _, content := range r.contents() {
		for _, f := range content.Files {
			if f.From != nil {
				names = append(names, f.From.GoModule)
			}
		}
	}
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(name string) bool { return name == "" })
}

// embeds returns the names of the recipes that the recipe embeds.
func (r *Recipe) embeds() []string {
	var names []string
	if r.Containerd != nil {
		for _, image := range r.Containerd.Images {
			if image.Recipe != "" {
				names = append(names, image.Recipe)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// contents returns the recipe's own content and that of the images it
// describes inline.
func (r *Recipe) contents() []*Content {
	contents := []*Content{&r.Content}
	if r.Containerd != nil {
		for i := range r.Containerd.Images {
			contents = append(contents, &r.Containerd.Images[i].Content)
		}
	}
	return contents
}

func (r *Recipe) usesHostCAs() bool {
	return slices.ContainsFunc(r.contents(), func(c *Content) bool { return c.HostCAs })
}

// HostCAFile is where this host keeps the certificate authorities it trusts:
// SSL_CERT_FILE, or the place common to Linux distributions.
func HostCAFile() string {
	if file := os.Getenv("SSL_CERT_FILE"); file != "" {
		return file
	}
	for _, file := range []string{imageCAFile, "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"} {
		if _, err := os.Stat(file); err == nil {
			return file
		}
	}
	return imageCAFile
}

// imageCAFile is where the bundle goes in a Debian-based image.
const imageCAFile = "/etc/ssl/certs/ca-certificates.crt"

func readHostCAs(file string) ([]byte, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the host's CA bundle: %w", err)
	}
	return data, nil
}
