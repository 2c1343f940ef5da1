package release

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	kubectl "k8s.io/kubectl/pkg/describe"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// A part of a release is what Health names below it: "" is all of it,
// "Deployment/web-app" a workload and "Deployment/web-app/Pod/NAME" a pod.

// errNoPart says that a release has no such part.
var errNoPart = errors.New("the release has no such part")

// restarted is where kubectl, too, notes a restart: a change of the template
// makes the controller replace its pods one after the other.
const restarted = "kubectl.kubernetes.io/restartedAt"

// rolling are the kinds whose controllers replace pods on a change.
var rolling = map[schema.GroupKind]bool{
	{Group: "apps", Kind: "Deployment"}:  true,
	{Group: "apps", Kind: "StatefulSet"}: true,
	{Group: "apps", Kind: "DaemonSet"}:   true,
}

// Restart replaces the pods of a part. It does not wait for the new ones.
func (r *Release) Restart(ctx context.Context, part string) error {
	refs, pod, c, err := r.find(part)
	if err != nil {
		return err
	}
	if pod != "" {
		err := c.kube.CoreV1().Pods(refs[0].namespace).Delete(ctx, pod, metav1.DeleteOptions{})
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("restart pod %q: %w", pod, err)
		}
		return nil
	}
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{
		"metadata": map[string]any{"annotations": map[string]string{restarted: time.Now().Format(time.RFC3339Nano)}},
	}}})
	if err != nil {
		return fmt.Errorf("restart %s: %w", r.spec.Component(), err)
	}
	done := 0
	for _, o := range refs {
		if !rolling[o.gvk.GroupKind()] {
			continue
		}
		done++
		_, err := c.dynamic.Resource(o.gvr).Namespace(o.namespace).Patch(ctx, o.name, types.MergePatchType, patch, metav1.PatchOptions{})
		if err != nil {
			return fmt.Errorf("restart %s: %w", o, err)
		}
	}
	if done == 0 {
		return fmt.Errorf("%s has no pods that a controller would replace", strings.TrimSuffix(r.spec.Component()+"/"+part, "/"))
	}
	return nil
}

// Describe is what kubectl describe says of a part: its fields, conditions and
// events.
func (r *Release) Describe(ctx context.Context, part string) (string, error) {
	refs, pod, c, err := r.find(part)
	if err != nil {
		return "", err
	}
	if pod != "" {
		return c.describe(schema.GroupKind{Kind: "Pod"}, refs[0].namespace, pod)
	}
	var texts []string
	for _, o := range refs {
		if part == "" && !o.active() {
			continue
		}
		text, err := c.describe(o.gvk.GroupKind(), o.namespace, o.name)
		if err != nil {
			return "", err
		}
		texts = append(texts, o.String()+"\n\n"+text)
	}
	return strings.Join(texts, "\n"), nil
}

func (c *cluster) describe(kind schema.GroupKind, namespace, name string) (string, error) {
	d, ok := kubectl.DescriberFor(kind, c.config)
	if !ok {
		mapping, err := c.mapper.RESTMapping(kind)
		if err != nil {
			return "", fmt.Errorf("describe %s/%s: %w", kind.Kind, name, err)
		}
		if d, ok = kubectl.GenericDescriberFor(mapping, c.config); !ok {
			return "", fmt.Errorf("describe %s/%s: there is no way to", kind.Kind, name)
		}
	}
	text, err := d.Describe(namespace, name, kubectl.DescriberSettings{ShowEvents: true})
	if err != nil {
		return "", fmt.Errorf("describe %s/%s: %w", kind.Kind, name, err)
	}
	return text, nil
}

// earlierLines is how many lines of an earlier log are read of each container.
const earlierLines = 1000

// errNoRestart says that there is no log of an earlier run.
var errNoRestart = errors.New("none of its containers was restarted")

// PreviousLog is what the containers of a part logged before they were last
// restarted.
func (r *Release) PreviousLog(ctx context.Context, part string) (string, error) {
	refs, pod, c, err := r.find(part)
	if err != nil {
		return "", err
	}
	s, err := c.take(ctx, refs)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, o := range refs {
		u := s.objects[o]
		if u == nil {
			continue
		}
		for _, p := range s.allPodsOf(u) {
			if pod != "" && p.Name != pod {
				continue
			}
			for _, status := range p.Status.ContainerStatuses {
				if status.RestartCount == 0 {
					continue
				}
				lines, err := c.readLog(ctx, p.Namespace, p.Name, status.Name, true, earlierLines)
				if err != nil {
					return "", err
				}
				fmt.Fprintf(&b, "--- pod %s, container %s, before restart %d\n%s\n", p.Name, status.Name, status.RestartCount, strings.Join(lines, "\n"))
			}
		}
	}
	if b.Len() == 0 {
		return "", errNoRestart
	}
	return b.String(), nil
}

// Pod names a pod of the part that runs, a ready one where there is one.
func (r *Release) Pod(ctx context.Context, part string) (namespace, name string, err error) {
	refs, pod, c, err := r.find(part)
	if err != nil {
		return "", "", err
	}
	if pod != "" {
		return refs[0].namespace, pod, nil
	}
	s, err := c.take(ctx, refs)
	if err != nil {
		return "", "", err
	}
	var running *corev1.Pod
	for _, o := range refs {
		u := s.objects[o]
		if u == nil {
			continue
		}
		for _, p := range s.allPodsOf(u) {
			switch {
			case p.Status.Phase != corev1.PodRunning:
			case podReady(p):
				return p.Namespace, p.Name, nil
			case running == nil:
				running = p
			}
		}
	}
	if running == nil {
		return "", "", fmt.Errorf("no pod of %s runs", strings.TrimSuffix(r.spec.Component()+"/"+part, "/"))
	}
	return running.Namespace, running.Name, nil
}

// find returns the objects of a part, and the pod where it is one: then the
// object is the workload that the pod belongs to.
func (r *Release) find(part string) (refs []ref, pod string, c *cluster, err error) {
	c, err = r.m.connect()
	if err != nil {
		return nil, "", nil, err
	}
	hc, err := c.helm(r.spec.Namespace, event.Discard)
	if err != nil {
		return nil, "", nil, err
	}
	rel, err := lastRevision(hc, r.spec.Name)
	if err != nil {
		return nil, "", nil, err
	}
	if rel == nil {
		return nil, "", nil, fmt.Errorf("release %q is not installed", r.spec.Name)
	}
	if refs, err = c.manifestRefs(rel.Manifest, r.spec.Namespace); err != nil {
		return nil, "", nil, err
	}
	if part == "" {
		return refs, "", c, nil
	}
	workload, pod, isPod := strings.Cut(part, "/Pod/")
	refs = slices.DeleteFunc(refs, func(o ref) bool { return o.String() != workload })
	if len(refs) == 0 || isPod && pod == "" {
		return nil, "", nil, fmt.Errorf("%s: %w", r.spec.Component()+"/"+part, errNoPart)
	}
	return refs, pod, c, nil
}
