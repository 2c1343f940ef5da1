package cluster

import (
	"context"
	"embed"
	"fmt"
	"net"
	"time"

	"github.com/cenkalti/backoff/v5"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
)

//go:embed manifests/*.yaml
var manifests embed.FS

// SystemNamespace holds what sandbox itself runs in the cluster.
const SystemNamespace = "sandbox-system"

// The addons, in the order in which they are applied: the account that
// Prometheus uses comes first, so that its token is there early.
var addons = []string{"namespace", "prometheus-access", "kube-state-metrics"}

const (
	tokenSecret  = "sandbox-prometheus-token"
	tokenTimeout = 30 * time.Second
	// apiPort is where the API server listens on the sandbox's network.
	apiPort = "6443"
)

// InstallAddons applies what sandbox runs in every cluster: kube-state-metrics
// and the account for the Prometheus outside. It reports whether that changed
// anything, and does not wait for pods to be ready.
func (c *Cluster) InstallAddons(ctx context.Context, rep event.Reporter) (bool, error) {
	client, err := c.Client()
	if err != nil {
		return false, err
	}
	a, err := c.applier(client)
	if err != nil {
		return false, err
	}
	var changed bool
	for i, name := range addons {
		rep.Progress(event.Progress{Text: "applying " + name, Done: int64(i), Total: int64(len(addons)), Unit: "objects"})
		data, err := manifests.ReadFile("manifests/" + name + ".yaml")
		if err != nil {
			return changed, fmt.Errorf("read addon %s: %w", name, err)
		}
		objects, err := parseManifests(data)
		if err != nil {
			return changed, fmt.Errorf("read addon %s: %w", name, err)
		}
		this, err := a.apply(ctx, objects)
		if err != nil {
			return changed, fault.Wrap(fault.Failed, err, "sandbox up", "install addon %s in cluster %q", name, c.Name())
		}
		changed = changed || this
	}
	return changed, nil
}

// Access is how a program on the sandbox's network reads from the cluster.
type Access struct {
	// Server is the API server's URL as seen from the sandbox's network.
	Server string
	// CA is the PEM certificate that the server's own is signed with.
	CA []byte
	// Token belongs to an account that may only read.
	Token string
}

// PrometheusAccess returns the read-only access of the Prometheus outside the
// cluster. InstallAddons must have run; the answer is the same for the life of
// the cluster.
func (c *Cluster) PrometheusAccess(ctx context.Context) (Access, error) {
	client, err := c.Client()
	if err != nil {
		return Access{}, err
	}
	secret, err := waitToken(ctx, client)
	if err != nil {
		return Access{}, fault.Wrap(fault.Failed, err, "sandbox up", "no access to cluster %q for Prometheus", c.Name())
	}
	return Access{
		Server: "https://" + net.JoinHostPort(c.ControlPlane(), apiPort),
		CA:     secret.Data[corev1.ServiceAccountRootCAKey],
		Token:  string(secret.Data[corev1.ServiceAccountTokenKey]),
	}, nil
}

// waitToken waits until the controller manager has filled in the token, which
// takes it a fraction of a second once it runs.
func waitToken(ctx context.Context, client kubernetes.Interface) (*corev1.Secret, error) {
	return backoff.Retry(ctx, func() (*corev1.Secret, error) {
		secret, err := client.CoreV1().Secrets(SystemNamespace).Get(ctx, tokenSecret, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		if len(secret.Data[corev1.ServiceAccountTokenKey]) == 0 {
			return nil, fmt.Errorf("secret %s/%s has no token yet", SystemNamespace, tokenSecret)
		}
		return secret, nil
	}, backoff.WithBackOff(backoff.NewConstantBackOff(100*time.Millisecond)), backoff.WithMaxElapsedTime(tokenTimeout))
}
