//go:build integration

package inject_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/sandbox-stack/sandbox/internal/inject"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/detect"
	"github.com/sandbox-stack/sandbox/internal/stack"
)

// kubeconfigEnv names a kubeconfig of a kind cluster that may be played with,
// whose nodes are containers of the engine that the environment has.
const kubeconfigEnv = "SANDBOX_TEST_KUBECONFIG"

const (
	waitFor = 90 * time.Second
	poll    = 500 * time.Millisecond
)

// field is a namespace of a real cluster with a workload to break.
type field struct {
	t         *testing.T
	namespace string
	kube      kubernetes.Interface
	engine    runtime.Runtime
	world     inject.World
}

// server answers every connection on port 8080, and has a limit for its memory.
const server = "while :; do echo ok | nc -l -p 8080 >/dev/null; done"

func newField(t *testing.T, replicas int32) *field {
	t.Helper()
	kubeconfig := os.Getenv(kubeconfigEnv)
	if kubeconfig == "" {
		t.Fatalf("set %s to the kubeconfig of a kind cluster that these tests may use", kubeconfigEnv)
	}
	cfg, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	require.NoError(t, err)
	cfg.QPS = -1
	f := &field{t: t, namespace: "t-" + strings.ToLower(strings.TrimPrefix(t.Name(), "Test"))}
	f.kube, err = kubernetes.NewForConfig(cfg)
	require.NoError(t, err)
	f.engine, _, err = detect.Open(t.Context(), detect.Choice{}, t.TempDir(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, f.engine.Close()) })
	f.world = inject.World{
		Sandbox: "inject-test", Engine: f.engine, Namespaces: []string{f.namespace},
		Kube: func() (kubernetes.Interface, error) { return f.kube, nil },
		Node: func(ctx context.Context, name string) (runtime.Container, error) {
			return f.engine.Container(ctx, name)
		},
	}
	f.clean()
	t.Cleanup(f.clean)
	labels := map[string]string{runtime.LabelName: "inject-test", runtime.LabelComponent: "test"}
	_, err = f.kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: f.namespace, Labels: labels}}, metav1.CreateOptions{})
	require.NoError(t, err)
	app := map[string]string{"app": "web"}
	_, err = f.kube.AppsV1().Deployments(f.namespace).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: app},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: app},
				Spec: corev1.PodSpec{
					TerminationGracePeriodSeconds: new(int64(0)),
					Containers: []corev1.Container{{
						Name: "web", Image: f.image("busybox"), ImagePullPolicy: corev1.PullIfNotPresent,
						Command:   []string{"busybox", "sh", "-c", strings.ReplaceAll(server, "nc ", "busybox nc ")},
						Resources: corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("128Mi")}},
					}},
				},
			},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	f.healthy(replicas)
	return f
}

// image finds an image that the nodes have, so that no registry is needed.
func (f *field) image(name string) string {
	f.t.Helper()
	nodes, err := f.kube.CoreV1().Nodes().List(f.t.Context(), metav1.ListOptions{})
	require.NoError(f.t, err)
	for _, n := range nodes.Items {
		for _, i := range n.Status.Images {
			for _, ref := range i.Names {
				if strings.Contains(ref, name) && !strings.Contains(ref, "@") {
					return ref
				}
			}
		}
	}
	f.t.Fatalf("no node has an image called %s", name)
	return ""
}

// clean removes the namespace and waits until it is gone.
func (f *field) clean() {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	require.Eventually(f.t, func() bool {
		err := f.kube.CoreV1().Namespaces().Delete(ctx, f.namespace, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))})
		return apierrors.IsNotFound(err)
	}, time.Minute, poll, "namespace %s does not go away", f.namespace)
}

// healthy waits until the workload has as many pods as it should, all ready.
func (f *field) healthy(replicas int32) {
	f.t.Helper()
	f.eventually(func() bool {
		d, err := f.kube.AppsV1().Deployments(f.namespace).Get(f.t.Context(), "web", metav1.GetOptions{})
		return err == nil && *d.Spec.Replicas == replicas && d.Status.Replicas == replicas && d.Status.ReadyReplicas == replicas && len(f.pods()) == int(replicas)
	}, "the workload is not healthy")
}

func (f *field) eventually(what func() bool, message string, args ...any) {
	f.t.Helper()
	require.Eventually(f.t, what, waitFor, poll, fmt.Sprintf(message, args...))
}

