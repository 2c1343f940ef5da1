package inject

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	goruntime "runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	kubefake "k8s.io/client-go/kubernetes/fake"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/fake"
	"github.com/sandbox-stack/sandbox/internal/stack"
)

// webPod is a running pod of deployment web with one container.
func webPod(name string, change ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "production", Name: name, UID: types.UID("uid-" + name), Labels: map[string]string{"app": "web", "pod-template-hash": "1"},
			OwnerReferences: []metav1.OwnerReference{{Kind: "StatefulSet", Name: "web", Controller: new(true)}},
		},
		Spec: corev1.PodSpec{
			NodeName: "node-1",
			Containers: []corev1.Container{{Name: "web", Resources: corev1.ResourceRequirements{
				Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("128Mi")},
			}}},
		},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: "10.244.0." + name[len(name)-1:]}},
			ContainerStatuses: []corev1.ContainerStatus{{
				Name: "web", ContainerID: "containerd://id-" + name, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
			}},
		},
	}
	for _, c := range change {
		c(p)
	}
	return p
}

// podWorld is a World with a cluster of these objects and node-1, a container
// in which scripts print answer. What is run there goes to ran.
func podWorld(t *testing.T, answer func(script string, args []string) string, objects ...kruntime.Object) (w World, client *kubefake.Clientset, ran *[]string) {
	t.Helper()
	ran = &[]string{}
	sh := func(_ context.Context, p fake.Process) int {
		*ran = append(*ran, strings.Join(append(p.Args[3:], env(p.Env)...), " "))
		if answer != nil {
			_, _ = io.WriteString(p.Stdout, answer(p.Args[1], p.Args[3:]))
		}
		return 0
	}
	ctr := func(_ context.Context, p fake.Process) int {
		*ran = append(*ran, "ctr "+strings.Join(p.Args, " "))
		if strings.HasSuffix(p.Args[len(p.Args)-1], "gone") {
			_, _ = io.WriteString(p.Stderr, "level=warning msg=deprecated\nctr: process already finished: not found\n")
			return 1
		}
		return 0
	}
	init := func(ctx context.Context, _ fake.Process) int { <-ctx.Done(); return 0 }
	engine := fake.New(map[string]fake.Program{"sh": sh, "ctr": ctr, "init": init})
	t.Cleanup(func() { require.NoError(t, engine.Close()) })
	engine.AddImage(runtime.Image{Names: []string{"node"}})
	c, err := engine.CreateContainer(t.Context(), runtime.ContainerSpec{Name: "node-1", Image: "node", Entrypoint: []string{"init"}})
	require.NoError(t, err)
	require.NoError(t, engine.StartContainer(t.Context(), c.ID))
	client = kubefake.NewClientset(append(objects, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}})...)
	return World{
		Sandbox: "t", Engine: engine, Namespaces: []string{"production"},
		Kube: func() (kubernetes.Interface, error) { return client, nil },
		Node: engine.Container,
	}, client, ran
}

func env(values map[string]string) []string { return runtime.Environ(values) }

// prepare prepares a fault and returns its record as another process reads it.
func prepare(t *testing.T, spec stack.Inject, w World) (Injector, Record) {
	t.Helper()
	injector, err := New(spec, w)
	require.NoError(t, err)
	rec, err := injector.Prepare(t.Context())
	require.NoError(t, err)
	assert.Equal(t, spec.Kinds(), []string{rec.Kind})
	return injector, kept(t, rec)
}

func podNames(t *testing.T, client *kubefake.Clientset) []string {
	t.Helper()
	list, err := client.CoreV1().Pods("production").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	return names(list.Items, func(p corev1.Pod) string { return p.Name })
}

