package stack

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/parser"
	helmchart "helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"sigs.k8s.io/yaml"
)

// Limits of the files that a stack names.
const (
	maxFileBytes   = 4 << 20
	maxChartBytes  = 20 << 20
	maxTreeEntries = 10_000
)

// What a path has to be.
const (
	wantFile = "a file"
	wantDir  = "a folder"
	wantAny  = "a file or a folder"
)

// joinSlash joins paths of the stack file and keeps what leads out of the folder
// visible: an absolute second part stays absolute.
func joinSlash(dir, rel string) string {
	if path.IsAbs(rel) {
		return rel
	}
	return path.Join(dir, rel)
}

// display is how messages name a path of the stack file.
func (s *Stack) display(rel string) string {
	return filepath.Join(filepath.Dir(s.File), filepath.FromSlash(rel))
}

// resolve returns the absolute path of a path of the stack file, with symbolic
// links resolved. It reports a path that is missing, of the wrong sort, or
// outside the stack's folder.
func (s *Stack) resolve(ptr, rel, want string, r *report) (string, bool) {
	at := s.positions.value(ptr)
	if path.IsAbs(rel) || filepath.IsAbs(rel) || !filepath.IsLocal(filepath.FromSlash(rel)) {
		r.add(at, fmt.Sprintf("%s is outside the stack's folder", quote(rel)), "a path is relative to the stack file and stays in its folder", "copy what is needed into the stack's folder")
		return "", false
	}
	resolved, err := filepath.EvalSymlinks(s.Path(rel))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.add(at, fmt.Sprintf("%s does not exist", s.display(rel)), "the stack needs "+want+" there", s.suggestPath(rel))
		return "", false
	case err != nil:
		r.add(at, fmt.Sprintf("%s can't be opened", s.display(rel)), reason(err), "check the path and its permissions")
		return "", false
	case !within(s.Dir, resolved):
		r.add(at, fmt.Sprintf("%s leads outside the stack's folder", quote(rel)), "a symbolic link points to "+resolved, "copy what is needed into the stack's folder")
		return "", false
	}
	info, err := os.Stat(resolved)
	switch {
	case err != nil:
		r.add(at, fmt.Sprintf("%s can't be opened", s.display(rel)), reason(err), "check the path and its permissions")
	case want == wantDir && !info.IsDir():
		r.add(at, fmt.Sprintf("%s is a file", s.display(rel)), "the stack needs a folder there", "give the folder that holds it")
	case want == wantFile && info.IsDir():
		r.add(at, fmt.Sprintf("%s is a folder", s.display(rel)), "the stack needs a file there", "name a file in it")
	case !info.IsDir() && !info.Mode().IsRegular():
		r.add(at, fmt.Sprintf("%s is not a regular file", s.display(rel)), "a pipe, a device or a socket can't be read as a file", "give a regular file")
	default:
		return resolved, true
	}
	return "", false
}

// reason is the text of a file error without the path, which the message has.
func reason(err error) string {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}

// within reports whether a path is dir or below it. Both are free of links.
func within(dir, resolved string) bool {
	rel, err := filepath.Rel(dir, resolved)
	return err == nil && filepath.IsLocal(rel)
}

// suggestPath proposes a name from the folder where a path was looked for.
func (s *Stack) suggestPath(rel string) string {
	dir, name := path.Split(rel)
	entries, err := os.ReadDir(s.Path(dir))
	if err != nil {
		return "create it, or correct the path"
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	if near := nearest(name, names); near != "" {
		return fmt.Sprintf("did you mean %q?", dir+near)
	}
	return "create it, or correct the path"
}

// checkTree refuses a folder with links that lead outside the stack's folder.
// Programs that read the folder would follow them.
func (s *Stack) checkTree(ptr, rel, dir string, r *report) bool {
	entries, good := 0, true
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entries++; entries > maxTreeEntries {
			r.add(s.positions.value(ptr), fmt.Sprintf("%s has more than %d files", s.display(rel), maxTreeEntries), "size limit", "name a smaller folder")
			good = false
			return fs.SkipAll
		}
		if d.IsDir() && (d.Name() == ".terraform" || d.Name() == ".git") {
			return fs.SkipDir
		}
		if d.Type()&fs.ModeSymlink == 0 {
			return nil
		}
		if resolved, err := filepath.EvalSymlinks(file); err != nil || !within(s.Dir, resolved) {
			inner, relErr := filepath.Rel(dir, file)
			if relErr != nil {
				return relErr
			}
			r.add(s.positions.value(ptr), fmt.Sprintf("the symbolic link %s leads outside the stack's folder", s.display(filepath.Join(rel, inner))), "what the stack reads stays in its folder", "replace the link by what it points to")
			good = false
		}
		return nil
	})
	if err != nil {
		r.add(s.positions.value(ptr), fmt.Sprintf("%s can't be read", s.display(rel)), reason(err), "check its permissions")
		return false
	}
	return good
}

