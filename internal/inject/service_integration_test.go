//go:build integration

package inject

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/detect"
	"github.com/sandbox-stack/sandbox/internal/stack"
)

const (
	// kubeconfigEnv names a kubeconfig of a sandbox's cluster that may be played with.
	kubeconfigEnv = "SANDBOX_TEST_KUBECONFIG"
	// Pods that every cluster has, and that serve HTTP.
	podNamespace, podSelector, podPort = "kube-system", "kube-dns", 9153
	proxyImage                         = "localhost/sandbox/it-inject:proxy"
)

// workingURL tells on a node whether a component of the control plane works.
const workingURL = "https://127.0.0.1:%d/healthz"

// workingPorts are where the components that do the work of the cluster tell it:
// they follow the API server, and come back later than it does.
var workingPorts = map[string]int{"kube-controller-manager": 10257, "kube-scheduler": 10259}

// realCluster is a World with a sandbox's cluster, in which the Service it-inject
// leads to its DNS. Proxies are containers that run the real one.
type realCluster struct {
	World
	t    *testing.T
	kube kubernetes.Interface
	node runtime.Container
	ip   string
}

func newRealCluster(t *testing.T) *realCluster {
	t.Helper()
	kubeconfig := os.Getenv(kubeconfigEnv)
	if kubeconfig == "" {
		t.Fatalf("set %s to the kubeconfig of a sandbox that these tests may use", kubeconfigEnv)
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	require.NoError(t, err)
	kube, err := kubernetes.NewForConfig(cfg)
	require.NoError(t, err)
	rt, _, err := detect.Open(t.Context(), detect.Choice{}, t.TempDir(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, rt.Close()) })
	nodes, err := kube.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	node, err := rt.Container(t.Context(), nodes.Items[0].Name)
	require.NoError(t, err)
	networks := slices.Collect(maps.Keys(node.IPs))
	require.Len(t, networks, 1)

	labels := map[string]string{runtime.LabelName: itName}
	clean := func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), itTime)
		defer cancel()
		failed := []error{removeIt(ctx, rt)}
		list, err := kube.CoreV1().Services(podNamespace).List(ctx, metav1.ListOptions{LabelSelector: runtime.LabelName + "=" + itName})
		if err != nil {
			return errors.Join(append(failed, err)...)
		}
		for _, s := range list.Items {
			failed = append(failed, kube.CoreV1().Services(podNamespace).Delete(ctx, s.Name, metav1.DeleteOptions{}))
		}
		return errors.Join(failed...)
	}
	require.NoError(t, clean())
	t.Cleanup(func() { assert.NoError(t, clean()) })
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", filepath.Join(dir, "proxy"), "./testdata/proxy")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nCOPY proxy /proxy\nENTRYPOINT [\"/proxy\"]\n"), 0o600))
	_, err = rt.BuildImage(t.Context(), runtime.BuildSpec{Context: dir, Tag: proxyImage, Labels: labels}, func(line string) { t.Log(line) })
	require.NoError(t, err)

	svc, err := kube.CoreV1().Services(podNamespace).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: itName, Namespace: podNamespace, Labels: labels},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"k8s-app": podSelector},
			Ports:    []corev1.ServicePort{{Name: "metrics", Port: podPort, TargetPort: intstr.FromInt32(podPort)}},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	c := &realCluster{t: t, kube: kube, node: node, ip: svc.Spec.ClusterIP}
	c.World = World{
		Sandbox: itName, Run: "test", Network: networks[0], Engine: rt, Namespaces: []string{podNamespace},
		Kube: func() (kubernetes.Interface, error) { return kube, nil },
		Node: rt.Container,
		Proxy: func(ctx context.Context, name string, spec ProxySpec) (string, error) {
			what, err := json.Marshal(spec)
			if err != nil {
				return "", err
			}
			p, err := rt.CreateContainer(ctx, runtime.ContainerSpec{
				Name: itName + "-" + name, Image: proxyImage, Labels: labels, Network: networks[0],
				Env: map[string]string{"SANDBOX_PROXY": string(what)},
			})
			if err != nil {
				return "", err
			}
			if err := rt.StartContainer(ctx, p.ID); err != nil {
				return "", err
			}
			p, err = rt.Container(ctx, p.ID)
			return p.IPs[networks[0]], err
		},
		ProxyAddress: func(ctx context.Context, name string) (string, error) {
			p, err := rt.Container(ctx, itName+"-"+name)
			if errors.Is(err, runtime.ErrNotFound) {
				return "", nil
			}
			return p.IPs[networks[0]], err
		},
		StopProxy: func(ctx context.Context, name string) error { return rt.RemoveContainer(ctx, itName+"-"+name) },
	}
	return c
}

