//go:build integration

package release_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"helm.sh/helm/v3/pkg/action"
	helm "helm.sh/helm/v3/pkg/release"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/release"
)

// kubeconfigEnv names a kubeconfig of a cluster that may be played with.
const kubeconfigEnv = "SANDBOX_TEST_KUBECONFIG"

// sandboxName labels all that these tests create.
const sandboxName = "release-test"

// stage is a namespace of a real cluster, removed after the test.
type stage struct {
	t          *testing.T
	kubeconfig string
	namespace  string
	kube       kubernetes.Interface
	// sleeper is an image in the node whose container runs and does nothing.
	// crasher is one whose container, as the chart starts it, logs an error
	// and exits.
	sleeper, crasher string
}

func newStage(t *testing.T) *stage {
	t.Helper()
	kubeconfig := os.Getenv(kubeconfigEnv)
	if kubeconfig == "" {
		t.Fatalf("set %s to the kubeconfig of a kind cluster that these tests may use", kubeconfigEnv)
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	require.NoError(t, err)
	s := &stage{t: t, kubeconfig: kubeconfig, namespace: "t-" + strings.ToLower(strings.TrimPrefix(t.Name(), "Test"))}
	s.kube, err = kubernetes.NewForConfig(cfg)
	require.NoError(t, err)
	s.sleeper, s.crasher = s.image("pause"), s.image("coredns")
	s.clean()
	t.Cleanup(s.clean)
	return s
}

// image finds an image that the nodes have, so that no registry is needed.
func (s *stage) image(name string) string {
	s.t.Helper()
	nodes, err := s.kube.CoreV1().Nodes().List(s.t.Context(), metav1.ListOptions{})
	require.NoError(s.t, err)
	for _, n := range nodes.Items {
		for _, i := range n.Status.Images {
			for _, ref := range i.Names {
				if strings.Contains(ref, name) && !strings.Contains(ref, "@") {
					return ref
				}
			}
		}
	}
	s.t.Fatalf("no node has an image called %s", name)
	return ""
}

// clean removes the namespace and waits until it is gone.
func (s *stage) clean() {
	s.t.Helper()
	const long = 5 * time.Minute
	ctx, cancel := context.WithTimeout(context.Background(), long)
	defer cancel()
	spaces := s.kube.CoreV1().Namespaces()
	require.EventuallyWithT(s.t, func(t *assert.CollectT) {
		err := spaces.Delete(ctx, s.namespace, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)})
		assert.True(t, apierrors.IsNotFound(err), "%v", err)
	}, long, 500*time.Millisecond, "namespace %s does not go away", s.namespace)
}

func (s *stage) release(spec release.Spec) *release.Release {
	s.t.Helper()
	spec.Name, spec.Namespace = "web", s.namespace
	if spec.Chart == "" {
		spec.Chart = chart(s.t, deploymentTemplate)
	}
	return release.New(release.Config{Kubeconfig: s.kubeconfig, Sandbox: sandboxName, Run: "run-1"}).Release(spec)
}

// setStatus makes Helm's record look as a killed process leaves it.
func (s *stage) setStatus(status helm.Status) {
	s.t.Helper()
	cfg := new(action.Configuration)
	flags := genericclioptions.NewConfigFlags(false)
	flags.KubeConfig, flags.CacheDir = ptr.To(s.kubeconfig), ptr.To(s.t.TempDir())
	require.NoError(s.t, cfg.Init(flags, s.namespace, "secret", func(string, ...any) {}))
	last, err := cfg.Releases.Last("web")
	require.NoError(s.t, err)
	last.SetStatus(status, "killed")
	require.NoError(s.t, cfg.Releases.Update(last))
}

const deploymentTemplate = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: {{ .Values.replicas | default 1 }}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: web
        image: {{ .Values.image }}
        imagePullPolicy: IfNotPresent
        args: {{ .Values.args | default list | toJson }}
        {{- with .Values.readiness }}
        readinessProbe: {{ toJson . }}
        {{- end }}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
