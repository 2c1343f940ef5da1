package stack

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/agext/levenshtein"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"

	"github.com/sandbox-stack/sandbox/stacks"
)

// schemaURL names the schema inside the compiler; nothing is fetched.
const schemaURL = "stack.json"

// compiled is the schema in the form that validates, and the definitions it was
// compiled from, which tell the keys that are allowed at a place.
type compiled struct {
	schema *jsonschema.Schema
	defs   map[string]definition
}

type definition struct {
	Properties map[string]any `json:"properties"`
}

// loadSchema compiles the embedded schema once, when it is first needed.
var loadSchema = sync.OnceValues(func() (compiled, error) {
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(stacks.Schema))
	if err != nil {
		return compiled{}, fmt.Errorf("read the schema: %w", err)
	}
	var parts struct {
		Defs map[string]definition `json:"$defs"`
	}
	if err := json.Unmarshal(stacks.Schema, &parts); err != nil {
		return compiled{}, fmt.Errorf("read the schema: %w", err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(schemaURL, doc); err != nil {
		return compiled{}, fmt.Errorf("add the schema: %w", err)
	}
	schema, err := c.Compile(schemaURL)
	if err != nil {
		return compiled{}, fmt.Errorf("compile the schema: %w", err)
	}
	return compiled{schema: schema, defs: parts.Defs}, nil
})

// checkSchema reports every place where a document breaks the schema.
func checkSchema(doc any, pos positions, r *report) error {
	c, err := loadSchema()
	if err != nil {
		return err
	}
	if !checkVersion(doc, pos, r) {
		return nil
	}
	err = c.schema.Validate(doc)
	if err == nil {
		return nil
	}
	invalid, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return fmt.Errorf("validate against the schema: %w", err)
	}
	c.explain(invalid, doc, pos, r)
	return nil
}

// checkVersion looks at apiVersion first: with a version of the future, every
// other message would mislead.
func checkVersion(doc any, pos positions, r *report) bool {
	m, ok := doc.(map[string]any)
	if !ok {
		return true
	}
	version, ok := m["apiVersion"].(string)
	if !ok || version == APIVersion || !strings.HasPrefix(version, "sandbox/") {
		return true
	}
	r.add(pos.value("/apiVersion"), fmt.Sprintf("unknown apiVersion %s", quote(version)), "this version of sandbox reads "+APIVersion, "use a newer sandbox, or write "+APIVersion)
	return false
}

// explain turns the leaves of a validation error into problems.
func (c compiled) explain(e *jsonschema.ValidationError, doc any, pos positions, r *report) {
	for _, cause := range e.Causes {
		c.explain(cause, doc, pos, r)
	}
	if len(e.Causes) > 0 {
		return
	}
	parts := make([]any, len(e.InstanceLocation))
	for i, p := range e.InstanceLocation {
		parts[i] = p
	}
	ptr := pointer(parts...)
	at, name := pos.value(ptr), label(e.InstanceLocation)
	value := lookup(doc, e.InstanceLocation)

	switch k := e.ErrorKind.(type) {
	case *kind.AdditionalProperties:
		for _, key := range k.Properties {
			what := fmt.Sprintf("unknown key %s in %s", quote(key), name)
			rule, try := c.suggestKey(key, definitionName(e.SchemaURL))
			r.add(pos.key(ptr+pointer(key)), what, rule, try)
		}
	case *kind.Required:
		r.add(at, fmt.Sprintf("%s has no %s", name, strings.Join(k.Missing, ", ")), "these keys are required", "add "+strings.Join(k.Missing, ", "))
	case *kind.Type:
		if written, ok := pos.numbers[ptr]; ok {
			value = json.Number(written)
		}
		what, rule, try := wrongType(name, value, k)
		r.add(at, what, rule, try)
	case *kind.Enum:
		allowed := make([]string, len(k.Want))
		for i, w := range k.Want {
			allowed[i] = fmt.Sprint(w)
		}
		r.add(at, fmt.Sprintf("%s is %s", name, show(value)), "allowed: "+strings.Join(allowed, ", "), suggest(fmt.Sprint(value), allowed))
	case *kind.Pattern:
		rule, try := patternRule(k.Want)
		r.add(at, fmt.Sprintf("%s is %s", name, show(value)), rule, try)
	case *kind.Minimum:
		r.add(at, fmt.Sprintf("%s is %s", name, show(value)), rangeRule(e.InstanceLocation), "choose another number")
	case *kind.Maximum:
		r.add(at, fmt.Sprintf("%s is %s", name, show(value)), rangeRule(e.InstanceLocation), "choose another number")
	case *kind.MinLength:
		r.add(at, fmt.Sprintf("%s is empty", name), "a value is needed", "give a value, or remove the key")
	case *kind.MinItems:
		r.add(at, fmt.Sprintf("%s is empty", name), "at least one item is needed", "add one")
	case *kind.UniqueItems:
		second := append(slices.Clone(parts), k.Duplicates[1])
		r.add(pos.value(pointer(second...)), fmt.Sprintf("%s names %s twice", name, show(lookup(doc, append(slices.Clone(e.InstanceLocation), fmt.Sprint(k.Duplicates[1]))))), "every item stands once", "remove one of the two")
	default:
		r.add(at, fmt.Sprintf("%s is %s", name, show(value)), e.Error(), "see docs/stack.md")
	}
}