func TestPodsThatAreNotThere(t *testing.T) {
	crash := func(change func(*stack.CrashFault)) stack.Inject {
		f := &stack.CrashFault{Selector: "app=web"}
		change(f)
		return stack.Inject{Crash: f}
	}
	pending := func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending }
	bare := func(p *corev1.Pod) { p.OwnerReferences = nil }
	two := func(p *corev1.Pod) { p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "side"}) }
	for name, c := range map[string]struct {
		spec  stack.Inject
		pods  []kruntime.Object
		words []string
	}{
		"typing error in the selector": {
			crash(func(f *stack.CrashFault) { f.Selector = "app=wep" }),
			[]kruntime.Object{webPod("web-1"), webPod("web-2"), webPod("db-1", func(p *corev1.Pod) { p.Labels = map[string]string{"tier": "db"} })},
			[]string{"no running pod matches app=wep in namespace production", "there are: app=web (2); tier=db (1)"},
		},
		"unreadable selector": {crash(func(f *stack.CrashFault) { f.Selector = "app==,=web" }), nil, []string{`selector "app==,=web" can't be read`}},
		"no pods":             {crash(func(*stack.CrashFault) {}), nil, []string{"there are no pods"}},
		"other namespace": {
			crash(func(f *stack.CrashFault) { f.Namespace = "prod" }),
			[]kruntime.Object{webPod("web-1")},
			[]string{"in namespace prod\n", "there are no pods"},
		},
		"none runs": {crash(func(*stack.CrashFault) {}), []kruntime.Object{webPod("web-1", pending)}, []string{"web-1 is Pending"}},
		"too few": {
			crash(func(f *stack.CrashFault) { f.Count = 3 }),
			[]kruntime.Object{webPod("web-1"), webPod("web-2")},
			[]string{"only 2 running pods match app=web in namespace production, 3 are to be hit"},
		},
		"which container":   {crash(func(*stack.CrashFault) {}), []kruntime.Object{webPod("web-1", two)}, []string{"more than one container", "web, side"}},
		"unknown container": {crash(func(f *stack.CrashFault) { f.Container = "app" }), []kruntime.Object{webPod("web-1")}, []string{"no container app", "it has web"}},
		"other node": {
			crash(func(*stack.CrashFault) {}),
			[]kruntime.Object{webPod("web-1", func(p *corev1.Pod) { p.Spec.NodeName = "cloud-1" })},
			[]string{"node cloud-1 is not a container of this engine"},
		},
		"killed for good": {stack.Inject{Kill: &stack.KillFault{Selector: "app=web"}}, []kruntime.Object{webPod("web-1", bare)}, []string{"production/web-1 would be gone for good"}},
		"no memory limit": {
			stack.Inject{Memory: &stack.MemoryFault{Selector: "app=web"}},
			[]kruntime.Object{webPod("web-1", func(p *corev1.Pod) { p.Spec.Containers[0].Resources.Limits = nil })},
			[]string{"container web of pod production/web-1 has no memory limit"},
		},
		"network of the node": {
			stack.Inject{Cut: &stack.CutFault{Selector: "app=web"}},
			[]kruntime.Object{webPod("web-1", func(p *corev1.Pod) { p.Spec.HostNetwork = true })},
			[]string{"production/web-1 can't be cut off"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, _, ran := podWorld(t, nil, c.pods...)
			injector, err := New(c.spec, w)
			require.NoError(t, err)
			_, err = injector.Prepare(t.Context())
			invalid(t, err, c.words...)
			assert.Empty(t, *ran)
		})
	}
}

func TestNoNamespaceToLookIn(t *testing.T) {
	w, _, _ := podWorld(t, nil)
	w.Namespaces = nil
	for _, spec := range []stack.Inject{{Kill: &stack.KillFault{Selector: "app=web"}}, {Scale: &stack.ScaleFault{Workload: "deployment/web"}}} {
		injector, err := New(spec, w)
		require.NoError(t, err)
		_, err = injector.Prepare(t.Context())
		invalid(t, err, "no namespace to look for")
	}
}

