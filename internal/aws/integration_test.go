//go:build integration

package aws_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandbox-stack/sandbox/internal/aws"
	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/detect"
)

const testName = "awstest"

// TestEmulator takes LocalStack through its life on the real engine.
func TestEmulator(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	rt := open(t)
	network := "sandbox-" + testName
	labels := map[string]string{runtime.LabelName: testName}
	clean(t, rt, network)
	t.Cleanup(func() { clean(t, rt, network) })
	if _, err := rt.CreateNetwork(ctx, network, labels); err != nil {
		t.Fatal(err)
	}
	cfg := aws.Config{
		Name: testName, Image: localStackImage(t, rt), Services: []string{"s3", "sqs"},
		Labels: map[string]string{runtime.LabelRun: "one"},
	}

	began := time.Now()
	e := ensure(t, rt, cfg, true)
	t.Logf("created and ready after %s", time.Since(began).Round(time.Millisecond))
	healthUntil(ctx, t, e, "an emulator that is ok", func(hs []event.Health) bool {
		return !slices.ContainsFunc(hs, func(h event.Health) bool { return h.State != event.StateOK })
	})
	first, err := e.Generation(ctx)
	if err != nil {
		t.Fatal(err)
	}
	queue := createQueue(t, e)
	if want := "http://" + aws.ServiceHost + ":4566/000000000000/orders"; !strings.Contains(queue, want) {
		t.Errorf("the queue's URL is not %s:\n%s", want, queue)
	}

	// Another run with the same configuration changes nothing.
	cfg.Labels = map[string]string{runtime.LabelRun: "two"}
	began = time.Now()
	e = ensure(t, rt, cfg, false)
	t.Logf("unchanged after %s", time.Since(began).Round(time.Millisecond))
	if again, err := e.Generation(ctx); err != nil || again != first {
		t.Errorf("generation is %q (%v), was %q", again, err, first)
	}

	// A container that has died is seen, and started again.
	c, err := rt.Container(ctx, e.ContainerName())
	if err != nil {
		t.Fatal(err)
	}
	if err := rt.StopContainer(ctx, c.ID, time.Second); err != nil {
		t.Fatal(err)
	}
	healthUntil(ctx, t, e, "an emulator that has failed", func(hs []event.Health) bool {
		return hs[0].State == event.StateFailed && hs[0].Try != ""
	})
	e = ensure(t, rt, cfg, true)
	if again, err := e.Generation(ctx); err != nil || again == first {
		t.Errorf("generation after a restart is %q (%v), was %q", again, err, first)
	}

	// A changed configuration replaces it.
	cfg.Services = []string{"s3", "sqs", "ssm"}
	e = ensure(t, rt, cfg, true)
	now, err := rt.Container(ctx, e.ContainerName())
	if err != nil {
		t.Fatal(err)
	}
	if now.ID == c.ID {
		t.Error("a changed configuration did not replace the container")
	}
	if len(e.Health(ctx)) != 4 {
		t.Errorf("health has not one part for each service: %+v", e.Health(ctx))
	}

	if err := e.Delete(ctx); err != nil {
		t.Fatal(err)
	}
	if left, err := rt.Containers(ctx, labels); err != nil || len(left) != 0 {
		t.Errorf("left after delete: %v (%v)", left, err)
	}
}

// TestEmulatorThatDies must end the wait at once, with the log's end.
func TestEmulatorThatDies(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	rt := open(t)
	network := "sandbox-" + testName
	clean(t, rt, network)
	t.Cleanup(func() { clean(t, rt, network) })
	if _, err := rt.CreateNetwork(ctx, network, map[string]string{runtime.LabelName: testName}); err != nil {
		t.Fatal(err)
	}
	e, err := aws.New(rt, aws.Config{
		Name: testName, Image: localStackImage(t, rt),
		Memory: 24 << 20, // far too little for a Python program of its size
		// The test ends sooner than a wait for this container would.
		ReadyTimeout: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_, err = e.Ensure(ctx, event.Discard)
	if err == nil {
		t.Fatal("an emulator without memory started")
	}
	t.Logf("after %s: %v", time.Since(began).Round(time.Millisecond), err)
	if ctx.Err() != nil {
		t.Error("the dead container was waited for")
	}
}

// healthUntil looks at the emulator's health until it fits: a busy machine may
// not answer in time at first.
func healthUntil(ctx context.Context, t *testing.T, e *aws.Emulator, what string, fits func([]event.Health) bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		hs := e.Health(ctx)
		if fits(hs) {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Errorf("no %s: %+v", what, hs)
			return
		}
	}
}

func open(t *testing.T) runtime.Runtime {
	t.Helper()
	rt, _, err := detect.Open(t.Context(), detect.Choice{}, t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rt.Close(); err != nil {
			t.Error(err)
		}
	})
	return rt
}

// localStackImage is the image under test: the one that the environment names,
// or one that sandbox built. Without any the test fails.
func localStackImage(t *testing.T, rt runtime.Runtime) string {
	t.Helper()
	if ref := os.Getenv("SANDBOX_TEST_LOCALSTACK"); ref != "" {
		return ref
	}
	images, err := rt.Images(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, img := range images {
		for _, name := range img.Names {
			if strings.HasPrefix(name, "localhost/sandbox/localstack:") {
				return name
			}
		}
	}
	t.Fatal("no image of LocalStack in the engine: build it with `sandbox images build localstack` or set SANDBOX_TEST_LOCALSTACK")
	return ""
}

func ensure(t *testing.T, rt runtime.Runtime, cfg aws.Config, wantChanged bool) *aws.Emulator {
	t.Helper()
	e, err := aws.New(rt, cfg)
	if err != nil {
		t.Fatal(err)
	}
	changed, err := e.Ensure(t.Context(), logTo{t})
	if err != nil {
		t.Fatal(err)
	}
	if changed != wantChanged {
		t.Errorf("changed is %v, want %v", changed, wantChanged)
	}
	return e
}

// createQueue creates a queue as a client on the host would, and returns the
// emulator's answer.
func createQueue(t *testing.T, e *aws.Emulator) string {
	t.Helper()
	url, err := e.Endpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url,
		strings.NewReader(`{"QueueName":"orders"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.0")
	req.Header.Set("X-Amz-Target", "AmazonSQS.CreateQueue")
	req.Header.Set("Authorization", fmt.Sprintf(
		"AWS4-HMAC-SHA256 Credential=%s/20260101/%s/sqs/aws4_request, SignedHeaders=host, Signature=0", aws.AccessKey, e.Region()))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
	}()
	var body strings.Builder
	if err := resp.Write(&body); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("creating a queue: %s", body.String())
	}
	return body.String()
}

// clean removes what carries this test's label.
func clean(t *testing.T, rt runtime.Runtime, network string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	left, err := rt.Containers(ctx, map[string]string{runtime.LabelName: testName})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range left {
		if err := rt.RemoveContainer(ctx, c.ID); err != nil {
			t.Error(err)
		}
	}
	networks, err := rt.Networks(ctx, map[string]string{runtime.LabelName: testName})
	if err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(networks, func(n runtime.Network) bool { return n.Name == network }) {
		if err := rt.RemoveNetwork(ctx, network); err != nil {
			t.Error(err)
		}
	}
}

// logTo is a Reporter that writes to the test's log.
type logTo struct{ t *testing.T }

func (l logTo) Progress(p event.Progress) { l.t.Log(p.Text, p.Blockers) }
func (l logTo) Log(source, line string)   { l.t.Log(source + ": " + line) }