// of is the same cluster for another test, such as one within that which has it.
func (c realCluster) of(t *testing.T) *realCluster {
	c.t = t
	return &c
}

// run runs a command in the node.
func (c *realCluster) run(command ...string) (int, string) {
	var out bytes.Buffer
	exit, err := c.Engine.Exec(c.t.Context(), c.node.ID, runtime.ExecSpec{Cmd: command, Stdout: &out, Stderr: &out})
	if err != nil {
		return -1, err.Error()
	}
	return exit, out.String()
}

// takes asks the Service over a new connection and returns how long that takes.
func (c *realCluster) takes() (time.Duration, error) {
	exit, out := c.run("curl", "-s", "-m", "10", "-o", "/dev/null", "-w", "%{time_total} %{http_code}", fmt.Sprintf("http://%s:%d/metrics", c.ip, podPort))
	seconds, code, _ := strings.Cut(strings.TrimSpace(out), " ")
	if exit != 0 || code != "200" {
		return 0, fmt.Errorf("exit code %d: %s", exit, out)
	}
	s, err := strconv.ParseFloat(seconds, 64)
	return time.Duration(s * float64(time.Second)), err
}

// becomes waits until the Service is as slow as it should be.
func (c *realCluster) becomes(what string, well func(time.Duration) bool) {
	c.t.Helper()
	require.EventuallyWithT(c.t, func(t *assert.CollectT) {
		took, err := c.takes()
		assert.NoError(t, err)
		assert.True(t, well(took), "it takes %v", took)
	}, itTime, itPoll, what)
}

// left counts what is in the cluster and the engine of the tests' drills.
func (c *realCluster) left() (int, error) {
	drills := metav1.ListOptions{LabelSelector: labelDrill}
	services, err := c.kube.CoreV1().Services("").List(c.t.Context(), drills)
	if err != nil {
		return 0, err
	}
	slicesOf, err := c.kube.DiscoveryV1().EndpointSlices("").List(c.t.Context(), drills)
	if err != nil {
		return 0, err
	}
	containers, err := c.Engine.Containers(c.t.Context(), map[string]string{runtime.LabelName: itName})
	return len(services.Items) + len(slicesOf.Items) + len(containers), err
}

// nothingLeft waits until nothing is left: the cluster's own controllers remove
// the slices of a Service after it.
func (c *realCluster) nothingLeft() {
	c.t.Helper()
	require.EventuallyWithT(c.t, func(t *assert.CollectT) {
		left, err := c.left()
		assert.NoError(t, err)
		assert.Zero(t, left)
	}, time.Minute, itPoll, "something is left of a drill")
}

