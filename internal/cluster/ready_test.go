package cluster

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
)

func objects(v *view) []kruntime.Object {
	var out []kruntime.Object
	for _, o := range v.nodes {
		out = append(out, o)
	}
	for _, o := range v.pods {
		out = append(out, o)
	}
	for _, o := range v.deployments {
		out = append(out, o)
	}
	for _, o := range v.daemonSets {
		out = append(out, o)
	}
	return out
}

// The wait must end when the last blocker goes, not at the next tick.
func TestWaitSystemFollowsTheWatch(t *testing.T) {
	v := readyView()
	dns := v.pods[0]
	v.pods = v.pods[1:]
	client := fake.NewClientset(objects(v)...)
	rec := &recorder{}
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	go func() { done <- waitSystem(ctx, client, 1, started, rec) }()
	for len(rec.texts()) == 0 {
		select {
		case err := <-done:
			t.Fatalf("the wait ended without DNS: %v", err)
		case <-ctx.Done():
			t.Fatal("nothing was reported")
		case <-time.After(time.Millisecond):
		}
	}
	if got := rec.progress[0].Blockers; len(got) != 1 || !strings.HasPrefix(got[0], "Deployment/coredns 0 of 1") {
		t.Errorf("blockers %q", got)
	}
	if _, err := client.CoreV1().Pods(dns.Namespace).Create(ctx, dns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("wait: %v", err)
	}
}

func TestWaitSystemEndsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	v := readyView()
	v.nodes = nil
	client := fake.NewClientset(objects(v)...)
	rec := &recorder{}
	done := make(chan error, 1)
	go func() { done <- waitSystem(ctx, client, 1, started, rec) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// A pod that is being created must be explained by its last warning.
func TestExplain(t *testing.T) {
	pod := readyPod("kube-system", "coredns")
	warning := func(name, text string, at time.Time) *corev1.Event {
		return &corev1.Event{
			ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: name},
			Type:       corev1.EventTypeWarning, Message: text, LastTimestamp: metav1.NewTime(at),
		}
	}
	client := fake.NewClientset(
		warning("b", "newer: no CNI\ndetails", started.Add(time.Minute)),
		warning("a", "older", started),
	)
	got := explain(t.Context(), client, []blocker{
		{object: "Node", reason: "0 of 1 have joined"},
		{object: "Deployment/coredns", reason: "0 of 1 ready", pod: pod},
	})
	if got[0] != "Node 0 of 1 have joined" || got[1] != "Deployment/coredns 0 of 1 ready (newer: no CNI)" {
		t.Errorf("explained %q", got)
	}
}

func TestWaitReadyNamesWhatIsMissing(t *testing.T) {
	e := newEngine(node("control-plane"))
	e.logs = "kubelet is thinking\n"
	e.exec = nodeWithoutJournal
	c := newCluster(t, e, 1)
	writeKubeconfig(t, c)
	err := c.WaitReady(t.Context(), &recorder{})
	if err == nil || !strings.Contains(err.Error(), "API server") {
		t.Errorf("error %v", err)
	}
}

func TestFailedChecks(t *testing.T) {
	body := "[+]ping ok\n[-]etcd failed: reason withheld\n[+]log ok\n[-]poststarthook/rbac/bootstrap-roles failed: reason withheld\nreadyz check failed\n"
	if got, want := failedChecks(body), "etcd, poststarthook/rbac/bootstrap-roles"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := failedChecks("ok"); got != "" {
		t.Errorf("got %q", got)
	}
}
