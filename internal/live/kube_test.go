package live

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/health"
)

// eventually waits for a condition that other goroutines bring about.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("no %s within 10s", what)
		case <-tick.C:
		}
	}
}

func webPod(name string) *corev1.Pod {
	yes := true
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "production", Name: name, UID: "uid-of-web",
		Labels:          map[string]string{instanceLabel: "web", "pod-template-hash": "6f8b"},
		OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: "web-6f8b", Controller: &yes}},
	}}
}

func kubeEvent(name string, count int32, last time.Time) *corev1.Event {
	return &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: "production", Name: name, UID: "uid-of-" + "event", ResourceVersion: last.String()},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Name: "web-1", Namespace: "production"},
		Type:           "Warning", Reason: "BackOff", Message: "restarting", Count: count,
		LastTimestamp: metav1.NewTime(last), Source: corev1.EventSource{Component: "kubelet"},
	}
}

func TestTheClusterAnnouncesItsChanges(t *testing.T) {
	ctx := t.Context()
	now := time.Now()
	client := fake.NewClientset(kubeEvent("old", 1, now.Add(-time.Hour)))
	r := &recorder{}
	l := newLive(Sources{
		Kube:   func() (kubernetes.Interface, error) { return client, nil },
		Health: []health.Source{{Name: "release/web"}, {Name: "aws"}},
	}, r.emit)
	running(t, func(ctx context.Context) { l.keep(ctx, "kubernetes", l.followKube) })
	eventually(t, "contact", l.kubeWatched.Load)
	if said := take[event.ObjectEvent](r); len(said) != 0 {
		t.Errorf("told %+v of an hour ago", said)
	}

	if _, err := client.CoreV1().Pods("production").Create(ctx, webPod("web-1"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	woken := func(i int) bool {
		l.sources[i].mu.Lock()
		defer l.sources[i].mu.Unlock()
		return l.sources[i].woken
	}
	eventually(t, "wake of the release", func() bool { return woken(0) })
	if woken(1) {
		t.Error("a pod wakes the emulator's probe")
	}
	eventually(t, "pod", func() bool { return len(l.pods.list()) == 1 })

	if _, err := client.CoreV1().Events("production").Create(ctx, kubeEvent("new", 3, now), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var said []event.ObjectEvent
	eventually(t, "event", func() bool { said = append(said, take[event.ObjectEvent](r)...); return len(said) > 0 })
	want := event.ObjectEvent{
		Type: event.Warning, Source: "kubelet", Object: "pod/web-1", Namespace: "production", Count: 3,
		Reason: "BackOff", Message: "restarting",
	}
	got := said[0]
	got.Last = time.Time{}
	if got != want {
		t.Errorf("told %+v, want %+v", got, want)
	}
}

func TestLostContactComesBackWithoutRepeating(t *testing.T) {
	client := fake.NewClientset(kubeEvent("new", 1, time.Now()))
	r := &recorder{}
	refuse := make(chan error, 1)
	l := newLive(Sources{Kube: func() (kubernetes.Interface, error) {
		select {
		case err := <-refuse:
			return nil, err
		default:
			return client, nil
		}
	}}, r.emit)
	running(t, func(ctx context.Context) { l.keep(ctx, "kubernetes", l.followKube) })
	eventually(t, "contact", l.kubeWatched.Load)

	refuse <- errors.New("connection refused")
	l.loseKube("node died")
	var said []event.ObjectEvent
	reason := func(want string) func() bool {
		return func() bool {
			said = append(said, take[event.ObjectEvent](r)...)
			return slices.ContainsFunc(said, func(e event.ObjectEvent) bool { return e.Reason == want })
		}
	}
	eventually(t, "word of the loss", reason("Stale"))
	eventually(t, "word of the return", reason("Back"))
	times := 0
	for _, e := range said {
		if e.Reason == "BackOff" {
			times++
		}
	}
	if times != 1 {
		t.Errorf("told the same event %d times", times)
	}
	if !l.kubeWatched.Load() {
		t.Error("not in contact")
	}
}

func TestPodsBelongToReleasesAndWorkloads(t *testing.T) {
	l := newLive(Sources{Releases: []Release{{"web", "production"}, {"api", "production"}, {"db", "data"}}}, func(event.Payload) {})
	pod := webPod("web-6f8b-x")
	if got, ok := l.releaseOf(pod); !ok || got != "release/web" {
		t.Errorf("by its label: %q, %t", got, ok)
	}
	if got := workloadOf(pod); got != "Deployment/web" {
		t.Errorf("by its owner: %q", got)
	}
	bare := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "data", Name: "db-0"}}
	if got, ok := l.releaseOf(bare); !ok || got != "release/db" {
		t.Errorf("by its namespace: %q, %t", got, ok)
	}
	if got := workloadOf(bare); got != "Pod/db-0" {
		t.Errorf("without owner: %q", got)
	}
	bare.Namespace = "production" // of two releases
	if got, ok := l.releaseOf(bare); ok {
		t.Errorf("in a namespace of two releases: %q", got)
	}
	pod.Labels[instanceLabel] = "other"
	if got, ok := l.releaseOf(pod); ok {
		t.Errorf("of another release: %q", got)
	}
}

func TestPodsAreSummedByReleaseAndWorkload(t *testing.T) {
	first, second := webPod("web-1"), webPod("web-2")
	second.UID = "another"
	client := fake.NewClientset(first, second)
	r := &recorder{}
	p := &prometheus{usage: map[Pod]Usage{
		{"production", "web-1"}: {CPU: 0.25, Memory: 10}, {"production", "web-2"}: {CPU: 0.5, Memory: 20}, {"other", "x"}: {CPU: 9},
	}}
	l := newLive(Sources{
		Kube: func() (kubernetes.Interface, error) { return client, nil }, Prometheus: p, Releases: []Release{{"web", "production"}},
	}, r.emit)
	running(t, func(ctx context.Context) { l.keep(ctx, "kubernetes", l.followKube) })
	eventually(t, "contact", l.kubeWatched.Load)
	if err := l.samplePods(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []event.ResourceSample{
		{Component: "release/web", CPU: 0.75, Memory: 30},
		{Component: "release/web/Deployment/web", CPU: 0.75, Memory: 30},
		{Component: "release/web/Deployment/web/Pod/web-1", CPU: 0.25, Memory: 10},
		{Component: "release/web/Deployment/web/Pod/web-2", CPU: 0.5, Memory: 20},
	}
	if got := take[event.ResourceSample](r); !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
