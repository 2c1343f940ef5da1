package cluster

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/kind/pkg/apis/config/v1alpha4"
	"sigs.k8s.io/kind/pkg/log"

	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// engine is an engine of which kind would make nodes. Methods that it lacks
// panic, so a test notices an unexpected call.
type engine struct {
	runtime.Runtime
	mu       sync.Mutex
	imageID  string
	networks []string
	nodes    []runtime.Container
	volumes  []runtime.Volume
	logs     string
	exec     func(cmd string, spec runtime.ExecSpec) int
	save     func(io.Writer) error
	calls    []string
}

func (e *engine) call(what string) {
	e.calls = append(e.calls, what)
}

func (e *engine) Info(context.Context) (runtime.Info, error) {
	return runtime.Info{Engine: "podman", CgroupVersion: 1}, nil
}

func (e *engine) Image(context.Context, string) (runtime.Image, error) {
	return runtime.Image{ID: e.imageID, Size: 8}, nil
}

func (e *engine) Networks(context.Context, map[string]string) ([]runtime.Network, error) {
	var out []runtime.Network
	for _, n := range e.networks {
		out = append(out, runtime.Network{Name: n})
	}
	return out, nil
}

func (e *engine) Containers(_ context.Context, labels map[string]string) ([]runtime.Container, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []runtime.Container
	for _, n := range e.nodes {
		if want := labels[LabelKind]; want == "" || n.Labels[LabelKind] == want {
			out = append(out, n)
		}
	}
	return out, nil
}

func (e *engine) StartContainer(_ context.Context, id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.call("start " + id)
	for i := range e.nodes {
		if e.nodes[i].ID == id {
			e.nodes[i].State = "running"
		}
	}
	return nil
}

func (e *engine) RemoveContainer(_ context.Context, id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.call("remove " + id)
	e.nodes = slices.DeleteFunc(e.nodes, func(n runtime.Container) bool { return n.ID == id })
	return nil
}

func (e *engine) Volumes(context.Context, map[string]string) ([]runtime.Volume, error) {
	return e.volumes, nil
}

func (e *engine) RemoveVolume(_ context.Context, name string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.call("remove volume " + name)
	return nil
}

func (e *engine) Logs(_ context.Context, _ string, _ runtime.LogOptions, w io.Writer) error {
	_, err := io.WriteString(w, e.logs)
	return err
}

func (e *engine) Exec(_ context.Context, id string, spec runtime.ExecSpec) (int, error) {
	cmd := id + ": " + strings.Join(spec.Cmd, " ")
	e.mu.Lock()
	e.call(cmd)
	e.mu.Unlock()
	return e.exec(cmd, spec), nil
}

func (e *engine) SaveImage(_ context.Context, _ string, w io.Writer) error { return e.save(w) }

// node is a running node container of the cluster "sandbox-web".
func node(name string) runtime.Container {
	return runtime.Container{
		ID: "id-" + name, Name: "sandbox-web-" + name, State: "running", ImageID: "sha256:node", Image: "node:1",
		Labels: map[string]string{LabelKind: "sandbox-web"}, IPs: map[string]string{"sandbox-web": "10.89.0.2"},
	}
}

// newEngine is an engine with the network of the sandbox "web" and the nodes.
func newEngine(nodes ...runtime.Container) *engine {
	return &engine{imageID: "sha256:node", networks: []string{"sandbox-web"}, nodes: nodes}
}

// newCluster is the cluster of the sandbox "web", with a podman on the PATH.
func newCluster(t *testing.T, e *engine, nodes int) *Cluster {
	t.Helper()
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "podman"), []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin)
	c, err := New(e, Config{
		Name: "web", Nodes: nodes, NodeImage: "node:1",
		Kubeconfig: filepath.Join(t.TempDir(), "kubeconfig"), ReadyTimeout: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	c.provision = func(runtime.Info, string, string, *v1alpha4.Cluster, log.Logger) error {
		t.Error("kind was called")
		return nil
	}
	return c
}

// writeKubeconfig writes what kind writes at the end of a create.
func writeKubeconfig(t *testing.T, c *Cluster) {
	t.Helper()
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters["kind-sandbox-web"] = &clientcmdapi.Cluster{Server: "https://127.0.0.1:1"}
	cfg.Contexts["kind-sandbox-web"] = &clientcmdapi.Context{Cluster: "kind-sandbox-web"}
	cfg.CurrentContext = "kind-sandbox-web"
	if err := clientcmd.WriteToFile(*cfg, c.Kubeconfig()); err != nil {
		t.Fatal(err)
	}
}

// nodeWithoutJournal fails every command in a node.
func nodeWithoutJournal(string, runtime.ExecSpec) int { return 1 }
