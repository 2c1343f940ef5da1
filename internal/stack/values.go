package stack

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
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