// suggestKey finds what an unknown key may have meant: a key of the same place,
// or the same key somewhere else.
func (c compiled) suggestKey(key, def string) (rule, try string) {
	known := slices.Sorted(maps.Keys(c.defs[def].Properties))
	rule = "known keys: " + strings.Join(known, ", ")
	if near := nearest(key, known); near != "" {
		return rule, fmt.Sprintf("did you mean %q?", near)
	}
	for _, other := range slices.Sorted(maps.Keys(c.defs)) {
		if _, ok := c.defs[other].Properties[key]; ok && other != def {
			return rule, fmt.Sprintf("%q belongs under %s", key, placeName(other))
		}
	}
	return rule, "remove the key"
}

// definitionName is the last part of a schema's location: the Go type.
func definitionName(url string) string { return url[strings.LastIndexByte(url, '/')+1:] }

// placeName is how a file's author knows a definition.
func placeName(def string) string {
	switch def {
	case "Stack":
		return "the top level"
	case "Image":
		return "spec.images"
	case "Release":
		return "spec.releases"
	case "ValueFrom":
		return "valuesFrom of a release"
	case "Base":
		return "base of an image"
	case "Drill":
		return "spec.drills"
	case "DrillLoad":
		return "load of a drill"
	case "Inject":
		return "inject of a drill"
	case "Spec", "Metadata":
		return strings.ToLower(def)
	default:
		return "spec." + strings.ToLower(def)
	}
}

// wrongType explains a value of the wrong type.
func wrongType(name string, value any, k *kind.Type) (what, rule, try string) {
	want := strings.Join(k.Want, " or ")
	what = fmt.Sprintf("%s is %s", name, describe(value))
	rule = fmt.Sprintf("%s is expected", typeName(want))
	switch {
	case want == "string" && (k.Got == "number" || k.Got == "integer" || k.Got == "boolean"):
		if key := name[strings.LastIndexByte(name, '.')+1:]; slices.Contains([]string{"timeout", "within", "resolves", "latency", "jitter"}, key) {
			return what, "a duration has a unit: 90s, 5m, 1h30m", fmt.Sprintf("write %vs or %vm", value, value)
		}
		return what, rule, fmt.Sprintf("quote it: \"%v\"", value)
	case want == "integer" && k.Got == "string":
		return what, rule, "write the number without quotes"
	case want == "boolean":
		return what, rule, "write true or false"
	case want == "array":
		return what, rule, "write a list: [a, b], or a line with \"- \" for each item"
	case k.Got == "null":
		return what, rule, "give a value, or remove the key"
	default:
		return what, rule, "see docs/stack.md"
	}
}

func typeName(t string) string {
	switch t {
	case "object":
		return "a map"
	case "array":
		return "a list"
	case "integer":
		return "a whole number"
	case "boolean":
		return "true or false"
	default:
		return "a " + t
	}
}

// describe says what a value is, without repeating a large one.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "empty"
	case map[string]any:
		return "a map"
	case []any:
		return "a list"
	case string:
		return "the text " + quote(v)
	case bool:
		return fmt.Sprintf("the boolean %v", v)
	default:
		return fmt.Sprintf("the number %v", v)
	}
}

// show writes a value for a message.
func show(v any) string {
	switch v := v.(type) {
	case string:
		return quote(v)
	case map[string]any, []any, nil:
		return describe(v)
	default:
		return fmt.Sprint(v)
	}
}