func TestPodRecords(t *testing.T) {
	replicated := func(p *corev1.Pod) { p.OwnerReferences[0].Kind, p.OwnerReferences[0].Name = "ReplicaSet", "web-abc" }
	objects := []kruntime.Object{webPod("web-1", replicated), webPod("web-2", replicated), replicaSetOf("web", "web-abc")}
	targets := []string{"deployment production/web", "pod production/app=web"}
	for _, c := range []struct {
		spec  stack.Inject
		what  string
		level Level
	}{
		{stack.Inject{Crash: &stack.CrashFault{Selector: "app=web"}}, "crash container web of all 2 pods with app=web in namespace production", LevelCluster},
		{stack.Inject{Kill: &stack.KillFault{Selector: "app=web", Count: 1}}, "kill 1 of 2 pods with app=web in namespace production", LevelCluster},
		{stack.Inject{Memory: &stack.MemoryFault{Selector: "app=web"}}, "fill the memory of container web of 1 of 2 pods with app=web in namespace production to 95 % of its limit", LevelEngine},
		{stack.Inject{CPU: &stack.CPUFault{Selector: "app=web", Workers: 3}}, "use up the CPU of container web of 1 of 2 pods with app=web in namespace production by 3 busy loops", LevelEngine},
		{stack.Inject{Cut: &stack.CutFault{Selector: "app=web"}}, "cut the network of all 2 pods with app=web in namespace production", LevelEngine},
	} {
		w, _, ran := podWorld(t, nil, objects...)
		_, rec := prepare(t, c.spec, w)
		assert.Equal(t, c.what, rec.What)
		assert.Equal(t, c.level, rec.Level)
		assert.Equal(t, targets, rec.Targets)
		assert.True(t, strings.HasPrefix(rec.ID, rec.Kind+"-"), rec.ID)
		assert.Empty(t, *ran, "preparing changes nothing")

		// Nothing was broken: to undo it does no harm, also when all is gone.
		require.NoError(t, Undo(t.Context(), rec, w))
		require.NoError(t, Undo(t.Context(), rec, w))
		empty, _, _ := podWorld(t, nil)
		require.NoError(t, empty.Engine.RemoveContainer(t.Context(), "node-1"))
		require.NoError(t, Undo(t.Context(), rec, empty), "%s", rec.Kind)
	}
}

func TestCrashHitsTheSamePods(t *testing.T) {
	gone := func(p *corev1.Pod) { p.Status.ContainerStatuses[0].ContainerID = "containerd://gone" }
	w, client, ran := podWorld(t, nil, webPod("web-2"), webPod("web-3", gone), webPod("web-4"))
	injector, rec := prepare(t, stack.Inject{Crash: &stack.CrashFault{Selector: "app=web", Count: 2}}, w)
	require.NoError(t, injector.Inject(t.Context(), rec))
	killed := func(id string) string { return "ctr -n k8s.io tasks kill -s SIGKILL " + id }
	assert.Equal(t, []string{killed("id-web-2"), killed("gone")}, *ran)

	// A pod that comes first by name does not take the place of one that was hit.
	c, chosen := injector.(*crash), map[types.UID]bool{}
	var set podSet
	require.NoError(t, rec.read(&set))
	require.NoError(t, c.kill(t.Context(), set, chosen))
	_, err := client.CoreV1().Pods("production").Create(t.Context(), webPod("web-1"), metav1.CreateOptions{})
	require.NoError(t, err)
	*ran = nil
	require.NoError(t, c.kill(t.Context(), set, chosen))
	assert.Equal(t, []string{killed("id-web-2"), killed("gone")}, *ran)

	// Only what has crashed since is made anew.
	update := func(name string, change func(*corev1.ContainerStatus)) {
		p := webPod(name)
		change(&p.Status.ContainerStatuses[0])
		_, err := client.CoreV1().Pods("production").Update(t.Context(), p, metav1.UpdateOptions{})
		require.NoError(t, err)
	}
	update("web-2", func(s *corev1.ContainerStatus) { s.RestartCount = 1 })
	update("web-3", func(s *corev1.ContainerStatus) {
		s.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}
	})
	require.NoError(t, Undo(t.Context(), rec, w))
	assert.Equal(t, []string{"web-1", "web-4"}, podNames(t, client))
}

