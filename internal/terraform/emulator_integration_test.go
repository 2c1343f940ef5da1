//go:build integration

package terraform

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/detect"
)

// These tests need a container engine, an image of LocalStack in its store and a mirror
// that has the AWS provider: "sandbox images build" makes both. They fail
// where something is missing. SANDBOX_TEST_LOCALSTACK names another image,
// SANDBOX_TEST_PROVIDERS another mirror.

const itName = "it-terraform"

// emulator is a LocalStack container that can lose its memory.
type emulator struct {
	rt    runtime.Runtime
	image string
	id    string
}

func newEmulator(t *testing.T) *emulator {
	t.Helper()
	rt, _, err := detect.Open(t.Context(), detect.Choice{}, t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	e := &emulator{rt: rt, image: os.Getenv("SANDBOX_TEST_LOCALSTACK")}
	if e.image == "" {
		images, err := rt.Images(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range images {
			if n := slices.IndexFunc(i.Names, func(s string) bool { return strings.Contains(s, "/localstack:") }); n >= 0 {
				e.image = i.Names[n]
			}
		}
	}
	if e.image == "" {
		t.Fatal("no image of LocalStack in the engine's store: build it with \"sandbox images build localstack\"")
	}
	e.remove(t)
	t.Cleanup(func() {
		e.remove(t)
		if err := rt.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func (e *emulator) remove(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Minute)
	defer cancel()
	all, err := e.rt.Containers(ctx, map[string]string{runtime.LabelName: itName})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if err := e.rt.RemoveContainer(ctx, c.ID); err != nil {
			t.Fatal(err)
		}
	}
}

// start starts an emulator that knows nothing, on a free port or, later, the
// same one, and waits until it answers.
func (e *emulator) start(t *testing.T, port int) (url, generation string) {
	t.Helper()
	c, err := e.rt.CreateContainer(t.Context(), runtime.ContainerSpec{
		Name: itName, Image: e.image,
		Labels: map[string]string{runtime.LabelName: itName, runtime.LabelComponent: "aws", runtime.LabelRun: "test"},
		Env:    map[string]string{"GATEWAY_LISTEN": "0.0.0.0:4566", "DISABLE_EVENTS": "1", "SKIP_SSL_CERT_DOWNLOAD": "1"},
		Ports:  []runtime.Port{{HostPort: port, Container: 4566}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.rt.StartContainer(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	if c, err = e.rt.Container(t.Context(), c.ID); err != nil || len(c.Ports) != 1 {
		t.Fatalf("container %+v, error %v", c, err)
	}
	e.id = c.ID
	url = fmt.Sprintf("http://127.0.0.1:%d", c.Ports[0].HostPort)
	_, err = backoff.Retry(t.Context(), func() (bool, error) {
		res, err := http.Get(url + "/_localstack/health")
		if err != nil {
			return false, err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return false, fmt.Errorf("health: %s", res.Status)
		}
		return true, nil
	}, backoff.WithMaxElapsedTime(5*time.Minute), backoff.WithBackOff(backoff.NewConstantBackOff(200*time.Millisecond)))
	if err != nil {
		t.Fatal(err)
	}
	return url, c.ID
}

// call sends a request as an AWS client with the fake key would.
func call(t *testing.T, method, url, region, service string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=test/20260101/%s/%s/aws4_request, SignedHeaders=host, Signature=0", region, service))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 {
		t.Fatalf("%s %s: %s", method, url, res.Status)
	}
}

// canary is a proxy that lets nothing through and remembers who was asked for.
type canary struct {
	mu    sync.Mutex
	hosts []string
}

func (c *canary) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hosts = append(c.hosts, r.Host)
	http.Error(w, "no way out", http.StatusForbidden)
}

func providerMirror(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("SANDBOX_TEST_PROVIDERS")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(cache, "sandbox", "providers")
	}
	have, err := readMirror(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(have[terraformHost+"/"+awsSource]) == 0 {
		t.Fatalf("no AWS provider in the mirror %s: build it with \"sandbox images build terraform-provider-aws\"", dir)
	}
	return dir
}

func TestLifeWithTheEmulator(t *testing.T) {
	mirror := providerMirror(t)
	e := newEmulator(t)
	url, generation := e.start(t, 0)
	watch := &canary{}
	proxy := httptest.NewServer(watch)
	defer proxy.Close()
	dir := t.TempDir()
	cfg := Config{
		Name: "infra", SourceDir: "testdata/emulator", Workspace: filepath.Join(dir, "ws"), CacheDir: filepath.Join(dir, "cache"),
		Endpoint: url, Generation: generation, PluginMirror: mirror, Vars: map[string]any{"prefix": "it"},
		Environ: append(os.Environ(), "AWS_PROFILE=production", "AWS_ENDPOINT_URL_SQS=https://sqs.us-east-1.amazonaws.com",
			"HTTPS_PROXY="+proxy.URL, "HTTP_PROXY="+proxy.URL, "https_proxy="+proxy.URL, "http_proxy="+proxy.URL),
	}
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}

	step := func(name string, f func(t *testing.T)) {
		start := time.Now()
		if !t.Run(name, f) {
			t.FailNow()
		}
		t.Logf("%s: %s", name, time.Since(start).Round(10*time.Millisecond))
	}
	step("first apply", func(t *testing.T) {
		rep := &recorder{}
		res, err := m.Apply(t.Context(), rep)
		if err != nil {
			t.Fatalf("%v\n%s", err, rep.log())
		}
		if res.Added != 9 || res.Unchanged {
			t.Errorf("result = %+v", res)
		}
		if !slices.ContainsFunc(rep.progress, func(p event.Progress) bool { return strings.HasPrefix(p.Text, "aws_sqs_queue.orders: creating ") }) {
			t.Error("the slow queue was not reported")
		}
	})
	step("outputs", func(t *testing.T) {
		out, err := m.Outputs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if out["bucket"].Value != "it-uploads" || out["account"].Value != "000000000000" ||
			!strings.Contains(fmt.Sprint(out["queue_url"].Value), "it-orders") || !out["database_url"].Sensitive {
			t.Errorf("outputs = %+v", out)
		}
	})
	step("check", func(t *testing.T) {
		start := time.Now()
		if st := check(t, m); !st.Unchanged {
			t.Errorf("check = %+v", st)
		}
		t.Logf("check took %s", time.Since(start))
		if h := health(t, m); h.State != event.StateOK || h.Reason != "9 resources" {
			t.Errorf("health = %+v", h)
		}
	})
	step("second apply", func(t *testing.T) {
		if res := apply(t, m); !res.Unchanged {
			t.Errorf("result = %+v", res)
		}
	})
	step("drift", func(t *testing.T) {
		if d, err := m.Drift(t.Context(), event.Discard); err != nil || len(d.Drift) != 0 {
			t.Errorf("drift before = %+v, %v", d, err)
		}
		call(t, http.MethodDelete, url+"/it-uploads", "eu-central-1", "s3")
		want := []Change{{Address: "module.uploads.aws_s3_bucket.this", Type: "aws_s3_bucket", Action: "delete"}}
		if d, err := m.Drift(t.Context(), event.Discard); err != nil || !reflect.DeepEqual(d.Drift, want) {
			t.Errorf("drift = %+v, %v", d, err)
		}
	})
	step("apply mends the drift", func(t *testing.T) {
		if res := apply(t, m); res.Added != 1 || res.Changed != 0 {
			t.Errorf("result = %+v", res)
		}
	})
	step("recreated emulator is filled again", func(t *testing.T) {
		e.remove(t)
		m.cfg.Endpoint, m.cfg.Generation = e.start(t, 0)
		if st := check(t, m); st.Unchanged {
			t.Errorf("check = %+v", st)
		}
		if res := apply(t, m); res.Added != 9 || res.Lost != 9 {
			t.Errorf("result = %+v", res)
		}
	})
	step("emulator gone", func(t *testing.T) {
		e.remove(t)
		_, err := m.Apply(t.Context(), event.Discard)
		f := asFault(t, err)
		if f.Code != fault.Unavailable {
			t.Errorf("fault = %+v", f)
		}
	})
	step("nothing but the emulator was asked", func(t *testing.T) {
		watch.mu.Lock()
		defer watch.mu.Unlock()
		if len(watch.hosts) != 0 {
			t.Errorf("the tool asked for %v", watch.hosts)
		}
	})
}

// A killed run leaves what its state does not know; the next one says so.
func TestLeftoversAreRecognized(t *testing.T) {
	mirror := providerMirror(t)
	e := newEmulator(t)
	url, generation := e.start(t, 0)
	m := module(t, map[string]string{"main.tf": `
resource "aws_iam_role" "app" {
  name               = "left-over"
  assume_role_policy = jsonencode({ Version = "2012-10-17", Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "ec2.amazonaws.com" } }] })
}
`}, func(c *Config) { c.Endpoint, c.Generation, c.PluginMirror = url, generation, mirror })
	apply(t, m)
	for _, f := range []string{m.paths.state, m.paths.record} {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	_, err := m.Apply(t.Context(), event.Discard)
	if f := asFault(t, err); !errors.Is(err, ErrLeftovers) || !strings.Contains(f.Try, "sandbox down") {
		t.Errorf("fault = %+v", f)
	}
}

// The tool and the provider it started end with the interrupt.
func TestInterruptLeavesNoProcess(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	m := module(t, map[string]string{"main.tf": "resource \"aws_s3_bucket\" \"b\" {\n  bucket = \"b\"\n}\n"},
		func(c *Config) { c.Endpoint, c.PluginMirror = "http://"+silent.Addr().String(), providerMirror(t) })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	go func() {
		if conn, err := silent.Accept(); err == nil {
			defer conn.Close()
			cancel() // the provider waits for an answer
			<-t.Context().Done()
		}
	}()
	_, err = m.Apply(ctx, event.Discard)
	if f := asFault(t, err); f.Code != fault.Interrupted {
		t.Errorf("fault = %+v", f)
	}
	// What the kernel was told to end has ended a moment later.
	timeout, ticker := time.After(30*time.Second), time.NewTicker(50*time.Millisecond)
	defer ticker.Stop()
	for left := processesIn(t, m.paths.run); len(left) != 0; left = processesIn(t, m.paths.run) {
		select {
		case <-timeout:
			t.Fatalf("still running: %v", left)
		case <-ticker.C:
		}
	}
}

// processesIn lists the processes that run in a folder.
func processesIn(t *testing.T, dir string) []string {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && target == dir {
			name, err := os.ReadFile(filepath.Join(filepath.Dir(link), "comm"))
			if err == nil {
				found = append(found, strings.TrimSpace(string(name)))
			}
		}
	}
	return found
}