// patternRule is the rule behind a pattern of the schema, in words.
func patternRule(pattern string) (rule, try string) {
	switch {
	case strings.HasPrefix(pattern, "^https?"):
		return "an endpoint is a URL that starts with http:// or https://", "write http://HOST:PORT"
	case strings.HasPrefix(pattern, "^[a-z]{2}("):
		return "a region looks like eu-west-1", "write a region of AWS"
	case strings.HasPrefix(pattern, "^([0-9]+"):
		return "a duration has a unit: 90s, 5m, 1h30m", "write a number with its unit"
	case strings.HasPrefix(pattern, "^[A-Za-z0-9_-]+("):
		return "a path is keys joined by dots", "write it like image.tag"
	case strings.HasPrefix(pattern, "^[A-Za-z_]"):
		return "a build argument has letters, digits and _", "write it like BASE_IMAGE"
	case strings.Contains(pattern, ",61}"):
		return "a namespace has 1 to 63 lower-case letters, digits and -, and starts and ends with a letter or digit", "choose another name"
	case strings.HasPrefix(pattern, "^(deployment|"):
		return "a workload is deployment/NAME, statefulset/NAME or replicaset/NAME", "write it like deployment/web-app"
	case pattern == "^/":
		return "the path of a request starts with /", "write it like /orders"
	case pattern == "^[A-Z]+$":
		return "the method of a request has capital letters", "write it like PUT"
	default:
		return "a name has 1 to 40 lower-case letters, digits and -, and starts and ends with a letter or digit", "choose another name"
	}
}

// rangeRule is the rule behind the limits of a number.
func rangeRule(location []string) string {
	if len(location) > 1 && location[1] == "ports" {
		return "a port is 1024 to 65535; lower ones are privileged"
	}
	if rule, ok := drillRanges[location[len(location)-1]]; ok && len(location) > 1 && location[1] == "drills" {
		return rule
	}
	return "a cluster has 1 to 9 nodes"
}

// drillRanges are the rules behind the limits of a drill's numbers, by key.
var drillRanges = map[string]string{
	"compress": "durations are divided by 1 to 1000; 1 leaves them as they are",
	"count":    "a fault hits at least one pod",
	"replicas": "a workload is scaled to 0 to 100 replicas",
	"percent":  "a share is 1 to 100 percent, of memory to 99",
	"workers":  "the CPU is used by 1 to 64 loops",
	"status":   "the status of an error is 400 to 599",
	"port":     "a port is 1 to 65535",
	"rate":     "the load is 1 to 100 requests a second",
}

// label is how a message names a place: spec.releases[0].chart.
func label(location []string) string {
	if len(location) == 0 {
		return "the file"
	}
	var b strings.Builder
	for i, part := range location {
		switch {
		case part != "" && strings.Trim(part, "0123456789") == "":
			fmt.Fprintf(&b, "[%s]", part)
		case i > 0:
			b.WriteString("." + part)
		default:
			b.WriteString(part)
		}
	}
	return b.String()
}

// lookup returns the value at a location of a document.
func lookup(doc any, location []string) any {
	for _, part := range location {
		switch v := doc.(type) {
		case map[string]any:
			doc = v[part]
		case []any:
			var i int
			if _, err := fmt.Sscanf(part, "%d", &i); err != nil || i < 0 || i >= len(v) {
				return nil
			}
			doc = v[i]
		default:
			return nil
		}
	}
	return doc
}

// nearest is Nearest of a word that is short enough to be shown.
func nearest(word string, candidates []string) string {
	if len(word) > maxQuoted {
		return ""
	}
	return Nearest(word, candidates)
}

// Nearest returns the candidate closest to a word, or "" where none is close.
func Nearest(word string, candidates []string) string {
	best, distance := "", max(2, len(word)/3)+1
	for _, c := range candidates {
		if d := levenshtein.Distance(strings.ToLower(word), strings.ToLower(c), nil); d < distance {
			best, distance = c, d
		}
	}
	return best
}

// suggest proposes the candidate closest to a word, or names them all.
func suggest(word string, candidates []string) string {
	if near := nearest(word, candidates); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	if len(candidates) == 0 {
		return "remove it"
	}
	return "use one of: " + strings.Join(candidates, ", ")
}