func TestCrashLeavesPodsThatNothingReplaces(t *testing.T) {
	bare := func(p *corev1.Pod) { p.OwnerReferences = nil }
	w, client, _ := podWorld(t, nil, webPod("web-1", bare))
	_, rec := prepare(t, stack.Inject{Crash: &stack.CrashFault{Selector: "app=web"}}, w)
	p := webPod("web-1", bare)
	p.Status.ContainerStatuses[0].RestartCount = 3
	_, err := client.CoreV1().Pods("production").Update(t.Context(), p, metav1.UpdateOptions{})
	require.NoError(t, err)
	require.NoError(t, Undo(t.Context(), rec, w))
	assert.Equal(t, []string{"web-1"}, podNames(t, client))
}

func TestKillSparesTheOldest(t *testing.T) {
	aged := func(age time.Duration) func(*corev1.Pod) {
		return func(p *corev1.Pod) { p.CreationTimestamp = metav1.NewTime(time.Unix(1_800_000_000, 0).Add(-age)) }
	}
	w, client, _ := podWorld(t, nil, webPod("web-1", aged(time.Minute)), webPod("web-2", aged(time.Hour)))
	injector, rec := prepare(t, stack.Inject{Kill: &stack.KillFault{Selector: "app=web", Count: 1}}, w)
	require.NoError(t, injector.Inject(t.Context(), rec))
	assert.Equal(t, []string{"web-2"}, podNames(t, client))
	require.NoError(t, injector.Inject(t.Context(), rec))
	assert.Equal(t, []string{"web-2"}, podNames(t, client), "the one that is left is spared")
}

func TestLoads(t *testing.T) {
	const limit = 100 << 20
	used, counted := int64(20<<20), "0"
	answer := func(script string, _ []string) string {
		switch script {
		case measureMemory:
			return fmt.Sprintf("%d\n%d\n%d\n", limit, used, 5<<20)
		case countLoads:
			return counted + "\n"
		case startLoad:
			used, counted = limit*95/100+(5<<20), "4"
			return "filled\n"
		}
		return ""
	}
	w, _, ran := podWorld(t, answer, webPod("web-1"), webPod("web-2"))
	injector, rec := prepare(t, stack.Inject{Memory: &stack.MemoryFault{Selector: "app=web"}}, w)
	require.NoError(t, injector.Inject(t.Context(), rec))
	// 95 % of 100 MiB, without the 15 MiB that are in use and 1 MiB for the load itself.
	assert.Equal(t, []string{"id-web-1", fmt.Sprintf("%s id-web-1 memory %d 1800 %s SANDBOX_DRILL=%s", rec.ID, 79<<20, memoryLoad.body, rec.ID), "id-web-1"}, *ran)
	*ran = nil
	require.NoError(t, Undo(t.Context(), rec, w))
	assert.Equal(t, []string{"SANDBOX_DRILL=" + rec.ID}, *ran)

	*ran = nil
	injector, rec = prepare(t, stack.Inject{CPU: &stack.CPUFault{Selector: "app=web", Count: 2, Workers: 3}}, w)
	counted = "0"
	require.NoError(t, injector.Inject(t.Context(), rec))
	assert.Equal(t, []string{
		"SANDBOX_DRILL_CONTAINER=id-web-1",
		rec.ID + " id-web-1 cpu 3 1800 " + cpuLoad.body + " SANDBOX_DRILL=" + rec.ID,
		"SANDBOX_DRILL_CONTAINER=id-web-2",
	}, *ran, "the second one has its load")
}

func TestLoadThatEndsAtOnce(t *testing.T) {
	answer := func(script string, _ []string) string {
		if script == measureMemory {
			return "100000000 1000000 0"
		}
		return ""
	}
	w, _, _ := podWorld(t, answer, webPod("web-1"))
	injector, rec := prepare(t, stack.Inject{Memory: &stack.MemoryFault{Selector: "app=web"}}, w)
	require.ErrorContains(t, injector.Inject(t.Context(), rec), "ended at once")
}

