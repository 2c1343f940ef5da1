package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/restmapper"

	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// fieldManager is the name under which sandbox owns fields of objects.
const fieldManager = "sandbox"

// parseManifests reads the YAML documents in data.
func parseManifests(data []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	dec := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	for {
		o := &unstructured.Unstructured{}
		switch err := dec.Decode(o); {
		case errors.Is(err, io.EOF):
			return objects, nil
		case err != nil:
			return nil, fmt.Errorf("read manifest %d: %w", len(objects)+1, err)
		case len(o.Object) > 0:
			objects = append(objects, o)
		}
	}
}

// applier applies objects to the cluster on the server's side.
type applier struct {
	client dynamic.Interface
	mapper meta.RESTMapper
	labels map[string]string // added to every object
}

func (c *Cluster) applier(client kubernetes.Interface) (*applier, error) {
	dyn, err := c.Dynamic()
	if err != nil {
		return nil, err
	}
	return &applier{
		client: dyn,
		mapper: restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(client.Discovery())),
		labels: map[string]string{runtime.LabelName: c.cfg.Name},
	}, nil
}

// apply applies the objects in order and reports whether any of them changed.
func (a *applier) apply(ctx context.Context, objects []*unstructured.Unstructured) (bool, error) {
	var changed bool
	for _, o := range objects {
		this, err := a.applyOne(ctx, o)
		if err != nil {
			return changed, fmt.Errorf("apply %s/%s: %w", o.GetKind(), o.GetName(), err)
		}
		changed = changed || this
	}
	return changed, nil
}

func (a *applier) applyOne(ctx context.Context, o *unstructured.Unstructured) (bool, error) {
	o = o.DeepCopy()
	labels := o.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	for k, v := range a.labels {
		labels[k] = v
	}
	o.SetLabels(labels)

	gvk := o.GroupVersionKind()
	mapping, err := a.mapper.RESTMapping(gvk.GroupKind(), gvk.Version)
	if err != nil {
		return false, err
	}
	var resource dynamic.ResourceInterface = a.client.Resource(mapping.Resource)
	if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		resource = a.client.Resource(mapping.Resource).Namespace(o.GetNamespace())
	}
	var before string
	switch old, err := resource.Get(ctx, o.GetName(), metav1.GetOptions{}); {
	case err == nil:
		before = old.GetResourceVersion()
	case !apierrors.IsNotFound(err):
		return false, err
	}
	now, err := resource.Apply(ctx, o.GetName(), o, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	if err != nil {
		return false, err
	}
	return now.GetResourceVersion() != before, nil
}
