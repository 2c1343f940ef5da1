package release

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"helm.sh/helm/v3/pkg/release"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
)

// changed names a workload of the revision whose spec is no longer as the chart
// has it, as after a kubectl set image or scale; "" where there is none. What the
// cluster has added to a spec does not count.
func (c *cluster) changed(ctx context.Context, spec Spec, rel *release.Release) (string, error) {
	if rel == nil {
		return "", nil
	}
	dec := utilyaml.NewYAMLOrJSONDecoder(strings.NewReader(rel.Manifest), 4096)
	for {
		var want unstructured.Unstructured
		err := dec.Decode(&want.Object)
		if errors.Is(err, io.EOF) {
			return "", nil
		}
		if err != nil {
			return "", fmt.Errorf("read the release's manifest: %w", err)
		}
		if len(want.Object) == 0 || !rolling[want.GroupVersionKind().GroupKind()] {
			continue
		}
		refs, err := c.refsOf(want, spec.Namespace)
		if err != nil {
			return "", err
		}
		live, err := c.dynamic.Resource(refs[0].gvr).Namespace(refs[0].namespace).Get(ctx, refs[0].name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return refs[0].String(), nil
		}
		if err != nil {
			return "", fmt.Errorf("get %s: %w", refs[0], err)
		}
		if !holds(live.Object["spec"], want.Object["spec"]) {
			return refs[0].String(), nil
		}
	}
}

// holds says whether live has all that want has: every field of its maps, and
// lists of the same length.
func holds(live, want any) bool {
	switch want := want.(type) {
	case nil:
		return true
	case map[string]any:
		have, ok := live.(map[string]any)
		if !ok {
			return len(want) == 0
		}
		for k, v := range want {
			if !holds(have[k], v) {
				return false
			}
		}
		return true
	case []any:
		have, ok := live.([]any)
		if !ok || len(have) != len(want) {
			return len(want) == 0 && !ok
		}
		for i, v := range want {
			if !holds(have[i], v) {
				return false
			}
		}
		return true
	}
	// Numbers may come as different types, and quantities as numbers.
	return reflect.DeepEqual(live, want) || fmt.Sprint(live) == fmt.Sprint(want)
}
