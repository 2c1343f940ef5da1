//go:build integration

package cluster_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sandbox-stack/sandbox/internal/cluster"
	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/detect"
)

const testName = "ktest"

// TestCluster takes a cluster through its life on the real engine.
func TestCluster(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	rt, c := setUp(t, testName)
	userConfig := fingerprint(t)

	took := stopwatch(t)
	changed, err := c.Ensure(ctx, logTo{t})
	if err == nil {
		err = c.WaitReady(ctx, logTo{t})
	}
	if err != nil {
		fail(t, err)
	}
	took("created and ready")
	if !changed {
		t.Error("creating the cluster changed nothing")
	}
	if fingerprint(t) != userConfig {
		t.Error("the user's own kubeconfig was touched")
	}
	assertHealthy(t, c)
	took("health")

	changed, err = c.Ensure(ctx, logTo{t})
	if err != nil || changed {
		t.Errorf("ensuring a running cluster: changed %v, %v", changed, err)
	}
	took("ensured again")

	testAddons(ctx, t, rt, c, took)
	testLoad(ctx, t, rt, c, took)

	// A node that was stopped, as by a restart of the machine.
	nodes, err := rt.Containers(ctx, map[string]string{cluster.LabelKind: c.Name()})
	if err != nil || len(nodes) != 1 {
		t.Fatalf("nodes %v, %v", nodes, err)
	}
	if err := rt.StopContainer(ctx, nodes[0].ID, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	took("stopped")
	eventually(t, time.Minute, "a stopped cluster has failed", func() error {
		if h := c.Health(ctx)[0]; h.State != event.StateFailed || h.Try == "" {
			return fmt.Errorf("health %+v", h)
		}
		return nil
	})
	changed, err = c.Ensure(ctx, logTo{t})
	if err != nil {
		fail(t, err)
	}
	if !changed {
		t.Error("starting the cluster changed nothing")
	}
	took("started and ready")
	assertHealthy(t, c)

	if err := c.Delete(ctx, logTo{t}); err != nil {
		t.Fatal(err)
	}
	took("deleted")
	assertGone(t, rt, c)
	if fingerprint(t) != userConfig {
		t.Error("the user's own kubeconfig was touched")
	}
}

// TestCreateInterrupted must leave nothing, although kind cannot be cancelled.
func TestCreateInterrupted(t *testing.T) {
	rt, c := setUp(t, testName)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	rep := cancelOn{Reporter: logTo{t}, text: "starting control-plane", cancel: cancel}
	if _, err := c.Ensure(ctx, rep); err == nil {
		t.Fatal("an interrupted create succeeded")
	}
	assertGone(t, rt, c)
}

// testAddons checks that Prometheus' token opens what it should, and that
// kube-state-metrics runs.
func testAddons(ctx context.Context, t *testing.T, rt runtime.Runtime, c *cluster.Cluster, took func(string)) {
	t.Helper()
	changed, err := c.InstallAddons(ctx, logTo{t})
	if err != nil || !changed {
		t.Fatalf("addons: changed %v, %v", changed, err)
	}
	access, err := c.PrometheusAccess(ctx)
	if err != nil {
		t.Fatal(err)
	}
	took("addons applied")
	if changed, err := c.InstallAddons(ctx, logTo{t}); err != nil || changed {
		t.Errorf("addons again: changed %v, %v", changed, err)
	}
	if access.Server != "https://"+c.ControlPlane()+":6443" || !bytes.Contains(access.CA, []byte("BEGIN CERTIFICATE")) {
		t.Errorf("access to %s with CA %q", access.Server, access.CA)
	}
	for path, want := range map[string]string{
		"/api/v1/nodes/" + c.ControlPlane() + "/proxy/metrics/cadvisor": "200",
		"/api/v1/pods":                          "200",
		"/api/v1/secrets":                       "403",
		"/api/v1/namespaces/default/configmaps": "403",
	} {
		answers(ctx, t, time.Minute, rt, c, access, path, want) // what may be asked takes effect a little later
	}
	answers(ctx, t, 4*time.Minute, rt, c, access, "/api/v1/namespaces/sandbox-system/services/kube-state-metrics:8080/proxy/metrics", "200")
	took("kube-state-metrics answers")
}

// answers waits until the API server answers Prometheus with the HTTP status.
func answers(ctx context.Context, t *testing.T, within time.Duration, rt runtime.Runtime, c *cluster.Cluster, a cluster.Access, path, want string) {
	t.Helper()
	eventually(t, within, path+" answers "+want+" to Prometheus", func() error {
		got, err := curl(ctx, rt, c, a, path)
		if err == nil && got != want {
			err = fmt.Errorf("it answers %s", got)
		}
		return err
	})
}

// curl asks the API server from within the node and returns the HTTP status.
func curl(ctx context.Context, rt runtime.Runtime, c *cluster.Cluster, a cluster.Access, path string) (string, error) {
	var out bytes.Buffer
	code, err := rt.Exec(ctx, c.ControlPlane(), runtime.ExecSpec{
		Cmd: []string{
			"curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", "/etc/kubernetes/pki/ca.crt",
			"-H", "Authorization: Bearer " + a.Token, a.Server + path,
		},
		Stdout: &out,
	})
	if err == nil && code != 0 {
		err = fmt.Errorf("curl ends with %d", code)
	}
	return out.String(), err
}

// testLoad loads an image, and then one that adds a layer to it, of which only
// that layer is sent; pods that must not pull run both.
func testLoad(ctx context.Context, t *testing.T, rt runtime.Runtime, c *cluster.Cluster, took func(string)) {
	t.Helper()
	base := testImage(t, rt)
	const derived = "localhost/sandbox/ktest/derived:1"
	buildImage(t, rt, derived, map[string]string{
		"Dockerfile": "FROM " + base + "\nCOPY note /note\n",
		"note":       "a layer of its own",
	})
	took("built the images")
	for _, image := range [][2]string{{"base", base}, {"derived", derived}} {
		name, ref := image[0], image[1]
		loaded, err := c.Load(ctx, ref, logTo{t})
		if err != nil {
			fail(t, err)
		}
		if !loaded {
			t.Errorf("the first load of %s found the image there", ref)
		}
		took("loaded " + name)
		if loaded, err := c.Load(ctx, ref, logTo{t}); err != nil || loaded {
			t.Errorf("loading %s again: loaded %v, %v", ref, loaded, err)
		}
		took("found " + name + " there")
		runPod(ctx, t, c, name, ref)
		took("started a pod of " + name)
	}
}

// runPod starts a pod of an image that must be in the node.
func runPod(ctx context.Context, t *testing.T, c *cluster.Cluster, name, ref string) {
	t.Helper()
	client, err := c.Client()
	if err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default"}, Spec: corev1.PodSpec{
		Containers: []corev1.Container{{Name: "c", Image: ref, ImagePullPolicy: corev1.PullNever}},
	}}
	eventually(t, time.Minute, "the default service account exists", func() error {
		_, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err
	})
	if _, err := client.CoreV1().Pods("default").Create(ctx, pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 3*time.Minute, "a pod starts from "+ref, func() error {
		p, err := client.CoreV1().Pods("default").Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, s := range p.Status.ContainerStatuses {
			if s.State.Running != nil || s.State.Terminated != nil {
				return nil
			}
		}
		return fmt.Errorf("it has not: %+v", p.Status.ContainerStatuses)
	})
}

