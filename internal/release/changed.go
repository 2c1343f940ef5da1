package release

import (
	"context"
	"fmt"
	"reflect"

	"helm.sh/helm/v3/pkg/release"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// changed names a workload of the revision whose spec is no longer as the chart
// has it, as after a kubectl set image or scale; "" where there is none. What the
// cluster has added to a spec does not count.
func (c *cluster) changed(ctx context.Context, spec Spec, rel *release.Release) (name string, err error) {
	if rel == nil {
		return "", nil
	}
	err = eachObject(rel.Manifest, func(want *unstructured.Unstructured) error {
		if name != "" || !rolling[want.GroupVersionKind().GroupKind()] {
			return nil
		}
		r, err := c.refOf(want, spec.Namespace)
		if err != nil {
			return err
		}
		live, err := c.dynamic.Resource(r.gvr).Namespace(r.namespace).Get(ctx, r.name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			name = r.String()
		case err != nil:
			return fmt.Errorf("get %s: %w", r, err)
		case !holds(live.Object["spec"], want.Object["spec"]):
			name = r.String()
		}
		return nil
	})
	return name, err
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