func (f *field) pods() []corev1.Pod {
	f.t.Helper()
	list, err := f.kube.CoreV1().Pods(f.namespace).List(f.t.Context(), metav1.ListOptions{LabelSelector: "app=web"})
	require.NoError(f.t, err)
	return list.Items
}

// uids are the pods that there are.
func (f *field) uids() map[types.UID]bool {
	uids := map[types.UID]bool{}
	for _, p := range f.pods() {
		uids[p.UID] = true
	}
	return uids
}

// node runs a shell script on the node of the pods and returns its output.
func (f *field) node(script string) string {
	f.t.Helper()
	var out bytes.Buffer
	_, err := f.engine.Exec(f.t.Context(), f.pods()[0].Spec.NodeName, runtime.ExecSpec{Cmd: []string{"sh", "-c", script}, Stdout: &out, Stderr: &out})
	require.NoError(f.t, err)
	return strings.TrimSpace(out.String())
}

// inject breaks something and keeps it broken until the function returned is
// called, which is what a drill that was killed leaves: the record, and no
// process that sustains the fault.
func (f *field) inject(spec stack.Inject) (inject.Record, func()) {
	f.t.Helper()
	injector, err := inject.New(spec, f.world)
	require.NoError(f.t, err)
	rec, err := injector.Prepare(f.t.Context())
	require.NoError(f.t, err)
	require.NoError(f.t, injector.Inject(f.t.Context(), rec))

	ctx, cancel := context.WithCancel(f.t.Context())
	var sustained error
	var running sync.WaitGroup
	running.Go(func() { sustained = injector.Sustain(ctx, rec) })
	killed := sync.OnceFunc(func() {
		cancel()
		running.Wait()
		assert.NoError(f.t, sustained)
	})
	f.t.Cleanup(killed)
	return rec, killed
}

// undo undoes a fault as another process does, from the record alone, twice.
func (f *field) undo(rec inject.Record) {
	f.t.Helper()
	raw, err := json.Marshal(rec)
	require.NoError(f.t, err)
	var read inject.Record
	require.NoError(f.t, json.Unmarshal(raw, &read))
	require.NoError(f.t, inject.Undo(f.t.Context(), read, f.world))
	require.NoError(f.t, inject.Undo(f.t.Context(), read, f.world))
}

func TestCrash(t *testing.T) {
	f := newField(t, 2)
	rec, killed := f.inject(stack.Inject{Crash: &stack.CrashFault{Selector: "app=web", Count: 1}})
	f.eventually(func() bool {
		for _, p := range f.pods() {
			// Whether the state is CrashLoopBackOff depends on when the kubelet looks.
			if s := p.Status.ContainerStatuses[0]; s.State.Running == nil && s.RestartCount >= 2 {
				return true
			}
		}
		return false
	}, "no pod crashes again and again")
	killed()
	spared := 0
	for _, p := range f.pods() {
		if p.Status.ContainerStatuses[0].RestartCount == 0 {
			spared++
		}
	}
	assert.Equal(t, 1, spared, "one of two pods is to be hit")
	f.undo(rec)
	f.healthy(2)
	for _, p := range f.pods() {
		assert.Zero(t, p.Status.ContainerStatuses[0].RestartCount, "pod %s is one that crashed", p.Name)
	}
}

func TestKill(t *testing.T) {
	f := newField(t, 2)
	before := f.uids()
	rec, killed := f.inject(stack.Inject{Kill: &stack.KillFault{Selector: "app=web", Count: 1}})
	seen := map[types.UID]bool{}
	f.eventually(func() bool {
		for uid := range f.uids() {
			seen[uid] = true
		}
		return len(seen) >= 5 // the spared one, and several that follow each other
	}, "the pods are not replaced again and again")
	killed()
	f.undo(rec)
	f.healthy(2)
	kept := 0
	for uid := range f.uids() {
		if before[uid] {
			kept++
		}
	}
	assert.Equal(t, 1, kept, "one of two pods is to be spared")
}

func TestScale(t *testing.T) {
	f := newField(t, 2)
	spec := stack.Inject{Scale: &stack.ScaleFault{Workload: "deployment/web"}}
	rec, killed := f.inject(spec)
	f.eventually(func() bool { return len(f.pods()) == 0 }, "there are still pods")
	killed()
	f.undo(rec)
	f.healthy(2)

	// What somebody else has set meanwhile is left alone.
	rec, killed = f.inject(spec)
	killed()
	now, err := f.kube.AppsV1().Deployments(f.namespace).GetScale(t.Context(), "web", metav1.GetOptions{})
	require.NoError(t, err)
	now.Spec.Replicas = 1
	_, err = f.kube.AppsV1().Deployments(f.namespace).UpdateScale(t.Context(), "web", now, metav1.UpdateOptions{})
	require.NoError(t, err)
	f.undo(rec)
	f.healthy(1)
	require.NoError(t, f.kube.AppsV1().Deployments(f.namespace).Delete(t.Context(), "web", metav1.DeleteOptions{}))
	f.undo(rec)
}

