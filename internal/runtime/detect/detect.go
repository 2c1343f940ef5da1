// Package detect finds the container engine to use: the one that was asked for,
// or the one that runs.
package detect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/docker"
	"github.com/sandbox-stack/sandbox/internal/runtime/install"
	"github.com/sandbox-stack/sandbox/internal/runtime/podman"
)

// The engines, and the choice of whichever runs.
const (
	Auto   = "auto"
	Docker = "docker"
	Podman = "podman"
)

// Variable is the environment variable that asks for an engine where no flag
// does.
const Variable = "SANDBOX_RUNTIME"

// glance bounds the look at who answers; what runs does in milliseconds.
const glance = 2 * time.Second

// Choice is what was asked for.
type Choice struct {
	// Engine is auto, docker or podman; empty is what Variable says, or auto.
	Engine string
	// Host is the engine's address, of a sandbox that was made there; empty is
	// what the engine's own variables and files say.
	Host string
	// Remote allows an engine on another machine.
	Remote bool
	// Why is why the engine is asked for; empty is that somebody did.
	Why string
}

// Found is the engine that was found.
type Found struct {
	Engine string
	// Host is its address as in DOCKER_HOST; empty where Podman serves sandbox
	// alone.
	Host string
	// Why is why it was taken, in one line, and Auto that nobody asked for it.
	Why  string
	Auto bool

	tls    *docker.TLS
	remote bool
}

// Open opens the engine that c asks for. stateDir is a private folder for what
// Podman needs.
func Open(ctx context.Context, c Choice, stateDir string, log *slog.Logger) (runtime.Runtime, Found, error) {
	found, err := Find(ctx, c)
	if err != nil {
		return nil, Found{}, err
	}
	if found.Engine == Docker {
		rt, err := docker.Open(ctx, docker.Options{Host: found.Host, TLS: found.tls, Log: log})
		if err != nil {
			return nil, Found{}, err
		}
		return rt, found, nil
	}
	rt, err := podman.Open(ctx, podman.Options{StateDir: stateDir, Socket: strings.TrimPrefix(found.Host, "unix://"), Log: log})
	if err != nil {
		return nil, Found{}, err
	}
	return rt, found, nil
}

// Find decides which engine to use. It starts nothing.
func Find(ctx context.Context, c Choice) (Found, error) {
	engine, why := c.Engine, cmp.Or(c.Why, "it was asked for")
	if engine == "" {
		engine, why = os.Getenv(Variable), Variable+" asks for it"
	}
	switch engine {
	case "", Auto:
		found, err := auto(ctx, c)
		found.Auto = true
		return found, err
	case Docker:
		found, err := dockerAt(c)
		found.Why = why
		return found, err
	case Podman:
		return Found{Engine: Podman, Host: podmanAt(c), Why: why}, nil
	}
	return Found{}, fault.New(fault.Invalid, fmt.Sprintf("no container engine %q", engine),
		"there are auto, docker and podman", "unset "+Variable)
}

// auto takes the engine that a variable names, or else the one that runs, or
// else Podman, whose service sandbox starts itself.
func auto(ctx context.Context, c Choice) (Found, error) {
	there, thereErr := dockerAt(c)
	ofPodman := Found{Engine: Podman, Host: podmanAt(c)}
	dockerNamed, podmanNamed := os.Getenv("DOCKER_HOST") != "", os.Getenv("CONTAINER_HOST") != ""
	if podmanNamed && !dockerNamed {
		ofPodman.Why = "CONTAINER_HOST names it"
		return ofPodman, nil
	}
	if thereErr != nil && dockerNamed {
		return Found{}, thereErr // its user means it
	}
	podmanRuns, dockerErr := look(ctx, there, thereErr)
	if ctx.Err() != nil {
		return Found{}, ctx.Err()
	}
	installed := onPath("podman")
	switch {
	case dockerNamed && errors.Is(dockerErr, docker.ErrPodman) && installed:
		return Found{Engine: Podman, Host: there.Host, Why: "it is what DOCKER_HOST names"}, nil
	case dockerNamed && !podmanNamed:
		there.Why = "DOCKER_HOST names it"
		return there, nil
	case installed && podmanRuns && dockerErr == nil:
		ofPodman.Why = "it runs, and is preferred to Docker, which runs too"
		return ofPodman, nil
	case dockerErr == nil:
		there.Why = "it runs, and no service of Podman's does"
		return there, nil
	case installed && podmanRuns:
		ofPodman.Why = "it runs, and Docker does not"
		return ofPodman, nil
	case installed:
		ofPodman.Why = "it is installed, and Docker does not run"
		return ofPodman, nil
	case onPath("dockerd") || onPath("docker"):
		return Found{}, dockerErr
	}
	return Found{}, &fault.Error{
		Code: fault.Unavailable, What: "no container engine is there",
		Why: "Podman is not installed, and Docker does not run", Try: install.Command("podman"), Cause: dockerErr,
	}
}

// look asks both engines at once whether they are there.
func look(ctx context.Context, there Found, thereErr error) (podmanRuns bool, dockerErr error) {
	var both sync.WaitGroup
	both.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, glance)
		defer cancel()
		podmanRuns = podman.Runs(ctx)
	})
	if dockerErr = thereErr; dockerErr == nil {
		dockerErr = docker.Check(ctx, docker.Options{Host: there.Host, TLS: there.tls, Patience: glance})
	}
	both.Wait()
	return podmanRuns, dockerErr
}

// Here lists the engines of this machine that may hold something: those that
// run, and Podman where it is installed.
func Here(ctx context.Context) ([]Choice, error) {
	if engine := os.Getenv(Variable); engine != "" && engine != Auto {
		return []Choice{{Engine: engine}}, nil
	}
	first, err := auto(ctx, Choice{})
	if err != nil {
		return nil, err
	}
	list := []Choice{{Engine: first.Engine, Host: first.Host}}
	if first.Engine == Docker {
		if onPath("podman") {
			list = append(list, Choice{Engine: Podman})
		}
		return list, nil
	}
	there, err := dockerAt(Choice{})
	if err != nil || there.Host == first.Host {
		return list, nil //nolint:nilerr // a Docker that can't be used holds nothing of ours
	}
	if _, dockerErr := look(ctx, there, nil); dockerErr == nil {
		list = append(list, Choice{Engine: Docker, Host: there.Host})
	}
	return list, ctx.Err()
}

// podmanAt is the address of Podman's service where somebody names one.
func podmanAt(c Choice) string {
	if c.Host != "" {
		return c.Host
	}
	if host := os.Getenv("CONTAINER_HOST"); strings.HasPrefix(host, "unix://") {
		return host
	}
	return "" // Podman itself explains what is wrong with another
}

func onPath(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}
