package stack

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/stacks"
)

const header = "apiVersion: sandbox/v1alpha1\nkind: Stack\nmetadata: {name: demo}\n"

// write puts files into a folder of their own and returns it.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

var chartFiles = map[string]string{"chart/Chart.yaml": "apiVersion: v2\nname: app\nversion: 0.1.0\n"}

// with adds a stack file to the files of a small chart.
func with(spec string) map[string]string {
	files := map[string]string{FileName: header + spec}
	for name, content := range chartFiles {
		files[name] = content
	}
	return files
}

// wantProblem checks that an error is about the input and says all of the texts.
func wantProblem(t *testing.T, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("the stack was accepted")
	}
	if fault.CodeOf(err) != fault.Invalid {
		t.Errorf("code is %q", fault.CodeOf(err))
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("got:\n%v\nwithout %q", err, text)
		}
	}
}

func TestStacksThatComeWithSandboxAreValid(t *testing.T) {
	for _, name := range stacks.Names() {
		t.Run(name, func(t *testing.T) {
			s, err := Load(filepath.Join("../../stacks", name))
			if err != nil {
				t.Fatalf("%v\n%v", err, AllProblems(err))
			}
			if s.Metadata.Name != name {
				t.Errorf("the stack is named %q", s.Metadata.Name)
			}
			if !filepath.IsAbs(s.Dir) {
				t.Errorf("Dir is %q, not absolute", s.Dir)
			}
		})
	}
}

func TestDefaultsAreApplied(t *testing.T) {
	dir := write(t, with("spec:\n  aws: {}\n  releases: [{name: app, chart: chart}]\n"))
	s, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !s.Spec.AWS.On() || s.Spec.AWS.Emulator != EmulatorLocalStack || s.Spec.AWS.Region != DefaultRegion {
		t.Errorf("aws: %+v", s.Spec.AWS)
	}
	if !s.Spec.Observability.On() || s.Spec.Cluster.Nodes != 1 {
		t.Errorf("observability %v, nodes %d", s.Spec.Observability.On(), s.Spec.Cluster.Nodes)
	}
	if want := (Ports{AWS: 4566, Prometheus: 9090, Alertmanager: 9093, Grafana: 3000}); s.Spec.Ports != want {
		t.Errorf("ports: %+v", s.Spec.Ports)
	}
	if r := s.Spec.Releases[0]; r.Namespace != "default" || time.Duration(r.Timeout) != 5*time.Minute {
		t.Errorf("release: %+v", r)
	}
}

func TestWithoutTheKeyThereIsNoEmulator(t *testing.T) {
	s, err := Load(write(t, map[string]string{FileName: header + "spec: {}\n"}))
	if err != nil {
		t.Fatal(err)
	}
	if s.Spec.AWS.On() {
		t.Errorf("aws: %+v", s.Spec.AWS)
	}
}

func TestValuesKeepTheirTypes(t *testing.T) {
	s, err := Load(write(t, with("spec:\n  releases:\n    - name: app\n      chart: chart\n      timeout: 1h30m\n      values: {count: 12345678, share: 0.5, on: true, word: \"yes\", list: [1, {a: 2}], none: null}\n")))
	if err != nil {
		t.Fatal(err)
	}
	got := s.Spec.Releases[0].Values
	for key, want := range map[string]any{"count": int64(12345678), "share": 0.5, "on": true, "word": "yes", "none": nil} {
		if got[key] != want {
			t.Errorf("%s is %#v, want %#v", key, got[key], want)
		}
	}
	if list := got["list"].([]any); list[0] != int64(1) || list[1].(map[string]any)["a"] != int64(2) {
		t.Errorf("list is %#v", list)
	}
	if d := time.Duration(s.Spec.Releases[0].Timeout); d != 90*time.Minute {
		t.Errorf("timeout is %v", d)
	}
}

func TestAnchorsAndMergeKeysAreExpanded(t *testing.T) {
	s, err := Load(write(t, with("spec:\n  releases:\n    - name: a\n      chart: chart\n      values: &v {x: 1, y: 2}\n    - name: b\n      chart: chart\n      values: {<<: *v, y: 3}\n")))
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Spec.Releases[1].Values; got["x"] != int64(1) || got["y"] != int64(3) {
		t.Errorf("values: %v", got)
	}
}