// workingSet is what the kubelet will report of the pod's container, in bytes.
func (f *field) workingSet() int64 {
	f.t.Helper()
	out := f.node(f.cgroup("memory") + `
if [ -f $dir/memory.current ]; then cat $dir/memory.current; sed -n 's/^inactive_file //p' $dir/memory.stat
else cat $dir/memory.usage_in_bytes; sed -n 's/^total_inactive_file //p' $dir/memory.stat; fi`)
	var total, inactive int64
	_, err := fmt.Sscan(out, &total, &inactive)
	require.NoError(f.t, err, out)
	return total - inactive
}

// cgroup sets dir to the folder of the container's cgroup of a controller.
func (f *field) cgroup(controller string) string {
	f.t.Helper()
	_, id, _ := strings.Cut(f.pods()[0].Status.ContainerStatuses[0].ContainerID, "://")
	return fmt.Sprintf("dir=/sys/fs/cgroup/%s; [ -d $dir ] || dir=/sys/fs/cgroup; dir=$(find $dir/ -type d -name '*%s*' | head -n 1)", controller, id)
}

// marked counts the processes of a record on the node.
func (f *field) marked(rec inject.Record) string {
	f.t.Helper()
	return f.node("grep -lzxF SANDBOX_DRILL=" + rec.ID + " /proc/[0-9]*/environ 2>/dev/null | wc -l")
}

func TestMemory(t *testing.T) {
	f := newField(t, 1)
	const limit = 128 << 20
	rec, killed := f.inject(stack.Inject{Memory: &stack.MemoryFault{Selector: "app=web", Percent: 90}})
	full := func() bool { return f.workingSet() > limit/100*87 && f.workingSet() < limit/100*93 }
	f.eventually(full, "the memory is not filled")

	// It is filled again where the load is gone, and where the container is.
	f.node("pkill -9 -x dd")
	f.eventually(full, "the memory is not filled again")
	_, id, _ := strings.Cut(f.pods()[0].Status.ContainerStatuses[0].ContainerID, "://")
	f.node("ctr -n k8s.io tasks kill -s SIGKILL " + id)
	f.eventually(func() bool {
		s := f.pods()[0].Status.ContainerStatuses[0]
		return s.RestartCount == 1 && s.State.Running != nil && full()
	}, "the memory of the restarted container is not filled")
	assert.Equal(t, "Error", f.pods()[0].Status.ContainerStatuses[0].LastTerminationState.Terminated.Reason, "killed by the test only")

	killed()
	assert.NotEqual(t, "0", f.marked(rec))
	f.undo(rec)
	assert.Equal(t, "0", f.marked(rec))
	assert.Less(t, f.workingSet(), int64(limit/4))
	f.healthy(1)
	assert.EqualValues(t, 1, f.pods()[0].Status.ContainerStatuses[0].RestartCount)
}

// cpuTime is how much CPU the pod's container has used.
func (f *field) cpuTime() time.Duration {
	f.t.Helper()
	out := f.node(f.cgroup("cpuacct") + `
if [ -f $dir/cpuacct.usage ]; then cat $dir/cpuacct.usage; else sed -n 's/^usage_usec \(.*\)/\1000/p' $dir/cpu.stat; fi`)
	var used time.Duration
	_, err := fmt.Sscan(out, (*int64)(&used))
	require.NoError(f.t, err, out)
	return used
}