func TestMemoryUse(t *testing.T) {
	const mib = 1 << 20
	for _, c := range []struct {
		use     use
		percent int
		missing int64
		over    bool
	}{
		{use{100 * mib, 10 * mib, 0}, 90, 79 * mib, false},
		{use{100 * mib, 30 * mib, 20 * mib}, 90, 79 * mib, false}, // what the kernel can take back does not count
		{use{100 * mib, 89 * mib, 0}, 90, 0, false},               // near enough
		{use{100 * mib, 92 * mib, 0}, 90, 0, false},
		{use{100 * mib, 96 * mib, 0}, 90, 0, true},
		{use{100 * mib, 10 * mib, 20 * mib}, 50, 49 * mib, false},
	} {
		assert.Equal(t, c.missing, c.use.missing(c.percent), "%+v", c.use)
		assert.Equal(t, c.over, c.use.over(c.percent), "%+v", c.use)
	}
}

func TestCutFollowsPods(t *testing.T) {
	dual := func(p *corev1.Pod) { p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: "fd00::2"}) }
	done := func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }
	w, client, ran := podWorld(t, nil, webPod("web-1"), webPod("web-2", dual), webPod("web-3", done))
	injector, rec := prepare(t, stack.Inject{Cut: &stack.CutFault{Selector: "app=web"}}, w)
	require.NoError(t, injector.Inject(t.Context(), rec))
	chain, mark := "SANDBOX-"+short(rec.ID), "SANDBOX_DRILL="+rec.ID
	assert.ElementsMatch(t, []string{"iptables " + chain + " 10.244.0.1 10.244.0.2 " + mark, "ip6tables " + chain + " fd00::2 " + mark}, *ran)

	require.NoError(t, client.CoreV1().Pods("production").Delete(t.Context(), "web-1", metav1.DeleteOptions{}))
	*ran = nil
	require.NoError(t, injector.Inject(t.Context(), rec))
	assert.Contains(t, *ran, "iptables "+chain+" 10.244.0.2 "+mark)

	*ran = nil
	require.NoError(t, Undo(t.Context(), rec, w))
	assert.Equal(t, []string{chain + " " + mark}, *ran)
}

func TestUndoTellsWhyANodeIsNotMended(t *testing.T) {
	w, _, _ := podWorld(t, nil, webPod("web-1"))
	_, rec := prepare(t, stack.Inject{Cut: &stack.CutFault{Selector: "app=web"}}, w)
	w.Engine.(*fake.Runtime).Fail = func(method, _ string) error {
		if method == "Exec" {
			return errors.New("no space left")
		}
		return nil
	}
	require.ErrorContains(t, Undo(t.Context(), rec, w), "node node-1: no space left")
}

func TestSustain(t *testing.T) {
	broken := errors.New("broken")
	t.Run("bears what passes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			n := 0
			require.NoError(t, sustain(ctx, func() error {
				if n++; n%3 != 0 {
					return broken
				}
				return nil
			}))
			assert.GreaterOrEqual(t, n, 59)
		})
	})
	t.Run("tells what stays", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) { require.ErrorIs(t, sustain(t.Context(), func() error { return broken }), broken) })
	})
	t.Run("tells at once what is in the way", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := 0
			err := sustain(t.Context(), func() error { n++; return fault.New(fault.Conflict, "scaled", "", "") })
			require.Error(t, err)
			assert.Equal(t, 1, n)
		})
	})
}

// TestEndLoads runs the real script against a real process.
func TestEndLoads(t *testing.T) {
	if goruntime.GOOS != "linux" {
		t.Skip("nodes run Linux")
	}
	id := newID("test")
	sleeper := exec.CommandContext(t.Context(), "sh", "-c", "sleep 1000 & sleep 1000")
	sleeper.Env = append(sleeper.Environ(), recordMark(id))
	require.NoError(t, sleeper.Start())
	script := func(script, arg string) string {
		out, err := exec.CommandContext(t.Context(), "sh", "-c", script, "sandbox", arg).CombinedOutput()
		require.NoError(t, err, string(out))
		return strings.TrimSpace(string(out))
	}
	assert.NotEqual(t, "0", script(countLoads, recordMark(id)))
	ended := make(chan error, 1)
	go func() { ended <- sleeper.Wait() }()
	script(endLoads, recordMark(id))
	require.Error(t, <-ended, "it is killed")
	assert.Equal(t, "0", script(countLoads, recordMark(id)))
	script(endLoads, recordMark(id))
}