// ready reports why the cluster does not work. Its node is ready that has reported
// so since.
func (c *realCluster) ready(since time.Time) error {
	ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
	defer cancel()
	node, err := c.kube.CoordinationV1().Leases("kube-node-lease").Get(ctx, c.node.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if !node.Spec.RenewTime.After(since) {
		return fmt.Errorf("its kubelet was heard of at %v, and not since %v", node.Spec.RenewTime, since)
	}
	for name, port := range workingPorts {
		exit, out := c.run("curl", "-s", "-k", "-m", "5", fmt.Sprintf(workingURL, port))
		if exit != 0 || strings.TrimSpace(out) != "ok" {
			return fmt.Errorf("%s does not work: exit code %d: %s", name, exit, out)
		}
	}
	_, err = c.takes()
	return err
}

// heldOpen is a client that asks over one connection again and again; it ends when
// that is cut, and otherwise long after the test has given up.
const heldOpen = `exec 3<>/dev/tcp/$0/$1 || exit 2
for i in $(seq 2000); do
  printf 'GET /none HTTP/1.1\r\nHost: x\r\n\r\n' >&3 || exit 7
  read -t 30 -r line <&3 || exit 8
  echo asked
  sleep 0.2
done
echo never cut`

func TestARealServiceIsDelayed(t *testing.T) {
	const latency = 700 * time.Millisecond
	slow := func(d time.Duration) bool { return d >= latency }
	quick := func(d time.Duration) bool { return d > 0 && d < latency/2 }
	c := newRealCluster(t)
	c.becomes("quick at first", quick)
	for _, round := range []string{"first", "second"} {
		t.Run(round, func(t *testing.T) {
			c := c.of(t)
			in, err := New(stack.Inject{Delay: &stack.DelayFault{Service: itName, Latency: stack.Duration(latency)}}, c.World)
			require.NoError(t, err)
			rec, err := in.Prepare(t.Context())
			require.NoError(t, err)
			var out lockedBuffer
			type end struct {
				exit int
				err  error
			}
			ended := make(chan end, 1) // an end after the test's own is nobody's
			go func() {
				exit, err := c.Engine.Exec(t.Context(), c.node.ID, runtime.ExecSpec{Cmd: []string{"bash", "-c", heldOpen, c.ip, strconv.Itoa(podPort)}, Stdout: &out, Stderr: &out})
				ended <- end{exit, err}
			}()
			require.Eventually(t, func() bool { return strings.Contains(out.String(), "asked") }, itTime, itPoll, "%v", &out)

			require.NoError(t, in.Inject(t.Context(), kept(t, rec)))
			c.becomes("slow", slow)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			sustained := make(chan error, 1)
			go func() { sustained <- in.Sustain(ctx, rec) }()
			select {
			case end := <-ended:
				require.NoError(t, end.err)
				assert.NotZero(t, end.exit, "the connection that was open is cut: %s", out.String())
				assert.NotContains(t, out.String(), "never cut")
			case err := <-sustained:
				t.Fatalf("the fault is not kept up: %v", err)
			case <-time.After(3 * time.Minute):
				t.Fatalf("the connection is open still: %s", out.String())
			}
			cancel()
			require.NoError(t, <-sustained)
			c.becomes("slow still", slow)

			for range 2 {
				require.NoError(t, Undo(t.Context(), kept(t, rec), c.World))
				_, err := c.takes()
				require.NoError(t, err, "nobody is led to a proxy that is gone")
				c.becomes("quick again", quick)
				c.nothingLeft()
				svc, err := c.kube.CoreV1().Services(podNamespace).Get(t.Context(), itName, metav1.GetOptions{})
				require.NoError(t, err)
				assert.Equal(t, map[string]string{"k8s-app": podSelector}, svc.Spec.Selector)
			}
		})
	}
}

// TestARealServiceAnswersWithErrors fails some of the requests, and only those.
func TestARealServiceAnswersWithErrors(t *testing.T) {
	c := newRealCluster(t)
	answers := func(path, want string) {
		t.Helper()
		require.EventuallyWithT(t, func(t *assert.CollectT) {
			_, out := c.run("curl", "-s", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", fmt.Sprintf("http://%s:%d%s", c.ip, podPort, path))
			assert.Equal(t, want, strings.TrimSpace(out))
		}, itTime, itPoll, path)
	}
	answers("/metrics", "200")
	for range 2 {
		in, err := New(stack.Inject{HTTP: &stack.HTTPFault{Service: itName, Status: 418, Path: "/metrics"}}, c.World)
		require.NoError(t, err)
		rec, err := in.Prepare(t.Context())
		require.NoError(t, err)
		require.NoError(t, in.Inject(t.Context(), kept(t, rec)))
		answers("/metrics", "418")
		answers("/none", "404")
		for range 2 {
			require.NoError(t, Undo(t.Context(), kept(t, rec), c.World))
			answers("/metrics", "200")
			c.nothingLeft()
		}
	}
}

// TestFaultsOfARealNode takes the cluster away in three ways.
func TestFaultsOfARealNode(t *testing.T) {
	c := newRealCluster(t)
	c.Containers = func(ctx context.Context, _ string) ([]runtime.Container, error) {
		node, err := c.Engine.Container(ctx, c.node.Name)
		return []runtime.Container{node}, err
	}
	c.Revive = func(context.Context, string) error { return nil }
	for name, spec := range map[string]func(*stack.Inject){
		"pause": func(i *stack.Inject) { i.Pause = &stack.ContainerFault{Component: clusterComponent} },
		"stop":  func(i *stack.Inject) { i.Stop = &stack.ContainerFault{Component: clusterComponent} },
		"cut":   func(i *stack.Inject) { i.Cut = &stack.CutFault{Component: clusterComponent} },
	} {
		t.Run(name, func(t *testing.T) {
			c := c.of(t)
			ready := func(since time.Time) {
				t.Helper()
				require.EventuallyWithT(t, func(t *assert.CollectT) { assert.NoError(t, c.ready(since)) }, itTime, itPoll)
			}
			before, err := c.Engine.Container(t.Context(), c.node.Name)
			require.NoError(t, err)
			var fault stack.Inject
			spec(&fault)
			in, err := New(fault, c.World)
			require.NoError(t, err)
			rec, err := in.Prepare(t.Context())
			require.NoError(t, err)
			ready(time.Time{})
			require.NoError(t, in.Inject(t.Context(), kept(t, rec)))
			require.Error(t, c.ready(time.Time{}))
			for range 2 {
				require.NoError(t, Undo(t.Context(), kept(t, rec), c.World))
				since := time.Now()
				ready(since)
				t.Logf("ready after %v", time.Since(since))
			}
			after, err := c.Engine.Container(t.Context(), c.node.Name)
			require.NoError(t, err)
			if name == "cut" { // the engine gives what was stopped another address
				assert.Equal(t, before.IPs, after.IPs)
			}
		})
	}
}
