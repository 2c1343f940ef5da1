package observe

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

const (
	promFile    = "prometheus.yml"
	rulesFolder = "rules"
	drillFile   = rulesFolder + "/drill.yml"
)

// DefaultInterval is how often targets are scraped and rules evaluated. It suits
// one machine; Prometheus' own minute would make every test wait.
const DefaultInterval = 5 * time.Second

// PrometheusConfig describes the Prometheus of a sandbox.
type PrometheusConfig struct {
	Common
	// Image is a reference in the engine's store.
	Image string
	// Port is published on 127.0.0.1; 0 takes a free one.
	Port int
	// Dir is a folder in the state directory, for Prometheus alone.
	Dir string
	// Rules are rule files; their content is copied.
	Rules []string
	// DrillRules is a further rule file, as YAML, for the length of a drill.
	DrillRules []byte
	// Alertmanager says that the sandbox has one to send alerts to.
	Alertmanager bool
	// Targets are further things to scrape on the sandbox's network.
	Targets []Target
	// ScrapeInterval and EvaluationInterval are DefaultInterval where they are 0.
	ScrapeInterval     time.Duration
	EvaluationInterval time.Duration
}

// Target is a thing that Prometheus scrapes at a fixed address.
type Target struct {
	Job     string
	Address string // host:port on the sandbox's network
	Path    string // "" is /metrics
}

// Access is how Prometheus reaches the Kubernetes API.
type Access struct {
	Server string // https://node:6443, as seen from the sandbox's network
	CA     []byte // PEM
	Token  string // of a service account that may read and use the proxy
}

// Prometheus is the Prometheus of a sandbox. It is safe for concurrent use.
type Prometheus struct {
	cfg PrometheusConfig
	svc service

	mu     sync.Mutex             // one change of the configuration at a time
	access atomic.Pointer[Access] // given by SetCluster; Health reads it without waiting for a change
}

// NewPrometheus returns the Prometheus of a sandbox; it starts nothing.
func NewPrometheus(rt runtime.Runtime, cfg PrometheusConfig) *Prometheus {
	if cfg.ScrapeInterval <= 0 {
		cfg.ScrapeInterval = DefaultInterval
	}
	if cfg.EvaluationInterval <= 0 {
		cfg.EvaluationInterval = DefaultInterval
	}
	return &Prometheus{cfg: cfg, svc: service{
		rt: rt, common: cfg.Common, component: ComponentPrometheus, alias: aliasPrometheus,
		port: PortPrometheus, hostPort: cfg.Port, readyPath: "/-/ready", reloadPath: "/-/reload",
	}}
}

// Check reports whether Prometheus runs as described with the configuration
// that it should have. It changes nothing.
func (p *Prometheus) Check(ctx context.Context) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d, err := p.deployment()
	if err != nil {
		return false, err
	}
	return p.svc.check(ctx, d)
}

// Ensure makes Prometheus run as described and waits until it is ready. An
// unchanged Prometheus is left alone; a changed configuration is reloaded
// without a restart. It reports whether anything had to change.
//
// Access to a cluster, once given by SetCluster, is kept.
func (p *Prometheus) Ensure(ctx context.Context, rep event.Reporter) (changed bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.apply(ctx, rep)
}

