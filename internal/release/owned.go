package release

import (
	"context"
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Owned returns name and namespace of every release in the cluster that was
// installed for this sandbox, sorted, also of those that its stack has no more.
func (m *Manager) Owned(ctx context.Context) ([]Spec, error) {
	c, err := m.connect()
	if err != nil {
		return nil, err
	}
	// Helm keeps a Secret per revision and puts the release's labels on it.
	secrets, err := c.kube.CoreV1().Secrets(metav1.NamespaceAll).List(ctx, metav1.ListOptions{
		LabelSelector: "owner=helm," + labelName + "=" + m.cfg.Sandbox,
	})
	if err != nil {
		return nil, fmt.Errorf("list the releases of sandbox %q: %w", m.cfg.Sandbox, err)
	}
	found := map[string]Spec{}
	for _, s := range secrets.Items {
		found[s.Namespace+"/"+s.Labels["name"]] = Spec{Name: s.Labels["name"], Namespace: s.Namespace}
	}
	var owned []Spec
	for _, key := range slices.Sorted(maps.Keys(found)) {
		owned = append(owned, found[key])
	}
	return owned, nil
}
