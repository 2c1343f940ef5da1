package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"
	kind "sigs.k8s.io/kind/pkg/cluster"
	kindexec "sigs.k8s.io/kind/pkg/exec"
	"sigs.k8s.io/kind/pkg/log"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// heartbeat is how often a phase that says nothing is repeated.
const heartbeat = 5 * time.Second

// kindMounts is a folder of the host that kind mounts into every node. Hosts
// whose kernel has no modules may lack it, and engines refuse to mount it then.
const kindMounts = "/lib/modules"

// provisionFunc creates a kind cluster on the engine and writes its kubeconfig
// last. It leaves what it made in place when it fails.
type provisionFunc func(engine runtime.Info, network, kubeconfig string, cfg *v1alpha4.Cluster, logger log.Logger) error

// kindEnv serializes what depends on this process's environment, by which
// alone kind lets its network be chosen.
var kindEnv sync.Mutex

func runKind(engine runtime.Info, network, kubeconfig string, cfg *v1alpha4.Cluster, logger log.Logger) error {
	provider, variables := kind.ProviderWithPodman(), map[string]string{"KIND_EXPERIMENTAL_PODMAN_NETWORK": network}
	if engine.Engine == "docker" {
		provider = kind.ProviderWithDocker()
		// kind runs the docker command, which may be set to another daemon.
		variables = map[string]string{"KIND_EXPERIMENTAL_DOCKER_NETWORK": network, "DOCKER_HOST": dockerHost(engine.Socket)}
	}
	kindEnv.Lock()
	defer kindEnv.Unlock()
	restore, err := setEnv(variables)
	if err != nil {
		return err
	}
	err = kind.NewProvider(provider, kind.ProviderWithLogger(logger)).Create(cfg.Name,
		kind.CreateWithV1Alpha4Config(cfg),
		kind.CreateWithKubeconfigPath(kubeconfig),
		kind.CreateWithRetain(true), // its evidence is collected first
		kind.CreateWithWaitForReady(0),
		kind.CreateWithDisplayUsage(false),
		kind.CreateWithDisplaySalutation(false),
	)
	return errors.Join(err, restore())
}

// setEnv sets variables of this process until restore is called.
func setEnv(variables map[string]string) (restore func() error, err error) {
	before := map[string]string{}
	for name, value := range variables {
		if old, set := os.LookupEnv(name); set {
			before[name] = old
		}
		if err := os.Setenv(name, value); err != nil {
			return nil, fmt.Errorf("set %s: %w", name, err)
		}
	}
	return func() error {
		var errs []error
		for name := range variables {
			if old, set := before[name]; set {
				errs = append(errs, os.Setenv(name, old))
			} else {
				errs = append(errs, os.Unsetenv(name))
			}
		}
		return errors.Join(errs...)
	}, nil
}

// dockerHost is an engine's socket as DOCKER_HOST names it.
func dockerHost(socket string) string {
	if strings.HasPrefix(socket, "/") {
		return "unix://" + socket
	}
	return socket
}

// Ensure brings the cluster to run and its API server to answer: it creates one
// that is absent, starts one that is stopped and replaces one whose creation did
// not finish. It reports whether it had to. What runs in a new cluster may still
// be starting; WaitReady waits for that. A cluster that differs from its Config
// is not replaced, since its content would be lost; that is a fault of code
// Conflict.
func (c *Cluster) Ensure(ctx context.Context, rep event.Reporter) (bool, error) {
	st, err := c.Inspect(ctx)
	if err != nil {
		return false, err
	}
	if st.Drift != "" {
		return false, fault.New(fault.Conflict, fmt.Sprintf("cluster %q is not as the stack describes it", c.Name()),
			st.Drift, "sandbox down, then sandbox up: the cluster is created anew")
	}
	switch st.Phase {
	case Partial:
		rep.Log("sandbox", "removing a cluster whose creation did not finish")
		if err := c.Delete(ctx, rep); err != nil {
			return false, err
		}
		err = c.Create(ctx, rep)
	case Absent:
		err = c.Create(ctx, rep)
	case Stopped:
		err = c.Start(ctx, rep)
		if errors.Is(err, runtime.ErrLost) {
			// As after a crash of the machine: what was in it is gone anyway.
			rep.Log("sandbox", "the engine has lost track of a node: creating the cluster anew")
			if err = c.Delete(ctx, rep); err == nil {
				err = c.Create(ctx, rep)
			}
		}
	case Running:
	}
	if err != nil {
		return false, err
	}
	if st.Phase == Absent || st.Phase == Partial {
		return true, nil // kubeadm waits for the API server
	}
	return st.Phase != Running, c.WaitReady(ctx, rep)
}

