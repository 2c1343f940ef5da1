package cluster

import (
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sandbox-stack/sandbox/internal/event"
)

var started = time.Date(2026, 1, 1, 12, 0, 0, 5e8, time.UTC)

func at(d time.Duration) metav1.Time { return metav1.NewTime(started.Truncate(time.Second).Add(d)) }

func readyNode() *corev1.Node {
	n := &corev1.Node{}
	n.Name = "sandbox-web-control-plane"
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: at(0)}}
	return n
}

func readyPod(ns, app string) *corev1.Pod {
	p := &corev1.Pod{}
	p.Namespace, p.Name, p.Labels, p.UID = ns, app+"-x", map[string]string{"app": app}, "uid-1"
	p.Status.Phase = corev1.PodRunning
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: app, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: at(time.Second)}},
	}}
	return p
}

func selector(app string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
}

// readyView is a cluster of one node where everything is ready.
func readyView() *view {
	dns := &appsv1.Deployment{}
	dns.Namespace, dns.Name, dns.Spec.Selector = "kube-system", "coredns", selector("coredns")
	proxy := &appsv1.DaemonSet{}
	proxy.Namespace, proxy.Name, proxy.Spec.Selector = "kube-system", "kube-proxy", selector("kube-proxy")
	proxy.Status.DesiredNumberScheduled = 1
	return &view{
		since:       started,
		nodes:       []*corev1.Node{readyNode()},
		pods:        []*corev1.Pod{readyPod("kube-system", "coredns"), readyPod("kube-system", "kube-proxy")},
		deployments: []*appsv1.Deployment{dns},
		daemonSets:  []*appsv1.DaemonSet{proxy},
	}
}

func TestBlockers(t *testing.T) {
	waiting := func(v *view, reason, message string) {
		v.pods[0].Status.Conditions = nil
		v.pods[0].Status.ContainerStatuses[0].State = corev1.ContainerState{
			Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message},
		}
	}
	for name, tc := range map[string]struct {
		change func(*view)
		nodes  int
		want   []string
	}{
		"all ready":             {func(*view) {}, 1, nil},
		"a node has not joined": {func(*view) {}, 2, []string{"Node 1 of 2 have joined"}},
		"a node is not ready": {
			func(v *view) {
				v.nodes[0].Status.Conditions[0].Status = corev1.ConditionFalse
				v.nodes[0].Status.Conditions[0].Message = "cni plugin not initialized"
			}, 1,
			[]string{"Node/sandbox-web-control-plane not ready: cni plugin not initialized"},
		},
		"a node's report is from before a restart": {
			func(v *view) { v.nodes[0].Status.Conditions[0].LastHeartbeatTime = at(-time.Second) }, 1,
			[]string{"Node/sandbox-web-control-plane has not reported since it was started"},
		},
		"a container is from before a restart": {
			func(v *view) { v.pods[0].Status.ContainerStatuses[0].State.Running.StartedAt = at(-time.Minute) }, 1,
			[]string{"Deployment/coredns 0 of 1 ready: Pod/coredns-x has not been restarted yet"},
		},
		"a pod cannot pull": {
			func(v *view) { waiting(v, "ErrImagePull", "not found\nand more") }, 1,
			[]string{"Deployment/coredns 0 of 1 ready: Pod/coredns-x ErrImagePull: not found"},
		},
		"a pod is being made": {
			func(v *view) { waiting(v, "ContainerCreating", "") }, 1,
			[]string{"Deployment/coredns 0 of 1 ready: Pod/coredns-x ContainerCreating"},
		},
		"a pod cannot be scheduled": {
			func(v *view) {
				v.pods[0].Status.Conditions = []corev1.PodCondition{{
					Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "0/1 nodes are available",
				}}
			}, 1,
			[]string{"Deployment/coredns 0 of 1 ready: Pod/coredns-x cannot be scheduled: 0/1 nodes are available"},
		},
		"a container ended": {
			func(v *view) {
				v.pods[0].Status.ContainerStatuses[0].State = corev1.ContainerState{
					Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error"},
				}
			}, 1,
			[]string{"Deployment/coredns 0 of 1 ready: Pod/coredns-x container coredns ended with code 1: Error"},
		},
		"a pod runs but is not ready": {
			func(v *view) { v.pods[0].Status.Conditions[0].Status = corev1.ConditionFalse }, 1,
			[]string{"Deployment/coredns 0 of 1 ready: Pod/coredns-x runs, but is not ready"},
		},
		"a pod that is going does not count": {
			func(v *view) { v.pods[0].DeletionTimestamp = &metav1.Time{} }, 1,
			[]string{"Deployment/coredns 0 of 1 ready"},
		},
		"a daemon set was not looked at yet": {
			func(v *view) { v.daemonSets[0].Generation = 1 }, 1,
			[]string{"DaemonSet/kube-proxy waits for the controller manager"},
		},
		"dns does not exist": {
			func(v *view) { v.deployments = nil }, 1,
			[]string{"Deployment/coredns does not exist yet"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			v := readyView()
			tc.change(v)
			if got := texts(v.blockers(tc.nodes)); !slices.Equal(got, tc.want) {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
		})
	}
}

func TestViewHealth(t *testing.T) {
	v := readyView()
	if hs := v.health(1); hs[0].State != event.StateOK || hs[1].Component != "cluster/node/sandbox-web-control-plane" || hs[1].State != event.StateOK {
		t.Errorf("health of a ready cluster %+v", hs)
	}
	v.pods = v.pods[1:]
	if hs := v.health(1); hs[0].State != event.StateDegraded || !strings.Contains(hs[0].Reason, "coredns") {
		t.Errorf("health without DNS %+v", hs)
	}
	v.nodes[0].Status.Conditions = nil
	if hs := v.health(1); hs[0].State != event.StateFailed || hs[1].State != event.StateFailed {
		t.Errorf("health without a ready node %+v", hs)
	}
}
