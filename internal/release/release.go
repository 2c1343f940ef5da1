// Package release installs and upgrades Helm releases and says what keeps them
// from being ready.
//
// Helm applies the objects; waiting is done here, because Helm's own wait
// cannot say what it waits for. Readiness follows kstatus and is explained by
// the pods: every wait and every state that is not ok names the object and the
// reason ("Deployment/web-app 1 of 3: ImagePullBackOff: …").
package release

import (
	"sync"
	"time"
)

// defaultTimeout is how long a release may take to become ready.
const defaultTimeout = 5 * time.Minute

// Config says which cluster the releases are in and whose they are.
type Config struct {
	// Kubeconfig is the file to connect with; it is only read.
	Kubeconfig string
	// Context in the kubeconfig; empty means its current one.
	Context string
	// Sandbox and Run label what is created.
	Sandbox string
	Run     string
}

// Spec is one desired release.
type Spec struct {
	// Name of the release.
	Name string
	// Namespace it is installed in; created where missing.
	Namespace string
	// Chart is the path of a chart directory or of a .tgz archive.
	Chart string
	// Values override those of ValuesFiles, and the last of these the
	// chart's own.
	Values      map[string]any
	ValuesFiles []string
	// Timeout for becoming ready, and for each of the chart's hooks; 0
	// means five minutes.
	Timeout time.Duration
}

// Component is the release's component path.
func (s Spec) Component() string { return "release/" + s.Name }

func (s Spec) timeout() time.Duration {
	if s.Timeout <= 0 {
		return defaultTimeout
	}
	return s.Timeout
}

// Manager handles the releases of one cluster. It is safe for concurrent use;
// the cluster is contacted when it is first needed.
type Manager struct {
	cfg     Config
	connect func() (*cluster, error)
}

// New returns a Manager.
func New(cfg Config) *Manager {
	m := &Manager{cfg: cfg}
	var mu sync.Mutex
	var known *cluster
	m.connect = func() (*cluster, error) {
		mu.Lock()
		defer mu.Unlock()
		if known != nil {
			return known, nil
		}
		c, err := connect(cfg.Kubeconfig, cfg.Context)
		if err == nil {
			known = c
		}
		return c, err
	}
	return m
}

// Release returns the handle of one release.
func (m *Manager) Release(spec Spec) *Release { return &Release{m: m, spec: spec} }

// Release is one release in the cluster.
type Release struct {
	m    *Manager
	spec Spec
}
