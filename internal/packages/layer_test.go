package packages

import (
	"archive/tar"
	"bytes"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

func TestLayerIsDeterministic(t *testing.T) {
	source := filepath.Join(t.TempDir(), "program")
	write := func(name string, at time.Time, order ...string) string {
		t.Helper()
		if err := os.WriteFile(source, []byte("binary"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(source, at, at); err != nil {
			t.Fatal(err)
		}
		entries := placed{}
		for _, file := range order {
			entries.add(entry{name: file, mode: 0o755, source: source})
		}
		layer, err := writeLayer(filepath.Join(t.TempDir(), name), entries)
		if err != nil {
			t.Fatal(err)
		}
		digest, err := layer.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return digest.Hex
	}
	first := write("a.tar", time.Unix(1, 0), "/usr/bin/a", "/etc/b")
	second := write("b.tar", time.Unix(99, 0), "/etc/b", "/usr/bin/a")
	if first != second {
		t.Errorf("digests %s and %s differ though the content is the same", first, second)
	}
}

func TestLayerEntries(t *testing.T) {
	file := filepath.Join(t.TempDir(), "layer.tar")
	entries := placed{}
	entries.add(entry{name: "/a/b/file", mode: 0o640, uid: 7, data: []byte("old")})
	entries.add(entry{name: "/a/b/file", mode: 0o600, uid: 8, data: []byte("new")})
	entries.add(entry{name: "/a/link", link: "b/file"})
	entries.add(entry{name: "/tmp", mode: fs.ModeDir | fs.ModeSticky | 0o777})
	if _, err := writeLayer(file, entries); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	type got struct {
		name, link string
		mode       int64
		uid        int
	}
	want := []got{{"a/", "", 0o755, 0}, {"a/b/", "", 0o755, 0}, {"a/b/file", "", 0o600, 8}, {"a/link", "b/file", 0o777, 0}, {"tmp/", "", 0o1777, 0}}
	var have []got
	for r := tar.NewReader(f); ; {
		header, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		have = append(have, got{header.Name, header.Linkname, header.Mode, header.Uid})
	}
	if !slices.Equal(have, want) {
		t.Errorf("entries\n%v, want\n%v", have, want)
	}
}

func TestCopyTarFiltersAndNormalises(t *testing.T) {
	var in bytes.Buffer
	w := tar.NewWriter(&in)
	for _, h := range []tar.Header{
		{Name: "./", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./usr/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./usr/share/doc/x/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./usr/bin/tool", Typeflag: tar.TypeReg, Mode: 0o755, Uname: "root"},
		{Name: "./usr/bin/again", Typeflag: tar.TypeLink, Linkname: "./usr/bin/tool"},
		{Name: "./dev/null", Typeflag: tar.TypeChar},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "layer.tar")
	layer, err := createLayer(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := layer.copyTar(t.Context(), &in, matcher{}.match); err != nil {
		t.Fatal(err)
	}
	if _, err := layer.close(); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var have []string
	for r := tar.NewReader(f); ; {
		header, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		have = append(have, header.Name+">"+header.Linkname+header.Uname)
	}
	if want := []string{"usr/>", "usr/bin/tool>", "usr/bin/again>usr/bin/tool"}; !slices.Equal(have, want) {
		t.Errorf("entries %v, want %v", have, want)
	}
}

func TestMatcher(t *testing.T) {
	tests := []struct {
		m    matcher
		name string
		want bool
	}{
		{matcher{}, "/usr/bin/tool", true},
		{matcher{}, "/usr/share/doc/bash/README", false},
		{matcher{}, "/usr/share/doc", true},
		{matcher{}, "/dev/null", false},
		{matcher{remove: []string{"/usr/share/perl"}}, "/usr/share/perl/5/x.pm", false},
		{matcher{remove: []string{"/usr/share/perl"}}, "/usr/share/perl5", true},
		{matcher{remove: []string{"/usr/lib/**/__pycache__"}}, "/usr/lib/python3/a/__pycache__/x.pyc", false},
		{matcher{remove: []string{"/etc/systemd/system/*.wants/*"}}, "/etc/systemd/system/a.wants/b.service", false},
		{matcher{remove: []string{"/etc/systemd/system/*.wants/*"}}, "/etc/systemd/system/a.wants", true},
		{matcher{keep: []string{"/bin/busybox"}}, "/bin", true},
		{matcher{keep: []string{"/bin/busybox"}}, "/bin/busybox", true},
		{matcher{keep: []string{"/bin/busybox"}}, "/bin/other", false},
		{matcher{keep: []string{"/usr/lib/**"}}, "/usr/lib/a/b", true},
		{matcher{keep: []string{"/usr/lib/**"}}, "/usr/bin", false},
		{matcher{keep: []string{"/opt"}, remove: []string{"/opt/cache"}}, "/opt/cache/x", false},
	}
	for _, test := range tests {
		if got := test.m.match(test.name); got != test.want {
			t.Errorf("%+v match %s = %t, want %t", test.m, test.name, got, test.want)
		}
	}
}
