package release

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// backingOff are the waiting reasons in which the kubelet tries again only
// after up to five minutes.
var backingOff = []string{"CrashLoopBackOff", "ImagePullBackOff", "ErrImagePull"}

// restartStuck deletes the release's pods that have been in a back-off since
// before this run, so that their controllers replace them at once: what they
// failed for may have been put right since, and nobody wants to wait for the
// back-off to end. It also makes the new pods' age the time since this run.
func (c *cluster) restartStuck(ctx context.Context, spec Spec, manifest string, before time.Time, rep event.Reporter) error {
	refs, err := c.manifestRefs(manifest, spec.Namespace)
	if err != nil {
		return err
	}
	s, err := c.take(ctx, refs)
	if err != nil {
		return fmt.Errorf("look for stuck pods of release %q: %w", spec.Name, err)
	}
	for _, u := range s.objects {
		for _, p := range s.podsOf(u) {
			if !inBackOff(p) || !p.CreationTimestamp.Time.Before(before) || metav1.GetControllerOf(p) == nil {
				continue
			}
			err := c.kube.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{
				Preconditions:      &metav1.Preconditions{UID: ptr.To(p.UID)},
				GracePeriodSeconds: ptr.To[int64](0),
			})
			if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
				return fmt.Errorf("restart pod %q: %w", p.Name, err)
			}
			rep.Log("sandbox", fmt.Sprintf("Pod/%s has been failing since before this run: replaced by a new one", p.Name))
		}
	}
	return nil
}

func inBackOff(p *corev1.Pod) bool {
	return slices.ContainsFunc(slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses), func(s corev1.ContainerStatus) bool {
		return s.State.Waiting != nil && slices.Contains(backingOff, s.State.Waiting.Reason)
	})
}
