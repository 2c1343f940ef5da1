// Package observe runs the observability stack of a sandbox: Prometheus,
// Alertmanager and Grafana, as containers of the engine beside the cluster.
//
// They are not pods, so they start before the cluster exists, keep their data
// across clusters and can still alert when the cluster is what broke.
// Prometheus discovers nodes and pods with the Kubernetes API and scrapes them
// through the API server's proxy, because pod addresses are not reachable from
// the sandbox's network.
//
// # Files and users
//
// Each service has a folder in the sandbox's state directory with what it
// reads (config/) and what it writes (data/); both are bound into the
// container. One of the files is the token for the Kubernetes API, so the
// folders are 0700 and the files 0600, as everywhere in the state directory.
// The images' own users (nobody, grafana) could not read them. The containers
// therefore run as the user that maps to the owner of the files: user 0 under
// a rootless engine, where that is the invoking user, and otherwise the
// invoking user's own IDs. What a service writes then belongs to the invoking
// user as well, who can delete it without help from the engine.
package observe

import (
	"path/filepath"
)

// The components, as they are named in health and in container labels.
const (
	ComponentPrometheus   = "observe/prometheus"
	ComponentAlertmanager = "observe/alertmanager"
	ComponentGrafana      = "observe/grafana"
	ComponentRules        = "observe/rules"
)

// The ports the services listen on inside the sandbox's network, which are
// also the defaults of the published ports.
const (
	PortPrometheus   = 9090
	PortAlertmanager = 9093
	PortGrafana      = 3000
)

// The names of the services on the sandbox's network.
const (
	aliasPrometheus   = "prometheus"
	aliasAlertmanager = "alertmanager"
	aliasGrafana      = "grafana"
)

// Common is what all services of one sandbox share.
type Common struct {
	// Sandbox is the sandbox's name.
	Sandbox string
	// Run is the ID of the run that creates containers, for their label.
	Run string
	// Network is the sandbox's network; it has to exist.
	Network string
	// Labels are put on the containers besides the labels of sandbox itself.
	Labels map[string]string
}

// configDir and dataDir are the two folders of a service in its Dir.
func configDir(dir string) string { return filepath.Join(dir, "config") }
func dataDir(dir string) string   { return filepath.Join(dir, "data") }