// Create creates the cluster, which must be absent, up to a running API
// server. It does not wait for the rest; WaitReady does. When it fails, or ctx
// ends, it removes what it made; the fault's log holds the end of what kind
// and the nodes said.
func (c *Cluster) Create(ctx context.Context, rep event.Reporter) error {
	info, err := c.rt.Info(ctx)
	if err != nil {
		return fmt.Errorf("describe the container engine: %w", err)
	}
	if err := c.prepare(ctx, info.Engine, rep); err != nil {
		return err
	}
	cfg := kindConfig(c.cfg, info, c.patchDir())
	cfg.Name = c.Name()

	logger := newKindLogger(rep)
	stop := beat(logger.Heartbeat)
	done := make(chan error, 1)
	go func() { done <- c.provision(info, c.cfg.Network, c.cfg.Kubeconfig, cfg, logger) }()
	select {
	case err = <-done:
	case <-ctx.Done():
		// kind cannot be cancelled. Without its nodes, whatever command it
		// runs in them fails, and it returns.
		err = c.abandon(context.WithoutCancel(ctx), done)
		stop()
		return errors.Join(ctx.Err(), err)
	}
	stop()
	if err == nil {
		return nil
	}
	f := c.createFault(ctx, logger.Phase(), err)
	if err := c.remove(context.WithoutCancel(ctx)); err != nil {
		f.Log = append(f.Log, "what was made could not be removed: "+err.Error())
	}
	return f
}

// prepare checks and makes what kind takes for granted.
func (c *Cluster) prepare(ctx context.Context, engine string, rep event.Reporter) error {
	if _, err := exec.LookPath(engine); err != nil {
		return fault.Wrap(fault.Unavailable, err, "install the "+engine+" command line",
			"kind needs the %s command to create a cluster", engine)
	}
	if err := c.checkNetwork(ctx); err != nil {
		return err
	}
	if err := os.Mkdir(kindMounts, 0o755); err == nil {
		rep.Log("sandbox", "created the empty folder "+kindMounts+", which kind's nodes mount")
	} else if !errors.Is(err, fs.ErrExist) {
		if _, statErr := os.Stat(kindMounts); statErr != nil {
			return fault.Wrap(fault.Unavailable, err, "sudo mkdir -p "+kindMounts,
				"%s, which kind's nodes mount, is missing", kindMounts)
		}
	}
	if err := os.Remove(c.cfg.Kubeconfig); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove old kubeconfig: %w", err)
	}
	return c.writePatches()
}

// checkNetwork makes sure that kind does not have to create the network: it
// would do so without the labels by which the sandbox finds it again.
func (c *Cluster) checkNetwork(ctx context.Context) error {
	networks, err := c.rt.Networks(ctx, nil)
	if err != nil {
		return fmt.Errorf("list networks: %w", err)
	}
	for _, n := range networks {
		if n.Name == c.cfg.Network {
			return nil
		}
	}
	return fault.New(fault.Unavailable, fmt.Sprintf("network %q does not exist", c.cfg.Network),
		"the cluster's nodes join the sandbox's network", "sandbox up")
}

// abandon removes the nodes under a running kind until it returns, and then
// what it may have made in between.
func (c *Cluster) abandon(ctx context.Context, done <-chan error) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		err := c.remove(ctx)
		select {
		case <-done: //nolint:errcheck // kind failed because its nodes were removed
			return c.remove(ctx)
		case <-ticker.C:
			if err != nil {
				return err
			}
		}
	}
}

// createFault is the error of a failed create: the phase that failed, and the
// evidence, taken before the nodes are removed.
func (c *Cluster) createFault(ctx context.Context, phase string, cause error) *fault.Error {
	f := fault.Wrap(fault.Failed, cause, "sandbox up, which starts the cluster over", "create cluster %q", c.Name())
	if phase != "" {
		f.What += ": " + phase
	}
	if run := kindexec.RunErrorForError(cause); run != nil {
		out := tail(string(run.Output), 20)
		f.Log = append(f.Log, out...)
		f.Why = lastError(out)
	}
	f.Log = append(f.Log, c.evidence(context.WithoutCancel(ctx))...)
	return f
}

// lastError picks the line of a tool's output that says what went wrong:
// kubeadm and the engines both mark it, and end on it without the mark.
func lastError(lines []string) string {
	for i := len(lines) - 1; i >= 0; i-- {
		if l := strings.ToLower(lines[i]); strings.HasPrefix(l, "error") || strings.Contains(l, "[error") {
			return strings.TrimSpace(lines[i])
		}
	}
	if len(lines) > 0 {
		return strings.TrimSpace(lines[len(lines)-1])
	}
	return ""
}

// tail returns the last n lines of s that say something.
func tail(s string, n int) []string {
	var lines []string
	for line := range strings.SplitSeq(s, "\n") {
		if line = strings.TrimRight(line, "\r \t"); line != "" {
			lines = append(lines, line)
		}
	}
	return lines[max(0, len(lines)-n):]
}

// beat calls f regularly until the returned function is called, which waits
// for the last call to end.
func beat(f func()) (stop func()) {
	quit, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		ticker := time.NewTicker(heartbeat)
		defer ticker.Stop()
		for {
			select {
			case <-quit:
				return
			case <-ticker.C:
				f()
			}
		}
	}()
	return func() { close(quit); <-gone }
}
