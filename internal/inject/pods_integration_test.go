//go:build integration

package inject_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
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

// waitFor bounds a wait: the pods may have to wait for a node that has just been
// started again, on a machine that has other things to do.
const (
	waitFor = 5 * time.Minute
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
	ctx, cancel := context.WithTimeout(context.Background(), waitFor)
	defer cancel()
	require.EventuallyWithT(f.t, func(t *assert.CollectT) {
		err := f.kube.CoreV1().Namespaces().Delete(ctx, f.namespace, metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))})
		assert.True(t, apierrors.IsNotFound(err), "%v", err)
	}, waitFor, poll, "namespace %s does not go away", f.namespace)
}

// healthy waits until the workload has as many pods as it should and no others,
// all ready.
func (f *field) healthy(replicas int32) {
	f.t.Helper()
	f.eventually(func(t *assert.CollectT) {
		d, err := f.kube.AppsV1().Deployments(f.namespace).Get(f.t.Context(), "web", metav1.GetOptions{})
		require.NoError(t, err)
		assert.Equal(t, d.Generation, d.Status.ObservedGeneration)
		assert.Equal(t, []int32{replicas, replicas, replicas}, []int32{*d.Spec.Replicas, d.Status.Replicas, d.Status.ReadyReplicas})
		pods := f.pods(t)
		assert.Len(t, pods, int(replicas))
		for _, p := range pods {
			assert.Nil(t, p.DeletionTimestamp, "pod %s", p.Name)
			assert.True(t, status(t, p).Ready, "pod %s", p.Name)
		}
	}, "the workload is not healthy")
}

// eventually waits until nothing that the condition looks at fails. It gets its
// own t, for all that it calls: it runs in another goroutine than the test, which
// the test may not wait for.
func (f *field) eventually(what func(t *assert.CollectT), message string) {
	f.t.Helper()
	require.EventuallyWithT(f.t, what, waitFor, poll, message)
}

func (f *field) pods(t require.TestingT) []corev1.Pod {
	list, err := f.kube.CoreV1().Pods(f.namespace).List(f.t.Context(), metav1.ListOptions{LabelSelector: "app=web"})
	require.NoError(t, err)
	return list.Items
}

// pod is the only pod that there is.
func (f *field) pod(t require.TestingT) corev1.Pod {
	pods := f.pods(t)
	require.Len(t, pods, 1)
	return pods[0]
}

// status is that of the pod's container.
func status(t require.TestingT, p corev1.Pod) corev1.ContainerStatus {
	require.Len(t, p.Status.ContainerStatuses, 1, "pod %s is %s", p.Name, p.Status.Phase)
	return p.Status.ContainerStatuses[0]
}

// containerID is the ID of the pod's container, as its node calls it.
func containerID(t require.TestingT, p corev1.Pod) string {
	_, id, ok := strings.Cut(status(t, p).ContainerID, "://")
	require.True(t, ok, "pod %s has no container", p.Name)
	return id
}

// uids are the pods that there are.
func (f *field) uids(t require.TestingT) map[types.UID]bool {
	uids := map[types.UID]bool{}
	for _, p := range f.pods(t) {
		uids[p.UID] = true
	}
	return uids
}

// node runs a shell script on the node of the pods and returns its output.
func (f *field) node(t require.TestingT, script string) string {
	pods := f.pods(t)
	require.NotEmpty(t, pods)
	return f.run(t, pods[0].Spec.NodeName, script)
}

// run runs a shell script on a node and returns its output.
func (f *field) run(t require.TestingT, node, script string) string {
	var out bytes.Buffer
	_, err := f.engine.Exec(f.t.Context(), node, runtime.ExecSpec{Cmd: []string{"sh", "-c", script}, Stdout: &out, Stderr: &out})
	require.NoError(t, err)
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
	f.eventually(func(t *assert.CollectT) {
		assert.True(t, slices.ContainsFunc(f.pods(t), func(p corev1.Pod) bool {
			// Whether the state is CrashLoopBackOff depends on when the kubelet looks.
			s := status(t, p)
			return s.State.Running == nil && s.RestartCount >= 2
		}))
	}, "no pod crashes again and again")
	killed()
	spared := 0
	for _, p := range f.pods(t) {
		if status(t, p).RestartCount == 0 {
			spared++
		}
	}
	assert.Equal(t, 1, spared, "one of two pods is to be hit")
	f.undo(rec)
	f.healthy(2)
	for _, p := range f.pods(t) {
		assert.Zero(t, status(t, p).RestartCount, "pod %s is one that crashed", p.Name)
	}
}

