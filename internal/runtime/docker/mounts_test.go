package docker

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Each RUN instruction gets the flags, whatever else looks like one.
func TestRewrite(t *testing.T) {
	m := &mounts{flags: "--mount=X "}
	for name, test := range map[string]struct{ in, want string }{
		"plain":         {"FROM a\nRUN x\n", "FROM a\nRUN --mount=X x\n"},
		"last line":     {"RUN x", "RUN --mount=X x"},
		"lower case":    {"run x\n", "run --mount=X x\n"},
		"indented, tab": {"  RUN\tx\n", "  RUN\t--mount=X x\n"},
		"exec form":     {"RUN [\"a\", \"b\"]\n", "RUN --mount=X [\"a\", \"b\"]\n"},
		"own mount":     {"RUN --mount=type=cache,target=/c x\n", "RUN --mount=X --mount=type=cache,target=/c x\n"},
		"windows ends":  {"RUN x\r\nRUN y\r\n", "RUN --mount=X x\r\nRUN --mount=X y\r\n"},
		"continued": {
			"RUN a && \\\n  RUN b \\\n# a comment\n\n  RUN c\nRUN d\n",
			"RUN --mount=X a && \\\n  RUN b \\\n# a comment\n\n  RUN c\nRUN --mount=X d\n",
		},
		"continued with nothing": {"RUN \\\n  x\nRUN y\n", "RUN --mount=X \\\n  x\nRUN --mount=X y\n"},
		"other escape":           {"# escape=`\nRUN a `\n RUN b\nENV p=c:\\\nRUN d\n", "# escape=`\nRUN --mount=X a `\n RUN b\nENV p=c:\\\nRUN --mount=X d\n"},
		"escape too late":        {"# hello\n# escape=`\nRUN a \\\n RUN b\n", "# hello\n# escape=`\nRUN --mount=X a \\\n RUN b\n"},
		"document":               {"RUN <<EOF\nRUN a\nEOF\nRUN b\n", "RUN --mount=X <<EOF\nRUN a\nEOF\nRUN --mount=X b\n"},
		"documents": {
			"COPY <<-\"ONE\" <<TWO /x/\nRUN a\n\tONE\nRUN b\nTWO\nRUN c\n",
			"COPY <<-\"ONE\" <<TWO /x/\nRUN a\n\tONE\nRUN b\nTWO\nRUN --mount=X c\n",
		},
		"no document":    {"ENV x=<<EOF\nRUN a <<< b\nRUN c\n", "ENV x=<<EOF\nRUN --mount=X a <<< b\nRUN --mount=X c\n"},
		"arithmetic":     {"RUN echo $((1<<2))\nRUN b\n", "RUN --mount=X echo $((1<<2))\nRUN --mount=X b\n"},
		"other words":    {"ENV RUN x\nRUNNER x\nONBUILD RUN x\n", "ENV RUN x\nRUNNER x\nONBUILD RUN x\n"},
		"nothing to run": {"RUN\n", "RUN\n"},
	} {
		if got := m.rewrite(test.in); got != test.want {
			t.Errorf("%s:\ngot  %q\nwant %q", name, got, test.want)
		}
	}
	if got := m.hide("Step 1/2 : RUN --mount=X x"); got != "Step 1/2 : RUN x" {
		t.Errorf("hidden: %q", got)
	}
	var none *mounts
	if got := none.hide("x"); got != "x" {
		t.Errorf("without mounts: %q", got)
	}
}

func TestWriteMounts(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "ca.crt")
	if err := errors.Join(
		os.WriteFile(file, []byte("CA"), 0o600), os.MkdirAll(filepath.Join(dir, "d", "e"), 0o755),
		os.WriteFile(filepath.Join(dir, "d", "e", "f"), []byte("F"), 0o644), os.Symlink("e/f", filepath.Join(dir, "d", "link")),
	); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := writeMounts(&out, []string{file, filepath.Join(dir, "d")}); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	archive := tar.NewReader(&out)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		got[strings.TrimSuffix(h.Name, "/")] = string(text) + h.Linkname
	}
	for name, want := range map[string]string{
		"Dockerfile": "FROM scratch\nCOPY mounts /\n", "mounts/0": "CA", "mounts/1": "", "mounts/1/e/f": "F", "mounts/1/link": "e/f",
	} {
		if text, ok := got[name]; !ok || text != want {
			t.Errorf("%s: %q, %t", name, text, ok)
		}
	}
	if err := writeMounts(io.Discard, []string{filepath.Join(dir, "missing")}); err == nil {
		t.Error("a missing file went unnoticed")
	}
}
