package release

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
)

// ref points to one object of a release.
type ref struct {
	gvk       schema.GroupVersionKind
	gvr       schema.GroupVersionResource
	namespace string // empty for a cluster-wide object
	name      string
}

// String is "Deployment/web-app", as it appears in reasons and components.
func (r ref) String() string { return r.gvk.Kind + "/" + r.name }

// workloads are the kinds that own pods.
var workloads = map[schema.GroupKind]bool{
	{Group: "apps", Kind: "Deployment"}:  true,
	{Group: "apps", Kind: "StatefulSet"}: true,
	{Group: "apps", Kind: "DaemonSet"}:   true,
	{Group: "apps", Kind: "ReplicaSet"}:  true,
	{Group: "batch", Kind: "Job"}:        true,
	{Group: "", Kind: "Pod"}:             true,
}

// builtin are the API groups of Kubernetes itself. Objects of other groups
// belong to an operator, which tells in their status how they are.
func builtin(group string) bool {
	return group == "" || !strings.Contains(group, ".") || strings.HasSuffix(group, ".k8s.io")
}

// active says whether the object can be anything but ready once it exists.
// A claim for a volume is not: with a class that binds late it waits for its
// first pod, and a pod that waits for a claim says so itself.
func (r ref) active() bool {
	gk := r.gvk.GroupKind()
	return workloads[gk] || !builtin(gk.Group) ||
		gk == schema.GroupKind{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"} ||
		gk == schema.GroupKind{Group: "apiregistration.k8s.io", Kind: "APIService"}
}

// manifestRefs lists the objects of a release's manifest.
func (c *cluster) manifestRefs(manifest, namespace string) ([]ref, error) {
	var refs []ref
	err := eachObject(manifest, func(obj *unstructured.Unstructured) error {
		r, err := c.refOf(obj, namespace)
		if err == nil {
			refs = append(refs, r)
		}
		return err
	})
	return refs, err
}

// eachObject calls f with the objects of a release's manifest, those of a List
// among them, until it fails.
func eachObject(manifest string, f func(*unstructured.Unstructured) error) error {
	dec := utilyaml.NewYAMLOrJSONDecoder(strings.NewReader(manifest), 4096)
	for {
		var obj unstructured.Unstructured
		err := dec.Decode(&obj.Object)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read the release's manifest: %w", err)
		case len(obj.Object) == 0:
			continue
		}
		if err := eachItem(&obj, f); err != nil {
			return err
		}
	}
}

// eachItem calls f with the object, or with those that it lists.
func eachItem(obj *unstructured.Unstructured, f func(*unstructured.Unstructured) error) error {
	if !obj.IsList() {
		return f(obj)
	}
	return obj.EachListItem(func(item runtime.Object) error {
		return eachItem(item.(*unstructured.Unstructured), f)
	})
}

// refOf resolves one object of a manifest.
func (c *cluster) refOf(obj *unstructured.Unstructured, namespace string) (ref, error) {
	gvk := obj.GroupVersionKind()
	mapping, err := c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if meta.IsNoMatchError(err) {
		// The chart may just have brought the definition along.
		c.mapper.Reset()
		mapping, err = c.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	}
	if err != nil {
		return ref{}, fmt.Errorf("find the API of %s %q: %w", gvk.Kind, obj.GetName(), err)
	}
	r := ref{gvk: gvk, gvr: mapping.Resource, name: obj.GetName()}
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		r.namespace = obj.GetNamespace()
		if r.namespace == "" {
			r.namespace = namespace
		}
	}
	return r, nil
}

// missing returns the passive objects that are not in the cluster. Only their
// metadata is fetched, so that no secret leaves it.
func (c *cluster) missing(ctx context.Context, refs []ref) ([]ref, error) {
	absent := make([]bool, len(refs))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i, r := range refs {
		if r.active() {
			continue
		}
		g.Go(func() error {
			_, err := c.metadata.Resource(r.gvr).Namespace(r.namespace).Get(ctx, r.name, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				absent[i] = true
				return nil
			}
			if err != nil {
				return fmt.Errorf("look for %s: %w", r, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var out []ref
	for i, r := range refs {
		if absent[i] {
			out = append(out, r)
		}
	}
	return out, nil
}

// namespaces lists the namespaces of the active objects, sorted.
func namespaces(refs []ref) []string {
	var out []string
	for _, r := range refs {
		if r.active() && r.namespace != "" {
			out = append(out, r.namespace)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
