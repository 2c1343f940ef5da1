package live

import (
	"strings"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// pods are those that the informers saw last, and the client to read their logs.
type pods struct {
	client atomic.Pointer[kubernetes.Interface]
	store  atomic.Pointer[cache.Store]
	events told
}

func (p *pods) use(client kubernetes.Interface, s cache.Store) {
	p.client.Store(&client)
	p.store.Store(&s)
}

// list returns the pods. They are shared and must not be changed.
func (p *pods) list() []*corev1.Pod {
	s := p.store.Load()
	if s == nil {
		return nil
	}
	var all []*corev1.Pod
	for _, obj := range (*s).List() {
		if pod, ok := obj.(*corev1.Pod); ok {
			all = append(all, pod)
		}
	}
	return all
}

// instanceLabel is the label that charts by convention give to the objects of
// a release.
const instanceLabel = "app.kubernetes.io/instance"

// releaseOf returns the component of the release that a pod belongs to: by its
// label or, where it has none, by a namespace that holds one release.
func (l *live) releaseOf(pod *corev1.Pod) (string, bool) {
	instance, labelled := pod.Labels[instanceLabel]
	var found []string
	for _, r := range l.src.Releases {
		if r.Namespace == pod.Namespace && (!labelled || instance == r.Name) {
			found = append(found, "release/"+r.Name)
		}
	}
	if len(found) != 1 {
		return "", false
	}
	return found[0], true
}

// workloadOf names the object that a release's chart has and the pod comes
// from, as health does: "Deployment/web-app".
func workloadOf(pod *corev1.Pod) string {
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return "Pod/" + pod.Name
	}
	if hash := pod.Labels["pod-template-hash"]; owner.Kind == "ReplicaSet" && hash != "" {
		return "Deployment/" + strings.TrimSuffix(owner.Name, "-"+hash)
	}
	return owner.Kind + "/" + owner.Name
}
