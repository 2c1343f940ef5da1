package release

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestHolds(t *testing.T) {
	type obj = map[string]any
	live := obj{
		"replicas": int64(3), "paused": false,
		"template": obj{"containers": []any{obj{"image": "web:1", "args": []any{"-v"}, "pullPolicy": "Always"}}},
	}
	for name, c := range map[string]struct {
		want any
		held bool
	}{
		"what the cluster added does not count": {obj{"replicas": 3.0, "template": obj{"containers": []any{obj{"image": "web:1"}}}}, true},
		"another image":                         {obj{"template": obj{"containers": []any{obj{"image": "web:2"}}}}, false},
		"another number":                        {obj{"replicas": 2}, false},
		"one container more":                    {obj{"template": obj{"containers": []any{obj{}, obj{}}}}, false},
		"a field that is gone":                  {obj{"strategy": "Recreate"}, false},
		"what is empty may be left out":         {obj{"volumes": []any{}, "nodeSelector": obj{}, "affinity": nil}, true},
	} {
		assert.Equal(t, c.held, holds(live, c.want), name)
	}
}
