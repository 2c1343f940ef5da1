package session

import (
	"context"
	"fmt"
	"sync"

	"github.com/sandbox-stack/sandbox/internal/agent"
	"github.com/sandbox-stack/sandbox/internal/agent/box"
	"github.com/sandbox-stack/sandbox/internal/aws"
	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/observe"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/steps"
)

const (
	componentExporter = "observe/exporter"
	exporterAlias     = "exporter"
	// exporterJob is the job of its metrics in Prometheus.
	exporterJob = "sandbox"
	// stateFolder is where the exporter finds the Terraform states.
	stateFolder = "/terraform"
	// apiPort is where kubeadm lets the API server listen.
	apiPort = 6443
)

// noExporter is why this program can't run in containers, or nil.
var noExporter = sync.OnceValue(func() error { return box.Supported("") })

// exporter describes the container that shows Prometheus what it can't see by
// itself.
func (s *Session) exporter() (box.Spec, error) {
	c, err := s.cluster()
	if err != nil {
		return box.Spec{}, err
	}
	spec, err := s.box(componentExporter, exporterAlias, agent.PortExporter,
		"exporter", fmt.Sprintf("--cluster=https://%s:%d", c.ControlPlane(), apiPort))
	if err != nil {
		return box.Spec{}, err
	}
	spec.Restart = true
	if !s.stack.Spec.AWS.On() {
		return spec, nil
	}
	spec.Args = append(spec.Args,
		fmt.Sprintf("--emulator=http://%s:%d", aws.Alias, aws.DefaultPort), "--region="+s.region(),
		"--access-key="+aws.AccessKey, "--secret-key="+aws.SecretKey)
	if len(s.stack.Spec.Terraform) == 0 {
		return spec, nil
	}
	states, err := s.dir.Folder("terraform")
	if err != nil {
		return spec, err
	}
	spec.Mounts = []runtime.Mount{{Source: states, Target: stateFolder, ReadOnly: true}}
	for _, t := range s.stack.Spec.Terraform {
		spec.Args = append(spec.Args, fmt.Sprintf("--module=%s=%s/%s/%s", t.Name, stateFolder, t.Name, stateFileName))
	}
	return spec, nil
}

// exporterTargets is what Prometheus scrapes of it.
func exporterTargets() []observe.Target {
	if noExporter() != nil {
		return nil
	}
	return []observe.Target{{Job: exporterJob, Address: fmt.Sprintf("%s:%d", exporterAlias, agent.PortExporter)}}
}

func (s *Session) ensureExporter(ctx context.Context, rep event.Reporter) (steps.Result, error) {
	if err := noExporter(); err != nil {
		if s.opt.Strict {
			return steps.Result{}, err
		}
		return steps.Result{}, &steps.Off{Reason: offReason(err), Cause: err}
	}
	spec, err := s.exporter()
	if err != nil {
		return steps.Result{}, err
	}
	rep.Progress(event.Progress{Text: "starting exporter"})
	b, err := box.Ensure(ctx, s.engine, spec)
	return steps.Result{Done: !b.Changed, Note: b.URL}, err
}

func (s *Session) probeExporter(ctx context.Context) []event.Health {
	if err := noExporter(); err != nil {
		return []event.Health{{Component: componentExporter, State: event.StateOff, Reason: offReason(err)}}
	}
	spec, err := s.exporter()
	if err != nil {
		return failed(componentExporter, err)
	}
	return []event.Health{box.Health(ctx, s.engine, spec)}
}

// offReason is why a component can't be had, in a few words.
func offReason(err error) string {
	if p := steps.Problem(err); p.Why != "" {
		return p.Why
	}
	return err.Error()
}
