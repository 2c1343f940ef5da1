package release

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"sigs.k8s.io/yaml"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

// maxValues is the size in bytes up to which a values file is read.
const maxValues = 4 << 20

// fingerprintVersion changes when this package begins to apply the same chart
// and values in another way.
const fingerprintVersion = "1"

// desired is what a Spec amounts to: the chart, its values and a fingerprint
// of both.
type desired struct {
	chart       *chart.Chart
	values      map[string]any
	fingerprint string
}

// load reads the chart and merges the values. Errors are *fault.Error.
func load(spec Spec) (*desired, error) {
	ch, err := loader.Load(spec.Chart)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "helm lint "+spec.Chart, "chart %s of release %q cannot be read", spec.Chart, spec.Name)
	}
	if ch.Metadata.Type == "library" {
		return nil, fault.New(fault.Invalid,
			fmt.Sprintf("chart %s of release %q is a library chart", spec.Chart, spec.Name),
			"a library chart has nothing to install", "name a chart of type application")
	}
	if err := action.CheckDependencies(ch, ch.Metadata.Dependencies); err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "helm dependency build "+spec.Chart,
			"chart %s of release %q lacks charts it depends on", spec.Chart, spec.Name)
	}
	values, err := mergeValues(spec)
	if err != nil {
		return nil, err
	}
	sum, err := fingerprint(spec, ch, values)
	if err != nil {
		return nil, err
	}
	return &desired{chart: ch, values: values, fingerprint: sum}, nil
}

// mergeValues lays the values files and the Spec's values over each other,
// the later one on top. A null removes the chart's own value, as in Helm.
func mergeValues(spec Spec) (map[string]any, error) {
	merged := cloneMap(spec.Values)
	for _, path := range slices.Backward(spec.ValuesFiles) {
		values, err := readValues(path)
		if err != nil {
			return nil, fault.Wrap(fault.Invalid, err, "correct the file", "values file %s of release %q cannot be read", path, spec.Name)
		}
		merged = chartutil.MergeTables(merged, values)
	}
	return merged, nil
}

func readValues(path string) (map[string]any, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxValues+1))
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	if len(raw) > maxValues {
		return nil, fmt.Errorf("it is larger than %d MiB", maxValues>>20)
	}
	values := map[string]any{}
	// Numbers stay as they are written: as floats, large integers would
	// reach the templates as 1e+06.
	err = yaml.UnmarshalStrict(raw, &values, func(d *json.Decoder) *json.Decoder {
		d.UseNumber()
		return d
	})
	if values == nil {
		values = map[string]any{} // the file holds only comments, or null
	}
	return values, err
}

// cloneMap copies maps and lists all the way down, because merging writes into
// the maps it is given.
func cloneMap(m map[string]any) map[string]any {
	c := make(map[string]any, len(m))
	for k, v := range m {
		c[k] = cloneValue(v)
	}
	return c
}

func cloneValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		return cloneMap(v)
	case []any:
		c := make([]any, len(v))
		for i := range v {
			c[i] = cloneValue(v[i])
		}
		return c
	default:
		return v
	}
}

// fingerprint identifies what would be applied: 160 bits in hex, short enough
// for the value of a label.
func fingerprint(spec Spec, ch *chart.Chart, values map[string]any) (string, error) {
	h := sha256.New()
	field := func(b []byte) {
		fmt.Fprintf(h, "%d:", len(b))
		h.Write(b)
	}
	field([]byte(fingerprintVersion))
	field([]byte(spec.Name))
	field([]byte(spec.Namespace))
	files := slices.SortedFunc(slices.Values(ch.Raw), func(a, b *chart.File) int { return cmp.Compare(a.Name, b.Name) })
	for _, f := range files {
		field([]byte(filepath.ToSlash(f.Name)))
		field(f.Data)
	}
	encoded, err := json.Marshal(values) // maps are encoded in the order of their keys
	if err != nil {
		return "", fault.Wrap(fault.Invalid, err, "correct the values", "the values of release %q cannot be encoded", spec.Name)
	}
	field(encoded)
	return hex.EncodeToString(h.Sum(nil))[:40], nil
}