// SetCluster gives Prometheus access to the cluster's API, so that it
// discovers and scrapes what runs there. It starts Prometheus where it does
// not run, and reports whether anything had to change.
func (p *Prometheus) SetCluster(ctx context.Context, access Access, rep event.Reporter) (changed bool, err error) {
	if !strings.HasPrefix(access.Server, "https://") {
		return false, fmt.Errorf("give Prometheus access to the cluster: server %q is not an https URL", access.Server)
	}
	// Prometheus takes a configuration with an unusable certificate without a
	// word and then scrapes nothing, so it is looked at here.
	if !x509.NewCertPool().AppendCertsFromPEM(access.CA) {
		return false, errors.New("give Prometheus access to the cluster: there is no PEM certificate in the CA")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.access.Store(&access)
	return p.apply(ctx, rep)
}

func (p *Prometheus) apply(ctx context.Context, rep event.Reporter) (changed bool, err error) {
	if err := CheckRules(p.cfg.Rules); err != nil {
		return false, err
	}
	d, err := p.deployment()
	if err != nil {
		return false, err
	}
	return p.svc.apply(ctx, d, rep)
}

func (p *Prometheus) deployment() (deployment, error) {
	files, err := p.files()
	return deployment{dir: p.cfg.Dir, files: files, last: promFile, spec: p.spec()}, err
}

// spec describes the container; the image's own entrypoint is the program.
func (p *Prometheus) spec() runtime.ContainerSpec {
	cmd := []string{
		"--config.file=/etc/prometheus/" + promFile,
		"--storage.tsdb.path=/prometheus",
		"--storage.tsdb.retention.time=24h",
		"--storage.tsdb.retention.size=1GB",
		"--web.enable-lifecycle",
		// After a start or a reload Prometheus looks for its Alertmanager for
		// some seconds and drops what fires meanwhile until it is due to be
		// sent again; by default that takes a minute.
		"--rules.alert.resend-delay=5s",
		fmt.Sprintf("--web.listen-address=0.0.0.0:%d", PortPrometheus),
	}
	if p.cfg.Port != 0 {
		// For the links in alerts.
		cmd = append(cmd, fmt.Sprintf("--web.external-url=http://127.0.0.1:%d", p.cfg.Port))
	}
	return runtime.ContainerSpec{
		Image: p.cfg.Image,
		Cmd:   cmd,
		Mounts: []runtime.Mount{
			{Source: configDir(p.cfg.Dir), Target: "/etc/prometheus", ReadOnly: true},
			{Source: dataDir(p.cfg.Dir), Target: "/prometheus"},
		},
	}
}

// files returns the whole configuration.
func (p *Prometheus) files() (fileSet, error) {
	files := fileSet{}
	settings := promSettings{
		sandbox: p.cfg.Sandbox, scrape: p.cfg.ScrapeInterval, evaluation: p.cfg.EvaluationInterval,
		alertmanager: p.cfg.Alertmanager, targets: p.cfg.Targets,
	}
	for i, path := range p.cfg.Rules {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read rule file: %w", err)
		}
		// The number keeps two files of the same name apart.
		name := fmt.Sprintf("%s/%02d-%s", rulesFolder, i+1, filepath.Base(path))
		files[name] = content
		settings.rules = append(settings.rules, name)
	}
	if len(p.cfg.DrillRules) > 0 {
		files[drillFile] = p.cfg.DrillRules
		settings.rules = append(settings.rules, drillFile)
	}
	access, err := p.clusterAccess()
	if err != nil {
		return nil, err
	}
	if access != nil {
		files[serverFile] = []byte(access.Server)
		files[caFile] = access.CA
		files[tokenFile] = []byte(access.Token)
		settings.apiServer = access.Server
	}
	files[promFile], err = settings.render()
	return files, err
}

// clusterAccess returns the access given by SetCluster, now or by an earlier
// process, or nil before there was any.
func (p *Prometheus) clusterAccess() (*Access, error) {
	if access := p.access.Load(); access != nil {
		return access, nil
	}
	var parts [3][]byte
	for i, name := range []string{serverFile, caFile, tokenFile} {
		content, err := os.ReadFile(filepath.Join(configDir(p.cfg.Dir), filepath.FromSlash(name)))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the access to the cluster: %w", err)
		}
		parts[i] = content
	}
	if len(parts[0]) == 0 {
		return nil, nil
	}
	return &Access{Server: string(parts[0]), CA: parts[1], Token: string(parts[2])}, nil
}

// URL returns where Prometheus answers on this host.
func (p *Prometheus) URL(ctx context.Context) (string, error) { return p.svc.url(ctx) }