func TestCPU(t *testing.T) {
	f := newField(t, 1)
	rec, killed := f.inject(stack.Inject{CPU: &stack.CPUFault{Selector: "app=web", Workers: 2}})
	start := f.cpuTime()
	f.eventually(func() bool { return f.cpuTime()-start > 2*time.Second }, "the container uses no CPU")

	// A new pod is hit as well, and what was in the old one has ended with it.
	old := f.pods()[0]
	require.NoError(t, f.kube.CoreV1().Pods(f.namespace).Delete(t.Context(), old.Name, metav1.DeleteOptions{}))
	f.eventually(func() bool {
		p := f.pods()
		return len(p) == 1 && p[0].UID != old.UID && p[0].Status.Phase == corev1.PodRunning
	}, "the pod is not replaced")
	f.eventually(func() bool { return f.cpuTime() > 2*time.Second }, "the new container uses no CPU")
	_, id, _ := strings.Cut(old.Status.ContainerStatuses[0].ContainerID, "://")
	f.eventually(func() bool {
		return f.node("grep -lzxF SANDBOX_DRILL_CONTAINER="+id+" /proc/[0-9]*/environ 2>/dev/null | wc -l") == "0"
	}, "the loops outlive their container")

	killed()
	assert.NotEqual(t, "0", f.marked(rec))
	f.undo(rec)
	assert.Equal(t, "0", f.marked(rec))
	f.healthy(1)
}

// in is the command that runs a shell script in a pod's container, on its node.
func in(p corev1.Pod, script string) string {
	_, id, _ := strings.Cut(p.Status.ContainerStatuses[0].ContainerID, "://")
	return fmt.Sprintf("ctr -n k8s.io tasks exec --exec-id x-$$ %s busybox sh -c '%s' </dev/null", id, script)
}

func TestCutPods(t *testing.T) {
	f := newField(t, 2)
	// reach asks the last of the pods from the first one, as one pod asks another.
	reach := func() bool {
		pods := f.pods()
		return strings.Contains(f.node(in(pods[0], "busybox nc -w 2 "+pods[len(pods)-1].Status.PodIP+" 8080")), "ok")
	}
	f.eventually(reach, "the pods don't reach each other")

	// A connection that is open when the network is cut: the client writes a
	// line before and one after that.
	pods := f.pods()
	background := func(p corev1.Pod, script string) { f.node("(setsid " + in(p, script) + " >/dev/null 2>&1 &)") }
	background(pods[1], "busybox sleep 1000 | busybox nc -l -p 9090 >/got")
	f.eventually(func() bool { return strings.Contains(f.node(in(pods[1], "busybox netstat -ltn")), ":9090") }, "nothing listens")
	background(pods[0], "(echo before; while [ ! -f /go ]; do busybox sleep 1; done; echo after; busybox sleep 100) | busybox nc "+pods[1].Status.PodIP+" 9090")
	got := func() string { return f.node(in(pods[1], "busybox cat /got")) }
	f.eventually(func() bool { return strings.Contains(got(), "before") }, "the pods are not connected")

	spec := stack.Inject{Cut: &stack.CutFault{Selector: "app=web"}}
	rec, killed := f.inject(spec)
	require.False(t, reach(), "the pods still reach each other")
	f.node(in(pods[0], "echo >/go"))
	address := f.pods()[0].Status.PodIP
	assert.Contains(t, f.node("bash -c 'exec 3<>/dev/tcp/"+address+"/8080; head -n 1 <&3'"), "ok", "the node is to reach its pods")
	require.False(t, reach())
	assert.NotContains(t, got(), "after", "the connection is still there")
	killed()
	f.undo(rec)
	f.eventually(func() bool { return strings.Contains(got(), "after") }, "the connection does not come back")

	// New pods are cut off as well, and rules that others put first are put behind.
	rec, killed = f.inject(spec)
	f.node("iptables -I FORWARD -j ACCEPT")
	defer func() { f.node("iptables -D FORWARD -j ACCEPT") }()
	before := f.uids()
	require.NoError(t, f.kube.CoreV1().Pods(f.namespace).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "app=web"}))
	f.eventually(func() bool {
		for uid := range f.uids() {
			if before[uid] {
				return false
			}
		}
		return true
	}, "the pods are not replaced")
	f.healthy(2)
	chain := "SANDBOX-" + rec.ID[strings.LastIndexByte(rec.ID, '-')+1:]
	f.eventually(func() bool {
		rules := f.node("iptables -S")
		for _, p := range f.pods() {
			if !strings.Contains(rules, "-s "+p.Status.PodIP+"/32 -j DROP") {
				return false
			}
		}
		return strings.Count(rules, "-A "+chain) == 4 && strings.HasPrefix(f.node("iptables -S FORWARD | sed 1d"), "-A FORWARD -j "+chain)
	}, "the new pods are not cut off")
	require.False(t, reach(), "the new pods reach each other")

	killed()
	f.undo(rec)
	assert.NotContains(t, f.node("iptables -S; ip6tables -S"), "SANDBOX-")
	f.eventually(reach, "the pods don't reach each other again")
}