func TestSeveralProblemsAreOneError(t *testing.T) {
	_, err := Load(write(t, map[string]string{FileName: header + "spec:\n  cluster: {nodes: 99}\n  ports: {aws: 1}\n  relases: []\n"}))
	wantProblem(t, err, "stack.yaml:5:20: spec.cluster.nodes is 99 (1 of 3 problems)")
	if all := AllProblems(err); len(all) != 3 {
		t.Errorf("%d problems: %v", len(all), all)
	}
	var first *fault.Error
	if !as(err, &first) || len(first.Log) != 2 || !strings.Contains(first.Log[1], `unknown key "relases"`) {
		t.Errorf("the log does not list the rest: %+v", first)
	}
}

func as(err error, target **fault.Error) bool {
	e, ok := err.(*fault.Error) //nolint:errorlint // the error itself is meant, not its chain
	*target = e
	return ok
}

func TestInputThatIsNoStackFileIsRefused(t *testing.T) {
	cases := map[string]struct {
		content string
		want    []string
	}{
		"NUL":             {header + "a: \x00\n", []string{":4:4", "NUL"}},
		"invalid UTF-8":   {header + "a: \xff\n", []string{":4:4", "not UTF-8"}},
		"too large":       {header + "# " + strings.Repeat("x", 10<<20), []string{"larger than 256 KiB"}},
		"nested brackets": {header + "spec: " + strings.Repeat("[", 10_000), []string{":4:", "depth limit"}},
		"nested braces":   {header + "spec: " + strings.Repeat("{a: ", 10_000), []string{":4:", "depth limit"}},
		"nested dashes":   {header + "spec: " + strings.Repeat("- ", 10_000) + "a", []string{":4:"}},
		"nested blocks":   {header + nestedBlocks(400), []string{"depth limit"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := Load(write(t, map[string]string{FileName: c.content}))
			wantProblem(t, err, c.want...)
		})
	}
}

func nestedBlocks(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%sa:\n", strings.Repeat(" ", i))
	}
	return b.String()
}

func TestPathsThatAreNoStackAreRefused(t *testing.T) {
	dir := write(t, map[string]string{"other.txt": "x"})
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "d", FileName), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"missing": "no stack at",
		".":       "no stack.yaml in",
		"d":       "is a folder",
		"pipe":    "not a regular file",
	} {
		_, err := Load(filepath.Join(dir, path))
		wantProblem(t, err, want)
	}
}

func TestLinksOutOfTheFolderAreRefused(t *testing.T) {
	outside := write(t, map[string]string{"Chart.yaml": "apiVersion: v2\nname: app\nversion: 0.1.0\n", "x.tf": ""})
	spec := "spec:\n  aws: {}\n  terraform: [{name: infra, dir: tf}]\n  releases: [{name: app, chart: chart}, {name: linked, chart: linked}]\n"
	dir := write(t, map[string]string{FileName: header + spec, "chart/Chart.yaml": "apiVersion: v2\nname: app\nversion: 0.1.0\n", "tf/main.tf": ""})
	for link, target := range map[string]string{"linked": outside, "chart/secret": "/etc/passwd", "tf/more.tf": filepath.Join(outside, "x.tf")} {
		if err := os.Symlink(target, filepath.Join(dir, filepath.FromSlash(link))); err != nil {
			t.Fatal(err)
		}
	}
	_, err := Load(dir)
	all := AllProblems(err).Error()
	for _, want := range []string{`"linked" leads outside`, "chart/secret leads outside", "tf/more.tf leads outside"} {
		if !strings.Contains(all, want) {
			t.Errorf("got:\n%s\nwithout %q", all, want)
		}
	}
}

func TestLinksWithinTheFolderAreAccepted(t *testing.T) {
	dir := write(t, with("spec:\n  releases: [{name: app, chart: linked}]\n"))
	if err := os.Symlink("chart", filepath.Join(dir, "linked")); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir); err != nil {
		t.Fatal(err)
	}
}