// setUp opens the engine, removes what an earlier run left, makes the network
// and returns the cluster under test.
func setUp(t *testing.T, name string) (runtime.Runtime, *cluster.Cluster) {
	t.Helper()
	rt, _, err := detect.Open(t.Context(), detect.Choice{}, t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := cluster.New(rt, cluster.Config{
		Name: name, NodeImage: image(t, rt, "SANDBOX_TEST_NODE_IMAGE", "localhost/sandbox/node:"),
		Kubeconfig: filepath.Join(t.TempDir(), "kubeconfig"),
	})
	if err != nil {
		t.Fatal(err)
	}
	clean := func() {
		ctx := context.WithoutCancel(t.Context())
		if err := c.Delete(ctx, event.Discard); err != nil {
			t.Error(err)
		}
		networks, err := rt.Networks(ctx, map[string]string{runtime.LabelName: name})
		if err != nil {
			t.Error(err)
		}
		for _, n := range networks {
			if err := rt.RemoveNetwork(ctx, n.Name); err != nil {
				t.Error(err)
			}
		}
	}
	clean()
	t.Cleanup(func() {
		if os.Getenv("SANDBOX_TEST_KEEP") == "" {
			clean()
		}
		if err := rt.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := rt.CreateNetwork(t.Context(), c.Name(), map[string]string{runtime.LabelName: name}); err != nil {
		t.Fatal(err)
	}
	return rt, c
}

// image is an image under test: the one that the environment names, or one
// that sandbox built. Without any the test fails.
func image(t *testing.T, rt runtime.Runtime, variable, prefix string) string {
	t.Helper()
	if ref := os.Getenv(variable); ref != "" {
		return ref
	}
	images, err := rt.Images(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, img := range images {
		for _, name := range img.Names {
			if strings.HasPrefix(name, prefix) {
				return name
			}
		}
	}
	t.Fatalf("no image %s… in the engine: build it with `sandbox images build` or set %s", prefix, variable)
	return ""
}

// testImage is an image to load, with one small static program in it.
func testImage(t *testing.T, rt runtime.Runtime) string {
	t.Helper()
	if ref := os.Getenv("SANDBOX_TEST_LOAD_IMAGE"); ref != "" {
		return ref
	}
	program := t.TempDir()
	source := filepath.Join(program, "main.go")
	if err := os.WriteFile(source, []byte("package main\n\nimport \"time\"\n\nfunc main() { time.Sleep(time.Hour) }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(program, "wait"), source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build a program to load: %v\n%s", err, out)
	}
	wait, err := os.ReadFile(filepath.Join(program, "wait"))
	if err != nil {
		t.Fatal(err)
	}
	const ref = "localhost/sandbox/ktest/load:1"
	buildImage(t, rt, ref, map[string]string{
		"Dockerfile": "FROM scratch\nCOPY wait /wait\nENTRYPOINT [\"/wait\"]\n",
		"wait":       string(wait),
	})
	return ref
}

// buildImage builds an image from the files, for as long as the test runs.
func buildImage(t *testing.T, rt runtime.Runtime, ref string, files map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := rt.BuildImage(t.Context(), runtime.BuildSpec{
		Context: dir, Dockerfile: "Dockerfile", Tag: ref, Labels: map[string]string{runtime.LabelName: testName},
	}, func(line string) { t.Log(line) }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rt.RemoveImage(context.WithoutCancel(t.Context()), ref); err != nil {
			t.Error(err)
		}
	})
}

// assertHealthy waits until the cluster is healthy. A pod without a probe, such
// as local-path-provisioner's, may be up, find no API server through a Service
// that kube-proxy has yet to set up, and start once more.
func assertHealthy(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	deadline := time.NewTimer(3 * time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		hs := c.Health(t.Context())
		if len(hs) == 2 && hs[0].State == event.StateOK && hs[1].State == event.StateOK {
			return
		}
		select {
		case <-deadline.C:
			t.Errorf("not healthy: %+v", hs)
			return
		case <-tick.C:
		}
	}
}

// assertGone checks that the engine holds nothing of the cluster.
func assertGone(t *testing.T, rt runtime.Runtime, c *cluster.Cluster) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	nodes, err := rt.Containers(ctx, map[string]string{cluster.LabelKind: c.Name()})
	if err != nil || len(nodes) != 0 {
		t.Errorf("containers left: %v, %v", nodes, err)
	}
	volumes, err := rt.Volumes(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range volumes {
		if _, ours := v.Labels[c.ControlPlane()]; ours {
			t.Errorf("volume left: %+v", v)
		}
	}
	left, err := os.ReadDir(filepath.Dir(c.Kubeconfig()))
	if err != nil || len(left) != 0 {
		t.Errorf("files left: %v, %v", left, err)
	}
}

// fingerprint tells whether the user's own kubeconfig was changed.
func fingerprint(t *testing.T) string {
	t.Helper()
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(home, ".kube", "config"))
	if os.IsNotExist(err) {
		return "absent"
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// eventually polls until check returns nil, and fails the test with its last error
// at the deadline.
func eventually(t *testing.T, within time.Duration, what string, check func() error) {
	t.Helper()
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	deadline := time.After(within)
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-deadline:
			t.Fatalf("not within %s: %s: %v", within, what, err)
		}
	}
}

// fail ends the test with an error and the log that it carries.
func fail(t *testing.T, err error) {
	t.Helper()
	var f *fault.Error
	if errors.As(err, &f) {
		t.Log(strings.Join(f.Log, "\n"))
	}
	t.Fatal(err)
}

// stopwatch logs how long each part took.
func stopwatch(t *testing.T) func(what string) {
	last := time.Now()
	return func(what string) {
		t.Logf("TIME %-40s %s", what, time.Since(last).Round(10*time.Millisecond))
		last = time.Now()
	}
}

// cancelOn cancels when progress mentions text.
type cancelOn struct {
	event.Reporter
	text   string
	cancel func()
}

func (c cancelOn) Progress(p event.Progress) {
	c.Reporter.Progress(p)
	if strings.Contains(p.Text, c.text) {
		c.cancel()
	}
}

// logTo is a Reporter that writes to the test's log.
type logTo struct{ t *testing.T }

func (l logTo) Progress(p event.Progress) { l.t.Log(p.Text, p.Done, p.Total, p.Blockers) }
func (l logTo) Log(source, line string)   { l.t.Log(source + ": " + line) }