`

const hookTemplate = `
apiVersion: batch/v1
kind: Job
metadata: {name: migrate, annotations: {helm.sh/hook: pre-install}}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      containers: [{name: migrate, image: {{ .Values.image }}, imagePullPolicy: IfNotPresent, args: [-conf, /does/not/exist]}]
`

func chart(t *testing.T, template string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "web")
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "templates"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "Chart.yaml"), []byte("apiVersion: v2\nname: web\nversion: 1.0.0\n"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "templates", "all.yaml"), []byte(template), 0o644))
	return dir
}

// record is a Reporter that keeps what it hears and shows it when a test fails.
type record struct {
	mu    sync.Mutex
	lines []string
}

func (r *record) add(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line)
}

func (r *record) Progress(p event.Progress) { r.add(fmt.Sprintf("progress: %+v", p)) }
func (r *record) Log(source, line string)   { r.add(source + ": " + line) }

func (r *record) has(part string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.lines, func(l string) bool { return strings.Contains(l, part) })
}

func listen(t *testing.T) *record {
	r := &record{}
	t.Cleanup(func() {
		if t.Failed() {
			r.mu.Lock()
			defer r.mu.Unlock()
			t.Log(strings.Join(r.lines, "\n"))
		}
	})
	return r
}

func TestInstallUpgradeUnchangedUninstall(t *testing.T) {
	s := newStage(t)
	heard := listen(t)
	values := map[string]any{"image": s.sleeper, "replicas": 2}
	r := s.release(release.Spec{Values: values, Chart: chart(t, deploymentTemplate)})

	began := time.Now()
	got, err := r.Apply(t.Context(), heard)
	require.NoError(t, err)
	t.Logf("install took %s", time.Since(began))
	assert.Equal(t, release.Result{Changed: true, Note: "revision 1, 2 of 2 pods ready"}, got)
	assert.True(t, heard.has("Deployment/web 2 of 2 ready"))

	began = time.Now()
	got, err = r.Apply(t.Context(), heard)
	require.NoError(t, err)
	t.Logf("unchanged took %s", time.Since(began))
	assert.Equal(t, release.Result{Note: "revision 1, 2 of 2 pods ready"}, got)

	began = time.Now()
	health := r.Health(t.Context())
	t.Logf("health took %s", time.Since(began))
	require.Len(t, health, 4, "the release, its workload and two pods")
	assert.Equal(t, event.Health{Component: "release/web/Deployment/web", State: event.StateOK, Reason: "2 of 2 ready"}, health[1])

	require.NoError(t, s.kube.CoreV1().Services(s.namespace).Delete(t.Context(), "web", metav1.DeleteOptions{}))
	assert.Equal(t, "Service/web: is missing", r.Health(t.Context())[0].Reason)

	values["replicas"] = 1
	got, err = s.release(release.Spec{Values: values}).Apply(t.Context(), heard)
	require.NoError(t, err)
	assert.Equal(t, release.Result{Changed: true, Note: "revision 2, 1 of 1 pods ready"}, got)
	_, err = s.kube.CoreV1().Services(s.namespace).Get(t.Context(), "web", metav1.GetOptions{})
	require.NoError(t, err, "what was missing is back")

	require.NoError(t, r.Uninstall(t.Context(), heard))
	assert.Equal(t, "is not installed", r.Health(t.Context())[0].Reason)
}

func TestImageThatIsNowhere(t *testing.T) {
	s := newStage(t)
	_, err := s.release(release.Spec{Values: map[string]any{"image": s.sleeper}}).Apply(t.Context(), listen(t))
	require.NoError(t, err)

	// That the name is no registry's may take the node's DNS a while.
	bad := s.release(release.Spec{Values: map[string]any{"image": "registry.invalid/none:1"}, Timeout: time.Minute})
	_, err = bad.Apply(t.Context(), listen(t))
	var f *fault.Error
	require.ErrorAs(t, err, &f)
	assert.Equal(t, `release "web" is not ready after 1m0s`, f.What)
	assert.Regexp(t, `^Deployment/web 1 of 1: of an earlier revision, the new one is not ready: (ErrImagePull|ImagePullBackOff): .*registry.invalid/none:1`, f.Why)

	_, err = s.release(release.Spec{Values: map[string]any{"image": s.sleeper}}).Apply(t.Context(), listen(t))
	require.NoError(t, err, "the corrected value heals it")
}

func TestCrashLoop(t *testing.T) {
	s := newStage(t)
	values := map[string]any{"image": s.crasher, "args": []any{"-conf", "/does/not/exist"}}
	r := s.release(release.Spec{Values: values})
	began := time.Now()
	_, err := r.Apply(t.Context(), listen(t))
	var f *fault.Error
	require.ErrorAs(t, err, &f)
	t.Logf("gave up after %s", time.Since(began)) // before the end of its time, which reads otherwise
	assert.Equal(t, `release "web" will not become ready`, f.What)
	assert.Regexp(t, `^Deployment/web 0 of 1: CrashLoopBackOff: web exited with code 1.*, 3 restarts$`, f.Why)
	assert.Contains(t, strings.Join(f.Log, "\n"), "/does/not/exist", "the crashed container's own words")

	health := r.Health(t.Context())
	assert.Equal(t, event.StateFailed, health[0].State)

	// The next run does not wait for the kubelet's back-off.
	heard := listen(t)
	_, err = r.Apply(t.Context(), heard)
	require.Error(t, err)
	assert.True(t, heard.has("has been failing since before this run"))
}

func TestNeverReady(t *testing.T) {
	s := newStage(t)
	probe := map[string]any{"httpGet": map[string]any{"path": "/ready", "port": 1}, "periodSeconds": 1}
	r := s.release(release.Spec{Values: map[string]any{"image": s.sleeper, "readiness": probe}, Timeout: time.Minute})
	_, err := r.Apply(t.Context(), listen(t))
	var f *fault.Error
	require.ErrorAs(t, err, &f)
	assert.Regexp(t, `^Deployment/web 0 of 1: web: Readiness probe failed: .*/ready.*connection refused`, f.Why)
}

func TestFailingHook(t *testing.T) {
	s := newStage(t)
	r := s.release(release.Spec{Chart: chart(t, hookTemplate), Values: map[string]any{"image": s.crasher}})
	_, err := r.Apply(t.Context(), listen(t))
	var f *fault.Error
	require.ErrorAs(t, err, &f)
	assert.Equal(t, `installing release "web" failed`, f.What)
	assert.Contains(t, f.Reason(), "BackoffLimitExceeded")
	assert.Contains(t, strings.Join(f.Log, "\n"), "/does/not/exist", "the hook's own words")
}

func TestRepairAfterAKill(t *testing.T) {
	s := newStage(t)
	values := map[string]any{"image": s.sleeper}
	_, err := s.release(release.Spec{Values: values}).Apply(t.Context(), listen(t))
	require.NoError(t, err)

	s.setStatus(helm.StatusPendingInstall)
	heard := listen(t)
	got, err := s.release(release.Spec{Values: values}).Apply(t.Context(), heard)
	require.NoError(t, err)
	assert.True(t, heard.has("removing it to install anew"))
	assert.Equal(t, "revision 1, 1 of 1 pods ready", got.Note)

	values["replicas"] = 2
	_, err = s.release(release.Spec{Values: values}).Apply(t.Context(), heard)
	require.NoError(t, err)
	s.setStatus(helm.StatusPendingUpgrade)
	got, err = s.release(release.Spec{Values: values}).Apply(t.Context(), heard)
	require.NoError(t, err)
	assert.True(t, heard.has("rolling back to revision 1"))
	assert.Contains(t, got.Note, "2 of 2 pods ready")
}

func TestMissingSecretIsNamed(t *testing.T) {
	s := newStage(t)
	template := strings.Replace(deploymentTemplate, "args:", "envFrom: [{secretRef: {name: database}}]\n        args:", 1)
	r := s.release(release.Spec{Chart: chart(t, template), Values: map[string]any{"image": s.sleeper}, Timeout: 45 * time.Second})
	_, err := r.Apply(t.Context(), listen(t))
	require.ErrorContains(t, err, `Deployment/web 0 of 1: CreateContainerConfigError: secret "database" not found`)

	_, err = s.kube.CoreV1().Secrets(s.namespace).Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "database"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	// The kubelet looks for the secret again in its own time.
	patient := s.release(release.Spec{Chart: chart(t, template), Values: map[string]any{"image": s.sleeper}, Timeout: 5 * time.Minute})
	_, err = patient.Apply(t.Context(), listen(t))
	require.NoError(t, err)
}