// checkChart loads a chart as Helm would.
func (s *Stack) checkChart(ptr, rel, file string, r *report) {
	at := s.positions.value(ptr)
	info, err := os.Stat(file)
	if err != nil {
		r.add(at, fmt.Sprintf("%s can't be opened", s.display(rel)), reason(err), "check its permissions")
		return
	}
	switch {
	case info.IsDir():
		if _, err := os.Stat(filepath.Join(file, "Chart.yaml")); err != nil {
			r.add(at, fmt.Sprintf("no Chart.yaml in %s", s.display(rel)), "a chart is a folder with a Chart.yaml, or a .tgz file", "name the folder that holds it")
			return
		}
		if !s.checkTree(ptr, rel, file, r) {
			return
		}
	case !strings.HasSuffix(rel, ".tgz"):
		r.add(at, fmt.Sprintf("%s is not a chart", s.display(rel)), "a chart is a folder with a Chart.yaml, or a .tgz file", "name the chart's folder")
		return
	case info.Size() > maxChartBytes:
		r.add(at, fmt.Sprintf("%s is larger than %d MiB", s.display(rel), maxChartBytes>>20), "size limit", "use a smaller chart")
		return
	}
	chart, err := loader.Load(file)
	if err == nil {
		err = chart.Validate()
	}
	if err != nil {
		r.add(at, fmt.Sprintf("the chart %s can't be loaded", s.display(rel)), s.shorten(err.Error()), "check it with: helm lint "+s.display(rel))
		return
	}
	var missing []string
	for _, need := range chart.Metadata.Dependencies {
		if !slices.ContainsFunc(chart.Dependencies(), func(c *helmchart.Chart) bool { return c.Name() == need.Name }) {
			missing = append(missing, need.Name)
		}
	}
	if len(missing) > 0 {
		r.add(at, fmt.Sprintf("the chart %s lacks charts it depends on: %s", s.display(rel), strings.Join(missing, ", ")), "they have to be in its charts folder; nothing is downloaded", "run: helm dependency build "+s.display(rel))
	}
}

// shorten replaces absolute paths of the stack's folder in a library's message.
func (s *Stack) shorten(msg string) string {
	return strings.ReplaceAll(msg, s.Dir+string(filepath.Separator), "")
}

// checkValuesFile reads a values file as Helm does.
func (s *Stack) checkValuesFile(rel, file string, r *report) {
	at := position{file: s.display(rel), line: 1, col: 1}
	data, err := readFile(file, maxFileBytes)
	if err != nil {
		r.add(at, "the values file can't be read", err.Error(), "check the file")
		return
	}
	var values map[string]any
	err = yaml.Unmarshal(data, &values)
	if err == nil {
		return
	}
	// Helm's parser knows the line at best, the other one the column as well.
	if _, syntax := parser.ParseBytes(data, 0); syntax != nil {
		place, _, _, _ := syntaxProblem(at.file, syntax)
		at = place
	}
	r.add(at, "the values file is not valid", err.Error(), "write a map of values in YAML")
}

// checkDashboards checks that dashboards are JSON.
func (s *Stack) checkDashboards(ptr, rel, root string, r *report) {
	files := []string{root}
	if info, err := os.Stat(root); err == nil && info.IsDir() {
		if !s.checkTree(ptr, rel, root, r) {
			return
		}
		entries, err := os.ReadDir(root)
		if err != nil {
			r.add(s.positions.value(ptr), fmt.Sprintf("%s can't be read", s.display(rel)), reason(err), "check its permissions")
			return
		}
		files = files[:0]
		for _, e := range entries {
			if filepath.Ext(e.Name()) == ".json" {
				files = append(files, filepath.Join(root, e.Name()))
			}
		}
		if len(files) == 0 {
			r.add(s.positions.value(ptr), fmt.Sprintf("no dashboards in %s", s.display(rel)), "a folder of dashboards has *.json files", "add one, or remove the folder from the list")
		}
	}
	for _, file := range files {
		name := s.display(rel)
		if file != root {
			name = filepath.Join(name, filepath.Base(file))
		}
		at := position{file: name, line: 1, col: 1}
		data, err := readFile(file, maxFileBytes)
		if err != nil {
			r.add(at, "the dashboard can't be read", err.Error(), "check the file")
			continue
		}
		var dashboard map[string]any
		err = json.Unmarshal(data, &dashboard)
		if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
			at.line, at.col = linePosition(data, int(syntax.Offset))
		}
		if err != nil {
			r.add(at, "the dashboard is not valid JSON", err.Error(), "export it from Grafana again")
		}
	}
}

// linePosition returns the line and column of a byte offset, counted from 1.
func linePosition(data []byte, offset int) (line, col int) {
	before := string(data[:min(max(offset-1, 0), len(data))])
	return strings.Count(before, "\n") + 1, len([]rune(before[strings.LastIndexByte(before, '\n')+1:])) + 1
}

var dockerArg = regexp.MustCompile(`(?im)^[ \t]*ARG[ \t]+([A-Za-z_][A-Za-z0-9_]*)`)

// checkDockerfile checks that the Dockerfile takes the base image that the stack
// gives it: builds ignore an argument that is not declared, and would go on to
// pull the image that was to be replaced.
func (s *Stack) checkDockerfile(ptr string, image Image, file string, r *report) {
	data, err := readFile(file, maxFileBytes)
	if err != nil {
		r.add(s.positions.value(ptr+"/context"), "the Dockerfile can't be read", err.Error(), "check the file")
		return
	}
	var declared []string
	for _, m := range dockerArg.FindAllSubmatch(data, -1) {
		declared = append(declared, string(m[1]))
	}
	if base := image.Base; base != nil && !slices.Contains(declared, base.Arg) {
		at := ptr + "/base/arg"
		if !s.positions.has(at) {
			at = ptr + "/base"
		}
		r.add(s.positions.value(at), fmt.Sprintf("the Dockerfile has no ARG %s", base.Arg), "base replaces the image that this argument names", fmt.Sprintf("write ARG %s=… and FROM ${%s} in %s", base.Arg, base.Arg, s.display(joinSlash(image.Context, image.Dockerfile))))
	}
}
