package session

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/steps"
)

// cannotRun makes this program one that can't run in containers, or one that can.
func cannotRun(t *testing.T, why error) {
	t.Helper()
	before := noExporter
	noExporter = func() error { return why }
	t.Cleanup(func() { noExporter = before })
}

func TestTheExporterLooksAtWhatTheStackHas(t *testing.T) {
	useEngine(t)
	for name, want := range map[string][]string{
		"web-app": {
			"exporter", "--cluster=https://sandbox-demo-control-plane:6443", "--emulator=http://aws:4566", "--region=us-east-1",
			"--access-key=test", "--secret-key=test", "--module=infra=/terraform/infra/terraform.tfstate",
		},
		"minimal": {"exporter", "--cluster=https://sandbox-demo2-control-plane:6443"},
	} {
		sandbox := map[string]string{"web-app": "demo", "minimal": "demo2"}[name]
		w, err := Load(name, sandbox)
		if err != nil {
			t.Fatal(err)
		}
		s, err := Start(t.Context(), w, Options{AutoPorts: true})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		spec, err := s.exporter()
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(spec.Args, want) {
			t.Errorf("%s: got %q", name, spec.Args)
		}
		var mounts []runtime.Mount
		if name == "web-app" {
			mounts = []runtime.Mount{{Source: filepath.Join(s.dir.Path(), "terraform"), Target: "/terraform", ReadOnly: true}}
		}
		if !slices.Equal(spec.Mounts, mounts) {
			t.Errorf("%s: mounts %v", name, spec.Mounts)
		}
	}
}

func TestTheExporterIsOffWhereItCantRun(t *testing.T) {
	useEngine(t)
	s, err := Start(t.Context(), wanted(t, "demo"), Options{AutoPorts: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	cannotRun(t, nil)
	if len(exporterTargets()) != 1 || !slices.Contains(s.logComponents(), componentExporter) {
		t.Error("where it can run, it is not scraped or has no logs")
	}
	cannotRun(t, fault.New(fault.Unavailable, "no helpers", "this is no Linux", "use Linux"))
	_, err = s.ensureExporter(t.Context(), event.Discard)
	var off *steps.Off
	if !errors.As(err, &off) || off.Reason != "this is no Linux" {
		t.Errorf("got %v", err)
	}
	h := s.probeExporter(t.Context())
	if len(h) != 1 || h[0].State != event.StateOff || h[0].Reason != "this is no Linux" {
		t.Errorf("health: %+v", h)
	}
	if len(exporterTargets()) != 0 || slices.Contains(s.logComponents(), componentExporter) {
		t.Error("it is scraped, or has logs")
	}
	s.opt.Strict = true
	if _, err = s.ensureExporter(t.Context(), event.Discard); fault.CodeOf(err) != fault.Unavailable {
		t.Errorf("strict: %v", err)
	}
}
