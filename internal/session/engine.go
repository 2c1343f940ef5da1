package session

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/sandbox-stack/sandbox/internal/cluster"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/buildah"
	"github.com/sandbox-stack/sandbox/internal/runtime/detect"
	"github.com/sandbox-stack/sandbox/internal/runtime/podman"
	"github.com/sandbox-stack/sandbox/internal/state"
)

// The facts that lead later commands to the engine that a sandbox was made
// with, whatever is set by then.
const (
	engineFact       = "engine"
	engineHostFact   = "engine/host"   // where it is not Podman's service for sandbox alone
	engineRemoteFact = "engine/remote" // it may be on another machine
)

// openEngine connects to the container engine, with a private folder for what
// it needs. Tests replace it.
var openEngine = func(ctx context.Context, dir string, c detect.Choice) (runtime.Runtime, detect.Found, error) {
	return detect.Open(ctx, c, dir, nil)
}

// enginesHere lists the engines that may hold something. Tests replace it.
var enginesHere = detect.Here

// withEngine calls f with an engine for a command that is about no sandbox.
func withEngine(ctx context.Context, c detect.Choice, f func(runtime.Runtime) error) error {
	dir, err := os.MkdirTemp("", "sandbox-engine-")
	if err != nil {
		return fmt.Errorf("make a folder for the engine: %w", err)
	}
	engine, _, err := openEngine(ctx, dir, c)
	if err == nil {
		err = errors.Join(f(engine), engine.Close())
	}
	return errors.Join(err, os.RemoveAll(dir))
}

// recordedEngine is the choice of the engine that the sandbox was made with, and
// whether its record names one.
func recordedEngine(rec state.Record) (detect.Choice, bool) {
	c := detect.Choice{
		Engine: rec.Facts[engineFact], Host: rec.Facts[engineHostFact], Remote: rec.Facts[engineRemoteFact] == "true",
	}
	if c.Engine == "" {
		c.Engine, _, _ = strings.Cut(rec.Engine, " ") // recorded before there was a choice
	}
	return c, c.Engine != ""
}

// engineFor is the choice for a sandbox: the engine it was made with, or, where
// it is new, the one that was asked for.
func engineFor(dir *state.Dir, asked detect.Choice) (detect.Choice, error) {
	rec, err := dir.Record()
	if errors.Is(err, state.ErrNoRecord) {
		return asked, nil
	}
	if err != nil {
		return asked, err
	}
	was, known := recordedEngine(rec)
	if !known {
		return asked, nil
	}
	if asked.Engine != "" && asked.Engine != detect.Auto && asked.Engine != was.Engine {
		return asked, fault.New(fault.Conflict,
			fmt.Sprintf("sandbox %s was made with %s, not with %s", dir.Name(), was.Engine, asked.Engine),
			"what it consists of can't move from one engine to another", "sandbox down --name "+dir.Name()+", then the same command again")
	}
	was.Why = "the sandbox was made with it"
	was.Remote = was.Remote || asked.Remote
	return was, nil
}

// The values of Options.Builder.
const (
	BuilderAuto    = "auto"
	BuilderBuildah = "buildah"
)

// openBuilder prepares what builds the stack's images: the engine itself, or
// Buildah, which needs Podman's settings on whatever engine. dir is the engine's
// private folder.
func (s *Session) openBuilder(dir string) error {
	s.images, s.restore = s.engine, func() error { return nil }
	if s.opt.Builder != BuilderBuildah {
		return nil
	}
	images, err := buildah.New(s.engine, dir)
	if err != nil {
		return err
	}
	s.images = images
	if s.info.Engine != detect.Podman {
		s.restore, err = podman.Adapt(dir)
	}
	return err
}

// checkCommand makes sure that kind will find the command that it runs: to be
// told before anything is made.
func (s *Session) checkCommand() error {
	if s.info.Engine != detect.Docker {
		return nil // Podman is not opened without its command
	}
	if _, err := exec.LookPath(detect.Docker); err != nil {
		return &fault.Error{
			Code: fault.Unavailable, What: "the docker command is not installed",
			Why: "Docker runs, and kind creates the cluster with its command", Cause: err,
			Try: "install the docker command, or sandbox up --runtime podman",
		}
	}
	return nil
}

// recordEngine notes the engine in the record.
func (s *Session) recordEngine(rec *state.Record) {
	rec.SetFact(engineFact, s.found.Engine)
	rec.SetFact(engineHostFact, s.found.Host)
	rec.SetFact(engineRemoteFact, fmt.Sprint(s.found.Remote()))
}

// Chosen says which engine a new sandbox is on, and why, where nobody asked for
// it.
func (s *Session) Chosen() string {
	if !s.found.Auto {
		return ""
	}
	return fmt.Sprintf("on %s %s: %s", s.info.Engine, s.info.Version, s.found.Why)
}

// engineOf is the choice of the engine that holds the sandbox: its record's, or,
// where there is none, that which has something of its.
func engineOf(ctx context.Context, dir *state.Dir) (detect.Choice, error) {
	rec, err := dir.Record()
	if err == nil {
		if c, known := recordedEngine(rec); known {
			return c, nil
		}
	}
	here, err := enginesHere(ctx)
	if err != nil {
		return detect.Choice{}, err
	}
	for _, c := range here[1:] {
		names, err := namesIn(ctx, c)
		if err != nil {
			return detect.Choice{}, err
		}
		for _, name := range names {
			if name == dir.Name() {
				return c, nil
			}
		}
	}
	return here[0], nil
}

// liveNames returns the sandboxes that have something in an engine.
func liveNames(ctx context.Context) ([]string, error) {
	here, err := enginesHere(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, c := range here {
		more, err := namesIn(ctx, c)
		if err != nil {
			return nil, err
		}
		names = append(names, more...)
	}
	return names, nil
}

// namesIn returns the sandboxes that have something in the engine.
func namesIn(ctx context.Context, c detect.Choice) ([]string, error) {
	var names []string
	err := withEngine(ctx, c, func(engine runtime.Runtime) error {
		ours := map[string]string{runtime.LabelName: ""}
		list, err := engine.Containers(ctx, ours)
		if err != nil {
			return fmt.Errorf("list containers: %w", err)
		}
		for _, c := range list {
			names = append(names, c.Labels[runtime.LabelName])
		}
		nets, err := engine.Networks(ctx, ours)
		if err != nil {
			return fmt.Errorf("list networks: %w", err)
		}
		for _, n := range nets {
			names = append(names, n.Labels[runtime.LabelName])
		}
		clusters, err := cluster.Sandboxes(ctx, engine)
		names = append(names, clusters...)
		return err
	})
	return names, err
}
