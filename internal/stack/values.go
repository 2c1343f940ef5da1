package stack

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"sigs.k8s.io/yaml"
)

// Values is a free map: a chart's values or a module's variables. Whole numbers
// are int64, so that a template prints them without an exponent.
type Values map[string]any

// UnmarshalJSON keeps whole numbers whole.
func (v *Values) UnmarshalJSON(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var m map[string]any
	if err := dec.Decode(&m); err != nil {
		return fmt.Errorf("read values: %w", err)
	}
	for k, item := range m {
		m[k] = wholeNumbers(item)
	}
	*v = m
	return nil
}

func wholeNumbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return i
		}
		f, err := v.Float64()
		if err != nil {
			return v.String() // out of range: keep the digits
		}
		return f
	case map[string]any:
		for k, item := range v {
			v[k] = wholeNumbers(item)
		}
	case []any:
		for i, item := range v {
			v[i] = wholeNumbers(item)
		}
	}
	return v
}

// UnmarshalJSON reads a duration with its units.
func (d *Duration) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return fmt.Errorf("read a duration: %w", err)
	}
	parsed, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf("read a duration: %w", err)
	}
	*d = Duration(parsed)
	return nil
}

// MarshalJSON writes a duration with its units.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// decode puts a document of plain values into a stack.
func decode(doc any, s *Stack) error {
	data, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, s)
}

// SetValue sets a value of a chart: path is keys joined by dots. It creates the
// maps on the way and fails where something else than a map is in the way.
func SetValue(values map[string]any, path string, value any) error {
	keys := strings.Split(path, ".")
	for i, key := range keys[:len(keys)-1] {
		next, ok := values[key]
		if !ok || next == nil {
			next = map[string]any{}
			values[key] = next
		}
		m, ok := next.(map[string]any)
		if !ok {
			return fmt.Errorf("set %s: %s is a %T, not a map", path, strings.Join(keys[:i+1], "."), next)
		}
		values = m
	}
	values[keys[len(keys)-1]] = value
	return nil
}

// ImageRef is a reference of an image that the cluster can use.
type ImageRef struct {
	Repository string
	Tag        string
}

// String is the reference as a container names it.
func (r ImageRef) String() string { return r.Repository + ":" + r.Tag }

// Sources provide the values that a stack file refers to.
type Sources struct {
	// Output returns an output of a Terraform module that was applied.
	Output func(module, output string) (any, error)
	// Image returns the reference of an image that was built.
	Image func(name string) (ImageRef, error)
}

// ReleaseValues returns the values of a release: those of its values files, in
// order, then those of the stack file, then those from other parts of the stack.
func (s *Stack) ReleaseValues(release Release, from Sources) (map[string]any, error) {
	values := map[string]any{}
	for _, rel := range release.ValuesFiles {
		data, err := readFile(s.Path(rel), maxFileBytes)
		if err != nil {
			return nil, fmt.Errorf("read the values of release %s: %w", release.Name, err)
		}
		var more map[string]any
		if err := yaml.Unmarshal(data, &more); err != nil {
			return nil, fmt.Errorf("read %s of release %s: %w", rel, release.Name, err)
		}
		merge(values, more)
	}
	merge(values, release.Values)
	for _, v := range release.ValuesFrom {
		if err := v.apply(values, from); err != nil {
			return nil, fmt.Errorf("set values of release %s: %w", release.Name, err)
		}
	}
	return values, nil
}

// apply sets the value that v refers to.
func (v ValueFrom) apply(values map[string]any, from Sources) error {
	if v.Terraform != "" {
		output, err := from.Output(v.Terraform, v.Output)
		if err != nil {
			return fmt.Errorf("output %s of terraform/%s: %w", v.Output, v.Terraform, err)
		}
		return SetValue(values, v.Path, output)
	}
	ref, err := from.Image(v.Image)
	if err != nil {
		return fmt.Errorf("reference of image/%s: %w", v.Image, err)
	}
	switch v.Field {
	case FieldRef:
		return SetValue(values, v.Path, ref.String())
	case FieldRepository:
		return SetValue(values, v.Path, ref.Repository)
	case FieldTag:
		return SetValue(values, v.Path, ref.Tag)
	}
	// The convention of charts. IfNotPresent, because the image was loaded into
	// the nodes and is in no registry.
	for _, part := range []struct{ key, value string }{
		{"repository", ref.Repository},
		{"tag", ref.Tag},
		{"pullPolicy", "IfNotPresent"},
	} {
		if err := SetValue(values, v.Path+"."+part.key, part.value); err != nil {
			return err
		}
	}
	return nil
}

// merge adds src to dst; src wins, maps are merged key by key. What src holds is
// copied, so that a later merge or SetValue can't change it.
func merge(dst, src map[string]any) {
	for k, v := range src {
		m, ok := v.(map[string]any)
		if !ok {
			dst[k] = v
			continue
		}
		inner, ok := dst[k].(map[string]any)
		if !ok {
			inner = map[string]any{}
			dst[k] = inner
		}
		merge(inner, m)
	}
}