func TestKill(t *testing.T) {
	f := newField(t, 2)
	before := f.uids(t)
	rec, killed := f.inject(stack.Inject{Kill: &stack.KillFault{Selector: "app=web", Count: 1}})
	seen := map[types.UID]bool{}
	f.eventually(func(t *assert.CollectT) {
		maps.Copy(seen, f.uids(t))
		assert.GreaterOrEqual(t, len(seen), 5) // the spared one, and several that follow each other
	}, "the pods are not replaced again and again")
	killed()
	f.undo(rec)
	f.healthy(2)
	kept := 0
	for uid := range f.uids(t) {
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
	f.eventually(func(t *assert.CollectT) { assert.Empty(t, f.pods(t)) }, "there are still pods")
	killed()
	f.undo(rec)
	f.healthy(2)

	// What somebody else has set meanwhile is left alone.
	rec, killed = f.inject(spec)
	killed()
	_, err := f.kube.AppsV1().Deployments(f.namespace).Patch(t.Context(), "web", types.MergePatchType, []byte(`{"spec":{"replicas":1}}`), metav1.PatchOptions{}, "scale")
	require.NoError(t, err)
	f.undo(rec)
	f.healthy(1)
	require.NoError(t, f.kube.AppsV1().Deployments(f.namespace).Delete(t.Context(), "web", metav1.DeleteOptions{}))
	f.undo(rec)
}

// workingSet is what the kubelet will report of the pod's container, in bytes.
func (f *field) workingSet(t require.TestingT) int64 {
	out := f.node(t, f.cgroup(t, "memory")+`
if [ -f $dir/memory.current ]; then cat $dir/memory.current; sed -n 's/^inactive_file //p' $dir/memory.stat
else cat $dir/memory.usage_in_bytes; sed -n 's/^total_inactive_file //p' $dir/memory.stat; fi`)
	var total, inactive int64
	_, err := fmt.Sscan(out, &total, &inactive)
	require.NoError(t, err, out)
	return total - inactive
}

// cgroup sets dir to the folder of the container's cgroup of a controller.
func (f *field) cgroup(t require.TestingT, controller string) string {
	return fmt.Sprintf("dir=/sys/fs/cgroup/%s; [ -d $dir ] || dir=/sys/fs/cgroup; dir=$(find $dir/ -type d -name '*%s*' | head -n 1)",
		controller, containerID(t, f.pod(t)))
}

// marked counts the processes of a record on the node.
func (f *field) marked(rec inject.Record) string {
	f.t.Helper()
	return f.node(f.t, "grep -lzxF SANDBOX_DRILL="+rec.ID+" /proc/[0-9]*/environ 2>/dev/null | wc -l")
}

func TestMemory(t *testing.T) {
	f := newField(t, 1)
	const limit = 128 << 20
	rec, killed := f.inject(stack.Inject{Memory: &stack.MemoryFault{Selector: "app=web", Percent: 90}})
	full := func(t *assert.CollectT) {
		used := f.workingSet(t)
		assert.Greater(t, used, int64(limit/100*87))
		assert.Less(t, used, int64(limit/100*93))
	}
	f.eventually(full, "the memory is not filled")

	// It is filled again where the load is gone, and where the container is.
	f.node(t, "pkill -9 -x dd")
	f.eventually(full, "the memory is not filled again")
	f.node(t, "ctr -n k8s.io tasks kill -s SIGKILL "+containerID(t, f.pod(t)))
	f.eventually(func(t *assert.CollectT) {
		s := status(t, f.pod(t))
		assert.EqualValues(t, 1, s.RestartCount)
		assert.NotNil(t, s.State.Running)
		full(t)
	}, "the memory of the restarted container is not filled")
	ended := status(t, f.pod(t)).LastTerminationState.Terminated
	require.NotNil(t, ended)
	assert.Equal(t, "Error", ended.Reason, "killed by the test only")

	killed()
	assert.NotEqual(t, "0", f.marked(rec))
	f.undo(rec)
	assert.Equal(t, "0", f.marked(rec))
	// The kernel counts the memory of what has ended for a while.
	f.eventually(func(t *assert.CollectT) { assert.Less(t, f.workingSet(t), int64(limit/4)) }, "the memory is not freed")
	f.healthy(1)
	assert.EqualValues(t, 1, status(t, f.pod(t)).RestartCount)
}

// cpuTime is how much CPU the pod's container has used.
func (f *field) cpuTime(t require.TestingT) time.Duration {
	out := f.node(t, f.cgroup(t, "cpuacct")+`
if [ -f $dir/cpuacct.usage ]; then cat $dir/cpuacct.usage; else sed -n 's/^usage_usec \(.*\)/\1000/p' $dir/cpu.stat; fi`)
	var used time.Duration
	_, err := fmt.Sscan(out, (*int64)(&used))
	require.NoError(t, err, out)
	return used
}

func TestCPU(t *testing.T) {
	f := newField(t, 1)
	rec, killed := f.inject(stack.Inject{CPU: &stack.CPUFault{Selector: "app=web", Workers: 2}})
	start := f.cpuTime(t)
	f.eventually(func(t *assert.CollectT) { assert.Greater(t, f.cpuTime(t)-start, 2*time.Second) }, "the container uses no CPU")

	// A new pod is hit as well, and what was in the old one has ended with it.
	old := f.pod(t)
	require.NoError(t, f.kube.CoreV1().Pods(f.namespace).Delete(t.Context(), old.Name, metav1.DeleteOptions{}))
	f.eventually(func(t *assert.CollectT) {
		p := f.pod(t)
		assert.NotEqual(t, old.UID, p.UID)
		assert.Equal(t, corev1.PodRunning, p.Status.Phase)
	}, "the pod is not replaced")
	f.eventually(func(t *assert.CollectT) { assert.Greater(t, f.cpuTime(t), 2*time.Second) }, "the new container uses no CPU")
	loops := "grep -lzxF SANDBOX_DRILL_CONTAINER=" + containerID(t, old) + " /proc/[0-9]*/environ 2>/dev/null | wc -l"
	f.eventually(func(t *assert.CollectT) { assert.Equal(t, "0", f.node(t, loops)) }, "the loops outlive their container")

	killed()
	assert.NotEqual(t, "0", f.marked(rec))
	f.undo(rec)
	assert.Equal(t, "0", f.marked(rec))
	f.healthy(1)
}

// in is the command that runs a shell script in a pod's container, on its node.
func in(t require.TestingT, p corev1.Pod, script string) string {
	return fmt.Sprintf("ctr -n k8s.io tasks exec --exec-id x-$$ %s busybox sh -c '%s' </dev/null", containerID(t, p), script)
}

func TestCutPods(t *testing.T) {
	f := newField(t, 2)
	// reach asks the last of the pods from the first one, as one pod asks another.
	reach := func(t require.TestingT) string {
		pods := f.pods(t)
		require.Len(t, pods, 2)
		return f.node(t, in(t, pods[0], "busybox nc -w 2 "+pods[1].Status.PodIP+" 8080"))
	}
	reached := func(t *assert.CollectT) { assert.Contains(t, reach(t), "ok") }
	f.eventually(reached, "the pods don't reach each other")

	// A connection that is open when the network is cut: the client writes a
	// line before and one after that.
	pods := f.pods(t)
	background := func(p corev1.Pod, script string) { f.node(t, "(setsid "+in(t, p, script)+" >/dev/null 2>&1 &)") }
	background(pods[1], "busybox sleep 1000 | busybox nc -l -p 9090 >/got")
	f.eventually(func(t *assert.CollectT) {
		assert.Contains(t, f.node(t, in(t, pods[1], "busybox netstat -ltn")), ":9090")
	}, "nothing listens")
	background(pods[0], "(echo before; while [ ! -f /go ]; do busybox sleep 1; done; echo after; busybox sleep 100) | busybox nc "+pods[1].Status.PodIP+" 9090")
	got := func(t require.TestingT) string { return f.node(t, in(t, pods[1], "busybox cat /got")) }
	f.eventually(func(t *assert.CollectT) { assert.Contains(t, got(t), "before") }, "the pods are not connected")

	spec := stack.Inject{Cut: &stack.CutFault{Selector: "app=web"}}
	rec, killed := f.inject(spec)
	require.NotContains(t, reach(t), "ok", "the pods still reach each other")
	f.node(t, in(t, pods[0], "echo >/go"))
	// Between two connections a server does not listen for a moment.
	ask := "timeout 10 bash -c 'exec 3<>/dev/tcp/" + pods[0].Status.PodIP + "/8080; head -n 1 <&3'"
	f.eventually(func(t *assert.CollectT) { assert.Contains(t, f.node(t, ask), "ok") }, "the node does not reach its pods")
	require.NotContains(t, reach(t), "ok", "the pods still reach each other")
	assert.NotContains(t, got(t), "after", "the connection is still there")
	killed()
	f.undo(rec)
	f.eventually(func(t *assert.CollectT) { assert.Contains(t, got(t), "after") }, "the connection does not come back")

	// New pods are cut off as well, and rules that others put first are put behind.
	rec, killed = f.inject(spec)
	node := pods[0].Spec.NodeName
	f.run(t, node, "iptables -I FORWARD -j ACCEPT")
	defer func() { f.run(t, node, "iptables -D FORWARD -j ACCEPT") }()
	before := f.uids(t)
	require.NoError(t, f.kube.CoreV1().Pods(f.namespace).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "app=web"}))
	f.eventually(func(t *assert.CollectT) {
		for uid := range f.uids(t) {
			assert.NotContains(t, before, uid)
		}
	}, "the pods are not replaced")
	f.healthy(2)
	chain := "SANDBOX-" + rec.ID[strings.LastIndexByte(rec.ID, '-')+1:]
	f.eventually(func(t *assert.CollectT) {
		rules := f.run(t, node, "iptables -S")
		for _, p := range f.pods(t) {
			assert.Contains(t, rules, "-s "+p.Status.PodIP+"/32 -j DROP")
		}
		assert.Equal(t, 4, strings.Count(rules, "-A "+chain), rules)
		assert.True(t, strings.HasPrefix(f.run(t, node, "iptables -S FORWARD | sed 1d"), "-A FORWARD -j "+chain), rules)
	}, "the new pods are not cut off")
	require.NotContains(t, reach(t), "ok", "the new pods reach each other")

	killed()
	f.undo(rec)
	assert.NotContains(t, f.run(t, node, "iptables -S; ip6tables -S"), "SANDBOX-")
	f.eventually(reached, "the pods don't reach each other again")
}
