package release

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

func TestOwned(t *testing.T) {
	secret := func(namespace, name string, labels map[string]string) *corev1.Secret {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels}}
	}
	helm := func(name, sandbox string) map[string]string {
		return map[string]string{"owner": "helm", "name": name, labelName: sandbox}
	}
	kube := fake.NewClientset(
		secret("b", "sh.helm.release.v1.web.v1", helm("web", "demo")),
		secret("b", "sh.helm.release.v1.web.v2", helm("web", "demo")),
		secret("a", "sh.helm.release.v1.db.v1", helm("db", "demo")),
		secret("a", "sh.helm.release.v1.other.v1", helm("other", "review")),
		secret("a", "credentials", map[string]string{labelName: "demo"}),
	)
	m := New(Config{Sandbox: "demo"})
	m.connect = func() (*cluster, error) { return &cluster{kube: kube}, nil }
	owned, err := m.Owned(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []Spec{{Name: "db", Namespace: "a"}, {Name: "web", Namespace: "b"}}, owned)
}