func TestValuesFileThatIsAPipeIsRefused(t *testing.T) {
	dir := write(t, with("spec:\n  releases: [{name: app, chart: chart, valuesFiles: [v.yaml]}]\n"))
	if err := syscall.Mkfifo(filepath.Join(dir, "v.yaml"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load(dir)
	wantProblem(t, err, "not a regular file")
}

func TestChartArchives(t *testing.T) {
	chart := []byte("apiVersion: v2\nname: app\nversion: 0.1.0\n")
	cases := map[string]struct {
		files map[string][]byte
		want  string // empty: accepted
	}{
		"good":      {map[string][]byte{"app/Chart.yaml": chart}, ""},
		"traversal": {map[string][]byte{"app/Chart.yaml": chart, "app/../../evil": []byte("x")}, "can't be loaded"},
		"bomb":      {map[string][]byte{"app/Chart.yaml": chart, "app/zeros": make([]byte, 200<<20)}, "can't be loaded"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{FileName: header + "spec:\n  releases: [{name: app, chart: app.tgz}]\n", "app.tgz": archive(t, c.files)}
			_, err := Load(write(t, files))
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantProblem(t, err, "stack.yaml:5:33", c.want)
		})
	}
}

func archive(t *testing.T, files map[string][]byte) string {
	t.Helper()
	var buf bytes.Buffer
	zip := gzip.NewWriter(&buf)
	w := tar.NewWriter(zip)
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name]))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(files[name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.String()
}

func TestFind(t *testing.T) {
	cache := t.TempDir()
	dir := write(t, map[string]string{FileName: header + "spec: {}\n", "web-app/readme": "no stack"})
	t.Chdir(dir)

	if got, err := Find(".", cache); err != nil || got != FileName {
		t.Errorf("folder: %q, %v", got, err)
	}
	if got, err := Find(FileName, cache); err != nil || got != FileName {
		t.Errorf("file: %q, %v", got, err)
	}
	got, err := Find("web-app", cache)
	if err != nil || got != filepath.Join(cache, "web-app", FileName) {
		t.Fatalf("name: %q, %v", got, err)
	}
	if _, err := Load(got); err != nil {
		t.Errorf("the written stack is not valid: %v", err)
	}
	_, err = Find("webapp", cache)
	wantProblem(t, err, `no stack "webapp"`, `did you mean "web-app"?`)
	_, err = Find("./nowhere", cache)
	wantProblem(t, err, "no such file or folder")
}

func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{badStacks + "/*/stack.yaml", "../../stacks/*/stack.yaml"} {
		files, err := filepath.Glob(filepath.FromSlash(pattern))
		if err != nil || len(files) == 0 {
			f.Fatalf("no seeds: %v", err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	dir, err := realDir(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		type result struct {
			stack *Stack
			err   error
		}
		done := make(chan result, 1)
		go func() {
			s, err := parse(FileName, dir, data)
			done <- result{s, err}
		}()
		var s *Stack
		var err error
		select {
		case got := <-done:
			s, err = got.stack, got.err
		case <-time.After(10 * time.Second):
			t.Fatal("reading takes more than 10 s")
		}
		if err == nil {
			if s.Metadata.Name == "" {
				t.Error("a stack without a name was accepted")
			}
			return
		}
		if fault.CodeOf(err) != fault.Invalid {
			t.Fatalf("not a fault: %v", err)
		}
		for _, p := range AllProblems(err) {
			if !strings.HasPrefix(p.Pos, FileName+":") || p.What == "" {
				t.Errorf("no position or text: %+v", p)
			}
			if strings.ContainsFunc(p.Pos+p.What+p.Why+p.Try, isControl) {
				t.Errorf("control characters reach the terminal: %q", p.Error())
			}
		}
	})
}

func TestStackOfSomebodyElseIsValid(t *testing.T) {
	s, err := Load("../../fixtures/external")
	if err != nil {
		t.Fatalf("%v\n%v", err, AllProblems(err))
	}
	if s.Spec.Images[0].Base.Arg != "NODE_IMAGE" || len(s.Spec.Terraform[0].Vars) != 2 {
		t.Errorf("spec: %+v", s.Spec)
	}
}
