package terraform

import (
	"slices"
	"testing"

	tfjson "github.com/hashicorp/terraform-json"
)

func TestDifferencesIgnoreHowThingsAreEmpty(t *testing.T) {
	type obj = map[string]any
	cases := []struct {
		name          string
		before, after any
		want          []string
	}{
		{"null and empty", obj{"tags": nil, "policy": "", "rules": []any{}}, obj{"tags": obj{}, "policy": nil}, nil},
		{"deep", obj{"rule": []any{obj{"filter": nil, "id": "a"}}}, obj{"rule": []any{obj{"filter": []any{}, "id": "a"}}}, nil},
		{"real", obj{"delay": 0.0, "name": "q"}, obj{"delay": 5.0, "name": "q", "tags": obj{"a": "b"}}, []string{"delay", "tags"}},
		{"false is a value", obj{"on": nil}, obj{"on": false}, []string{"on"}},
		{"one more element", obj{"l": []any{"a"}}, obj{"l": []any{"a", nil}}, []string{"l"}},
		{"no objects", nil, obj{}, []string{"."}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := differences(&tfjson.Change{Before: c.before, After: c.after}); !slices.Equal(got, c.want) {
				t.Errorf("differences = %v, want %v", got, c.want)
			}
		})
	}
}

// What the provider computes differs after every first look; a plan that leaves
// it alone says so.
func TestDriftIsWhatAnApplyWouldUndo(t *testing.T) {
	s := &stream{
		drifted: []Change{{Address: "role", Action: "update"}, {Address: "queue", Action: "update"}, {Address: "bucket", Action: "delete"}},
		planned: []Change{{Address: "queue", Action: "update"}, {Address: "bucket", Action: "create"}, {Address: "new", Action: "create"}},
	}
	var got []string
	for _, c := range s.undone() {
		got = append(got, c.Address)
	}
	if want := []string{"queue", "bucket"}; !slices.Equal(got, want) {
		t.Errorf("drift = %v, want %v", got, want)
	}
}
