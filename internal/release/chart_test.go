package release

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

// chartFiles is a small chart with a Deployment and a ConfigMap.
func chartFiles() map[string]string {
	return map[string]string{
		"Chart.yaml":  "apiVersion: v2\nname: web\nversion: 1.0.0\n",
		"values.yaml": "replicas: 1\nbig: 10000000\nremove: me\nnested: {a: chart, b: chart, c: chart}\n",
		"templates/deployment.yaml": `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "web:1"}]}
`,
		"templates/configmap.yaml": `apiVersion: v1
kind: ConfigMap
metadata: {name: web}
data:
  big: "{{ .Values.big }}"
  removed: "{{ .Values.remove }}"
  nested: {{ .Values.nested | toJson | quote }}
`,
	}
}

func writeChart(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "web")
	for name, content := range files {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
	}
	return dir
}

func writeFile(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "values.yaml")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o644))
	return path
}

func TestValuesLieOverEachOther(t *testing.T) {
	own := map[string]any{"nested": map[string]any{"a": "spec"}, "remove": nil, "list": []any{map[string]any{"k": 1}}}
	spec := Spec{
		Name: "web", Chart: writeChart(t, chartFiles()), Values: own,
		ValuesFiles: []string{
			writeFile(t, "nested: {a: first, b: first}\nbig: 12345678\nfirst: 1\n"),
			writeFile(t, "# only a comment\n"),
			writeFile(t, "nested: {b: second}\n"),
		},
	}
	want, err := load(spec)
	require.NoError(t, err)
	got, err := json.Marshal(want.values)
	require.NoError(t, err)
	assert.JSONEq(t, `{"nested":{"a":"spec","b":"second"},"big":12345678,"first":1,"remove":null,"list":[{"k":1}]}`, string(got))
	assert.Contains(t, string(got), "12345678", "a large integer stays one")
	assert.Equal(t, map[string]any{"a": "spec"}, own["nested"], "the caller's values are left alone")
}

func TestFingerprint(t *testing.T) {
	files := chartFiles()
	base := Spec{Name: "web", Namespace: "production", Chart: writeChart(t, files), Values: map[string]any{"replicas": 3}}
	of := func(s Spec) string {
		t.Helper()
		want, err := load(s)
		require.NoError(t, err)
		return want.fingerprint
	}
	first := of(base)
	assert.Len(t, first, 40)

	same := base
	same.Chart = writeChart(t, files) // the same chart elsewhere
	same.Values = nil
	same.ValuesFiles = []string{writeFile(t, "replicas: 3\n")} // the same values from a file
	assert.Equal(t, first, of(same))

	seen := map[string]string{first: "base"}
	differ := func(name string, s Spec) {
		t.Helper()
		p := of(s)
		assert.Empty(t, seen[p], "%s has the fingerprint of %s", name, seen[p])
		seen[p] = name
	}
	other := base
	other.Values = map[string]any{"replicas": "3"}
	differ("a value of another type", other)
	other = base
	other.Name = "web2"
	differ("name", other)
	other = base
	other.Namespace = "staging"
	differ("namespace", other)
	changed := maps.Clone(files)
	changed["templates/configmap.yaml"] += "# changed\n"
	other = base
	other.Chart = writeChart(t, changed)
	differ("template", other)
	added := maps.Clone(files)
	added["files/extra.txt"] = "x"
	other.Chart = writeChart(t, added)
	differ("file", other)
}

func TestLoadRefuses(t *testing.T) {
	with := func(name, content string) map[string]string {
		f := chartFiles()
		f[name] = content
		return f
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	good := writeChart(t, chartFiles())
	for name, tc := range map[string]struct {
		spec Spec
		want string
	}{
		"no chart":           {Spec{Chart: filepath.Join(t.TempDir(), "none")}, "cannot be read"},
		"not YAML":           {Spec{Chart: writeChart(t, with("Chart.yaml", "name: [\n"))}, "cannot be read"},
		"library":            {Spec{Chart: writeChart(t, with("Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\ntype: library\n"))}, "is a library chart"},
		"dependency":         {Spec{Chart: writeChart(t, with("Chart.yaml", "apiVersion: v2\nname: web\nversion: 1.0.0\ndependencies: [{name: redis, version: 1.x.x, repository: 'https://charts.example'}]\n"))}, "lacks charts"},
		"no values file":     {Spec{Chart: good, ValuesFiles: []string{"/does/not/exist"}}, "cannot be read"},
		"FIFO":               {Spec{Chart: good, ValuesFiles: []string{fifo}}, "not a regular file"},
		"large values file":  {Spec{Chart: good, ValuesFiles: []string{writeFile(t, "a: "+strings.Repeat("x", 5<<20))}}, "larger than 4 MiB"},
		"duplicate key":      {Spec{Chart: good, ValuesFiles: []string{writeFile(t, "a: 1\na: 2\n")}}, `key "a" already set`},
		"list as values":     {Spec{Chart: good, ValuesFiles: []string{writeFile(t, "- a\n")}}, "cannot be read"},
		"unencodable values": {Spec{Chart: good, Values: map[string]any{"f": func() {}}}, "cannot be encoded"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.spec.Name = "web"
			_, err := load(tc.spec)
			var f *fault.Error
			require.ErrorAs(t, err, &f)
			assert.Equal(t, fault.Invalid, f.Code)
			assert.NotEmpty(t, f.Try)
			assert.Contains(t, err.Error(), tc.want)
			assert.Contains(t, f.What, `release "web"`)
		})
	}
}
