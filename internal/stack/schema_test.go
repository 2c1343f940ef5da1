package stack

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/invopop/jsonschema"
)

var update = flag.Bool("update", false, "rewrite the golden files and the JSON schema")

const schemaFile = "../../stacks/schema.json"

// generateSchema derives the JSON schema of a stack file from the Go types:
// keys from the json tags, rules from the jsonschema tags, descriptions from
// the comments.
func generateSchema(t *testing.T) []byte {
	t.Helper()
	reflector := &jsonschema.Reflector{Mapper: durationSchema}
	if err := reflector.AddGoComments("github.com/sandbox-stack/sandbox/internal/stack", "."); err != nil {
		t.Fatal(err)
	}
	schema := reflector.Reflect(&Stack{})
	schema.ID = ""
	schema.Title = "A stack of sandbox"
	data, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(data, '\n')
}

// durationSchema describes a duration as the text that it is in the file.
func durationSchema(t reflect.Type) *jsonschema.Schema {
	if t != reflect.TypeFor[Duration]() {
		return nil
	}
	return &jsonschema.Schema{Type: "string", Pattern: `^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`}
}

func TestSchemaIsUpToDate(t *testing.T) {
	got := generateSchema(t)
	if *update {
		if err := os.WriteFile(filepath.FromSlash(schemaFile), got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(filepath.FromSlash(schemaFile))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("stacks/schema.json does not follow from the Go types; run: make generate")
	}
}
