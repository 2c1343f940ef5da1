// Package cluster makes and looks after the kind cluster of a sandbox.
//
// kind, as a library, creates the nodes and runs kubeadm in them. What a user
// waits for is ours: readiness is watched through the Kubernetes API and each
// wait names what is not ready and why; images are streamed into the nodes
// through the engine; deletion goes through the engine too, so that a cluster
// that was never finished can be removed without kind's help.
package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// LabelKind is the label that kind puts on a cluster's node containers. kind
// offers no way to add labels of ours, so it stands in for runtime.LabelName:
// its value, KindName, carries the sandbox's name.
const LabelKind = "io.x-k8s.kind.cluster"

// defaultReadyTimeout is how long WaitReady waits before it gives up. A cold
// start on two busy cores takes about a minute.
const defaultReadyTimeout = 5 * time.Minute

// Config says what cluster a sandbox wants.
type Config struct {
	// Name is the sandbox's name; the kind cluster is called KindName(Name).
	Name string
	// Nodes is the number of nodes, the control plane included. 0 means 1.
	Nodes int
	// NodeImage is the kind node image, which the engine must already hold.
	NodeImage string
	// Kubeconfig is the absolute path of the private kubeconfig file. Files
	// that the nodes mount are kept in its folder.
	Kubeconfig string
	// Network is the engine network that the nodes join. It must exist, so
	// that kind does not create one without the sandbox's labels. Empty means
	// "sandbox-" and the name.
	Network string
	// APIServerPort is the port on 127.0.0.1 for the API server; 0 takes a
	// free one.
	APIServerPort int
	// ReadyTimeout bounds WaitReady; 0 means five minutes.
	ReadyTimeout time.Duration
}

// KindName is the name of the kind cluster of the named sandbox.
func KindName(sandbox string) string { return "sandbox-" + sandbox }

// Cluster is the kind cluster of one sandbox, whether or not it exists yet.
// Its methods are safe for concurrent use, except that Create, Start and
// Delete exclude each other by the caller's lock on the sandbox.
type Cluster struct {
	rt  runtime.Runtime
	cfg Config
	// provision runs kind; tests replace it.
	provision provisionFunc
	// nodeName matches the names of this cluster's node containers.
	nodeName *regexp.Regexp
}

// New returns the cluster that cfg describes on the engine rt. It does not
// touch the engine.
func New(rt runtime.Runtime, cfg Config) (*Cluster, error) {
	if cfg.Nodes == 0 {
		cfg.Nodes = 1
	}
	if cfg.Network == "" {
		cfg.Network = KindName(cfg.Name)
	}
	if cfg.ReadyTimeout == 0 {
		cfg.ReadyTimeout = defaultReadyTimeout
	}
	switch {
	case cfg.Name == "":
		return nil, fault.New(fault.Invalid, "the cluster has no name", "", "")
	case cfg.Nodes < 0:
		return nil, fault.New(fault.Invalid, fmt.Sprintf("a cluster of %d nodes", cfg.Nodes), "nodes must be 1 or more", "")
	case !filepath.IsAbs(cfg.Kubeconfig):
		return nil, fault.New(fault.Invalid, fmt.Sprintf("kubeconfig path %q", cfg.Kubeconfig), "it must be absolute", "")
	}
	return &Cluster{
		rt:        rt,
		cfg:       cfg,
		provision: runKind,
		nodeName:  regexp.MustCompile("^" + regexp.QuoteMeta(KindName(cfg.Name)) + `-(control-plane|worker|external-load-balancer)[0-9]*$`),
	}, nil
}

// Name is the name of the kind cluster.
func (c *Cluster) Name() string { return KindName(c.cfg.Name) }

// Kubeconfig is the path of the cluster's private kubeconfig file.
func (c *Cluster) Kubeconfig() string { return c.cfg.Kubeconfig }

// ControlPlane is the name of the control plane's node container, which is
// also its host name on the sandbox's network.
func (c *Cluster) ControlPlane() string { return c.Name() + "-control-plane" }

// down is the error of an operation that needs a running cluster.
func (c *Cluster) down(what string) error {
	return fault.New(fault.Unavailable, what, fmt.Sprintf("cluster %q does not run", c.Name()), "sandbox up")
}

// RESTConfig returns the configuration for clients of the cluster, read from
// the private kubeconfig.
func (c *Cluster) RESTConfig() (*rest.Config, error) {
	if _, err := os.Stat(c.cfg.Kubeconfig); os.IsNotExist(err) {
		return nil, c.down("no kubeconfig for the cluster")
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", c.cfg.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig %s: %w", c.cfg.Kubeconfig, err)
	}
	// The API server is this sandbox's own; client-side throttling would only
	// slow it down.
	cfg.QPS, cfg.Burst = 100, 200
	cfg.UserAgent = "sandbox"
	return cfg, nil
}

// Client returns a typed client of the cluster.
func (c *Cluster) Client() (kubernetes.Interface, error) {
	cfg, err := c.RESTConfig()
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("create Kubernetes client: %w", err)
	}
	return client, nil
}

// Dynamic returns a client for objects of any kind in the cluster.
func (c *Cluster) Dynamic() (dynamic.Interface, error) {
	cfg, err := c.RESTConfig()
	if err != nil {
		return nil, err
	}
	client, err := dynamic.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("create Kubernetes client: %w", err)
	}
	return client, nil
}
