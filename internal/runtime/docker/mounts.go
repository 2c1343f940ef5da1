package docker

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/moby/client"

	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// mounts are files of this host that RUN steps see. The builder can mount what
// is in an image, so they are put into one, which is removed after the build.
// The builder tells by the files' content whether a step has to run again.
type mounts struct {
	image string
	flags string // of each RUN instruction, with a blank at the end
}

// makeMounts makes the image that holds the volumes of spec, numbered.
func (r *Runtime) makeMounts(ctx context.Context, spec runtime.BuildSpec) (*mounts, error) {
	random := make([]byte, 6)
	_, _ = rand.Read(random) // never fails: see crypto/rand
	m := &mounts{image: "localhost/sandbox/build-mounts:" + hex.EncodeToString(random)}
	var sources []string
	for i, volume := range spec.Volumes {
		parts := strings.Split(volume, ":")
		if len(parts) != 3 || parts[2] != "ro" {
			return nil, fmt.Errorf("volume %q is not source:target:ro", volume)
		}
		sources = append(sources, parts[0])
		m.flags += fmt.Sprintf("--mount=type=bind,from=%s,source=/%d,target=%s,ro ", m.image, i, parts[1])
	}
	var said []string
	_, err := r.build(ctx, func(w io.Writer) error { return writeMounts(w, sources) },
		client.ImageBuildOptions{Tags: []string{m.image}, Labels: spec.Labels},
		func(line string) { said = append(said, line) })
	if err != nil {
		return nil, fmt.Errorf("prepare the files to mount: %w\n%s", err, strings.Join(said, "\n"))
	}
	return m, nil
}

// writeMounts writes the build context of the image.
func writeMounts(w io.Writer, sources []string) error {
	const dockerfile = "FROM scratch\nCOPY mounts /\n"
	archive := tar.NewWriter(w)
	if err := archive.WriteHeader(&tar.Header{Name: "Dockerfile", Mode: 0o644, Size: int64(len(dockerfile))}); err != nil {
		return err
	}
	if _, err := io.WriteString(archive, dockerfile); err != nil {
		return err
	}
	for i, source := range sources {
		if err := addTree(archive, source, "mounts/"+strconv.Itoa(i)); err != nil {
			return fmt.Errorf("read %s: %w", source, err)
		}
	}
	return archive.Close()
}

// addTree adds the file or folder at path under the name.
func addTree(archive *tar.Writer, root, name string) error {
	return filepath.Walk(root, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		link := ""
		if info.Mode()&os.ModeSymlink != 0 {
			if link, err = os.Readlink(path); err != nil {
				return err
			}
		} else if !info.IsDir() && !info.Mode().IsRegular() {
			return nil
		}
		header, err := tar.FileInfoHeader(info, link)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		header.Name = filepath.ToSlash(filepath.Join(name, rel))
		header.Uid, header.Gid, header.Uname, header.Gname = 0, 0, "", ""
		header.Format = tar.FormatPAX
		if err := archive.WriteHeader(header); err != nil || !info.Mode().IsRegular() {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		_, err = io.Copy(archive, file)
		return errors.Join(err, file.Close())
	})
}

// hide takes the flags, which are none of the user's, from a line of output.
func (m *mounts) hide(line string) string {
	if m == nil {
		return line
	}
	return strings.ReplaceAll(line, m.flags, "")
}

// rewrite gives each RUN instruction of a Dockerfile the flags. Nothing else
// changes, and no line is added, so that the builder's line numbers hold.
func (m *mounts) rewrite(dockerfile string) string {
	var out strings.Builder
	parser := instructions{escape: `\`, directives: true}
	for line := range strings.Lines(dockerfile) {
		if start := parser.starts(line); start >= 0 && isRun(line[start:]) {
			at := start + len("RUN ")
			line = line[:at] + m.flags + line[at:]
		}
		out.WriteString(line)
	}
	return out.String()
}

// isRun reports whether the instruction is RUN with something to run.
func isRun(instruction string) bool {
	return len(instruction) > 4 && strings.EqualFold(instruction[:3], "RUN") && (instruction[3] == ' ' || instruction[3] == '\t')
}

// instructions finds the lines of a Dockerfile with which an instruction
// starts.
type instructions struct {
	escape     string
	directives bool // the parser directives at the top may go on
	continued  bool // the last line goes on in this one
	heredocs   []heredoc
}

type heredoc struct {
	end   string
	strip bool // leading tabs of the end are ignored
}

// starts takes the next line and returns where in it an instruction starts, -1
// where none does.
func (p *instructions) starts(line string) int {
	text := strings.TrimRight(line, "\r\n")
	if len(p.heredocs) > 0 {
		if h := p.heredocs[0]; text == h.end || (h.strip && strings.TrimLeft(text, "\t") == h.end) {
			p.heredocs = p.heredocs[1:]
		}
		return -1
	}
	trimmed := strings.TrimSpace(text)
	if strings.HasPrefix(trimmed, "#") {
		if key, value, ok := strings.Cut(strings.TrimSpace(trimmed[1:]), "="); ok && p.directives {
			if strings.EqualFold(strings.TrimSpace(key), "escape") && strings.TrimSpace(value) == "`" {
				p.escape = "`"
			}
		} else {
			p.directives = false
		}
		return -1 // a comment, also within an instruction
	}
	p.directives = false
	if trimmed == "" {
		return -1 // an instruction goes on after an empty line
	}
	start := -1
	if !p.continued {
		start = len(text) - len(strings.TrimLeft(text, " \t"))
	}
	p.continued = strings.HasSuffix(trimmed, p.escape)
	if start >= 0 && takesHeredoc(trimmed) || (start < 0 && len(p.heredocs) > 0) {
		p.heredocs = heredocsOf(trimmed)
	}
	return start
}

// takesHeredoc reports whether the instruction may have documents below it.
func takesHeredoc(instruction string) bool {
	word, _, _ := strings.Cut(instruction, " ")
	word = strings.ToUpper(word)
	return word == "RUN" || word == "COPY" || word == "ADD"
}

// heredocsOf lists the documents that the line opens.
func heredocsOf(line string) []heredoc {
	var list []heredoc
	for _, word := range strings.Fields(line) {
		_, rest, ok := strings.Cut(word, "<<")
		if !ok || strings.HasPrefix(rest, "<") {
			continue
		}
		end, strip := strings.CutPrefix(rest, "-")
		end = strings.Trim(end, `"'`)
		if end != "" && !strings.ContainsAny(end, "()<>$`") {
			list = append(list, heredoc{end: end, strip: strip})
		}
	}
	return list
}
