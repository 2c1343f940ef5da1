package session

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/sandbox-stack/sandbox/internal/aws"
	"github.com/sandbox-stack/sandbox/internal/cluster"
	"github.com/sandbox-stack/sandbox/internal/observe"
	"github.com/sandbox-stack/sandbox/internal/plan"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/stack"
	"github.com/sandbox-stack/sandbox/internal/terraform"
)

// The adapters, configured. They hold no state of their own that matters, so
// they are made where they are used.

func (s *Session) network() string { return "sandbox-" + s.name }

func (s *Session) labels(component string) map[string]string {
	return map[string]string{
		runtime.LabelName: s.name, runtime.LabelComponent: component, runtime.LabelRun: s.run,
	}
}

func (s *Session) cluster() (*cluster.Cluster, error) {
	return cluster.New(s.engine, cluster.Config{
		Name: s.name, Nodes: s.stack.Spec.Cluster.Nodes, NodeImage: s.ref(plan.NodeImage),
		Kubeconfig: s.dir.Kubeconfig(), Network: s.network(),
	})
}

func (s *Session) emulator() (*aws.Emulator, error) {
	spec := s.stack.Spec.AWS
	return aws.New(s.engine, aws.Config{
		Name: s.name, Image: s.ref(plan.LocalStackImage), Network: s.network(), Port: s.ports["aws"],
		Services: spec.Services, Region: spec.Region, Labels: map[string]string{runtime.LabelRun: s.run},
		CPUShares: s.shares(emulatorShares),
	})
}

// The weights of what starts at the same time. Terraform waits for the emulator
// and everything for Terraform, so the emulator goes first; nothing waits long
// for a build.
const (
	emulatorShares = 4096
	buildShares    = 256
)

// shares is the weight where the engine can give weights: a rootless one may
// lack the cpu controller.
func (s *Session) shares(weight uint64) uint64 {
	if s.info.Rootless {
		return 0
	}
	return weight
}

// module returns the adapter of a Terraform module. Without an emulator that
// runs, its generation is empty and everything in it counts as lost.
func (s *Session) module(ctx context.Context, t stack.Terraform) (*terraform.Module, error) {
	ws, err := s.dir.Workspace(t.Name)
	if err != nil {
		return nil, err
	}
	cfg := terraform.Config{
		Name: t.Name, SourceDir: s.stack.Path(t.Dir), Root: s.stack.Dir, Workspace: ws,
		CacheDir: s.cache(), Tool: t.Tool, Region: s.stack.Spec.AWS.Region, Vars: t.Vars,
		Endpoint: fmt.Sprintf("http://127.0.0.1:%d", s.ports["aws"]),
	}
	if mirror := s.ref(refProviders); mirror != direct {
		cfg.PluginMirror = mirror
	}
	if tool := s.ref(refTool); tool != "" && (t.Tool == "" || t.Tool == "auto") {
		cfg.Tool = tool
	}
	if s.stack.Spec.AWS.On() {
		e, err := s.emulator()
		if err != nil {
			return nil, err
		}
		if gen, err := e.Generation(ctx); err == nil {
			cfg.Generation = gen
		}
	}
	return terraform.New(cfg)
}

func (s *Session) observed(component string) (observe.Common, string, error) {
	dir, err := s.dir.Folder("observe")
	if err != nil {
		return observe.Common{}, "", err
	}
	return observe.Common{Sandbox: s.name, Run: s.run, Network: s.network()}, filepath.Join(dir, component), nil
}

func (s *Session) prometheus() (*observe.Prometheus, error) {
	common, dir, err := s.observed("prometheus")
	if err != nil {
		return nil, err
	}
	cfg := observe.PrometheusConfig{
		Common: common, Image: s.ref(plan.PrometheusImage), Port: s.ports["prometheus"], Dir: dir, Alertmanager: true,
		DrillRules: s.drilling().rules, Targets: exporterTargets(),
	}
	for _, r := range s.stack.Spec.Observability.Rules {
		cfg.Rules = append(cfg.Rules, s.stack.Path(r))
	}
	return observe.NewPrometheus(s.engine, cfg), nil
}

func (s *Session) alertmanager() (*observe.Alertmanager, error) {
	common, dir, err := s.observed("alertmanager")
	if err != nil {
		return nil, err
	}
	cfg := observe.AlertmanagerConfig{
		Common: common, Image: s.ref(plan.AlertmanagerImage), Port: s.ports["alertmanager"], Dir: dir, Drill: s.drilling().receiver,
	}
	if file := s.stack.Spec.Observability.Alertmanager; file != "" {
		cfg.Config = s.stack.Path(file)
	}
	return observe.NewAlertmanager(s.engine, cfg), nil
}

func (s *Session) grafana() (*observe.Grafana, error) {
	common, dir, err := s.observed("grafana")
	if err != nil {
		return nil, err
	}
	cfg := observe.GrafanaConfig{
		Common: common, Image: s.ref(plan.GrafanaImage), Port: s.ports["grafana"], Dir: dir,
	}
	for _, d := range s.stack.Spec.Observability.Dashboards {
		cfg.Dashboards = append(cfg.Dashboards, s.stack.Path(d))
	}
	return observe.NewGrafana(s.engine, cfg), nil
}
