//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	promapi "github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/observe"
	"github.com/sandbox-stack/sandbox/internal/render"
)

// TestWebApp brings the main stack up once and holds everything that is said
// of a running stack against it.
func TestWebApp(t *testing.T) {
	const name = "e2e-web"
	w := newWorld(t, name)
	w.mustUp(name, "web-app")
	env := decode[map[string]string](t, w.must("env", "--name", name, "-o", "json"))

	t.Run("every component must be ok, or off with its reason", func(t *testing.T) {
		st := w.healthy(name) // a pod's first scrape may come before it answers
		for _, want := range []string{
			"cluster", "aws", "aws/s3", "aws/sqs", "terraform/infra", "image/web-app", "release/web-app",
			"observe/prometheus", "observe/alertmanager", "observe/grafana", "observe/rules", "observe/exporter",
		} {
			h := component(t, st, want)
			switch {
			case h.State == event.StateOff && want == "observe/grafana":
				if h.Reason == "" {
					t.Errorf("%s is off without a reason", want)
				}
			case h.State != event.StateOK:
				t.Errorf("%s is %s: %s", want, h.State, h.Reason)
			}
		}
	})
	t.Run("an order must reach the queue, the bucket and the metrics", func(t *testing.T) { dataPath(t, env) })
	t.Run("every dashboard query must return data", func(t *testing.T) { dashboardQueries(t, env) })
	t.Run("the rules of the specification must be loaded", func(t *testing.T) { rulesLoaded(t, env) })
	t.Run("pods of the app must be scraped, and nodes, and kube-state-metrics", func(t *testing.T) { targetsUp(t, env) })
	t.Run("logs must hold the app's own lines", func(t *testing.T) {
		out := w.must("logs", "release/web-app", "--name", name, "--tail", "50")
		if !strings.Contains(out, `"level":"info"`) {
			t.Errorf("no line of the app in:\n%s", out)
		}
	})
	t.Run("exec must give other tools the sandbox", func(t *testing.T) {
		out := w.must("exec", "--name", name, "--", "kubectl", "get", "nodes", "-o", "name")
		if want := "node/sandbox-" + name + "-control-plane"; strings.TrimSpace(out) != want {
			t.Errorf("nodes: got %q, want %q", out, want)
		}
		if res := w.run("exec", "--name", name, "--", "sh", "-c", "exit 7"); res.code != 7 {
			t.Errorf("exit code of the command: got %d, want 7", res.code)
		}
	})
	t.Run("a second up must change nothing", func(t *testing.T) {
		// Whether health has to be waited for depends on the moment.
		before := w.containers(name)
		w.mustUp(name, "web-app")
		for _, e := range w.lastRun(name) {
			if f := e.StepFinished; f != nil && f.ID != "health" && f.Outcome != event.Unchanged && f.Outcome != event.Off {
				t.Errorf("step %s: %s (%s)", f.ID, f.Outcome, f.Note)
			}
		}
		if after := w.containers(name); !slices.Equal(before, after) {
			t.Errorf("containers before:\n%v\nafter:\n%v", before, after)
		}
	})
	t.Run("a killed pod must show and heal", func(t *testing.T) { killedPod(t, w, name, env) })
	t.Run("a drill must prove its alert, and leave nothing", func(t *testing.T) { drilled(t, w, name, env) })
	t.Run("the unit tests of the rules must pass", func(t *testing.T) {
		if res := w.run("alerts", "test", "web-app", "--progress", "plain"); res.code != 0 || !strings.Contains(res.stderr, "tests of alerts") {
			t.Errorf("exit %d\n%s", res.code, res.stderr)
		}
	})
	t.Run("an emulator that lost its state must be filled again", func(t *testing.T) { lostEmulator(t, w, name, env) })
	t.Run("the dashboard must show faults and their repair", func(t *testing.T) { faultsOnScreen(t, w, name, env) })
	t.Run("down must leave nothing", func(t *testing.T) {
		w.must("down", "--name", name, "--images")
		w.assertNothingLeft(name, env)
		w.assertKubeconfigUntouched()
	})
}

func (w *world) status(name string, more ...string) render.Status {
	w.t.Helper()
	res := w.run(append([]string{"status", "--name", name, "-o", "json"}, more...)...)
	if res.code != 0 && res.code != 5 {
		w.t.Fatalf("status: exit %d\n%s", res.code, res.stderr)
	}
	list := decode[[]render.Status](w.t, res.stdout)
	if len(list) != 1 {
		w.t.Fatalf("status of one sandbox: got %d", len(list))
	}
	return list[0]
}

// healthy waits until the sandbox is healthy, and returns its status then.
func (w *world) healthy(name string) render.Status {
	w.t.Helper()
	st := w.status(name, "--wait", "2m")
	for _, h := range st.Components {
		if !h.State.Healthy() {
			w.t.Errorf("%s is %s: %s", h.Component, h.State, h.Reason)
		}
	}
	if !st.State.Healthy() {
		w.t.Errorf("%s is %s", name, st.State)
	}
	return st
}

func component(t *testing.T, st render.Status, id string) event.Health {
	t.Helper()
	for _, h := range st.Components {
		if h.Component == id {
			return h
		}
	}
	t.Errorf("status has no component %s", id)
	return event.Health{}
}

func kube(t *testing.T, env map[string]string) kubernetes.Interface {
	t.Helper()
	cfg, err := clientcmd.BuildConfigFromFlags("", env["KUBECONFIG"])
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// throughService sends a request to the app through its Service.
func throughService(ctx context.Context, client kubernetes.Interface, verb, path, body string) ([]byte, error) {
	req := client.CoreV1().RESTClient().Verb(verb).Namespace("production").Resource("services").
		Name("web-app-service:80").SubResource("proxy").Suffix(path)
	if body != "" {
		req = req.SetHeader("Content-Type", "application/json").Body([]byte(body))
	}
	return req.DoRaw(ctx)
}

func prometheus(t *testing.T, env map[string]string) promv1.API {
	t.Helper()
	client, err := promapi.NewClient(promapi.Config{Address: env["PROMETHEUS_URL"]})
	if err != nil {
		t.Fatal(err)
	}
	return promv1.NewAPI(client)
}

// number returns the single value of a query.
func number(ctx context.Context, api promv1.API, query string) (float64, error) {
	value, _, _, err := api.Query(ctx, query, time.Now())
	if err != nil {
		return 0, err
	}
	vector, ok := value.(model.Vector)
	if !ok || len(vector) == 0 {
		return 0, fmt.Errorf("%s: no data", query)
	}
	return float64(vector[0].Value), nil
}

func awsConfig(env map[string]string) aws.Config {
	return aws.Config{
		Region: env["AWS_REGION"], BaseEndpoint: aws.String(env["AWS_ENDPOINT_URL"]),
		Credentials: credentials.NewStaticCredentialsProvider(env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], ""),
	}
}

func dataPath(t *testing.T, env map[string]string) {
	client, ctx := kube(t, env), t.Context()
	// The Service may still lead to a pod that is gone.
	var answer []byte
	eventually(t, time.Minute, "POST /orders", func(ctx context.Context) (err error) {
		if answer, err = throughService(ctx, client, "POST", "/orders", `{"item":"e2e lamp","quantity":3}`); err != nil {
			return fmt.Errorf("%w\n%s", err, answer)
		}
		return nil
	})
	created := decode[struct {
		Order     struct{ ID, Item string }
		MessageID string
	}](t, string(answer))
	if created.Order.ID == "" || created.MessageID == "" {
		t.Fatalf("POST /orders answered %s", answer)
	}

	objects := s3.NewFromConfig(awsConfig(env), func(o *s3.Options) { o.UsePathStyle = true })
	buckets, err := objects.ListBuckets(ctx, &s3.ListBucketsInput{})
	if err != nil || len(buckets.Buckets) != 1 {
		t.Fatalf("buckets: %v, %+v", err, buckets)
	}
	object, err := objects.GetObject(ctx, &s3.GetObjectInput{
		Bucket: buckets.Buckets[0].Name, Key: aws.String("orders/" + created.Order.ID + ".json"),
	})
	if err != nil {
		t.Fatalf("object of the order: %v", err)
	}
	stored, err := io.ReadAll(object.Body)
	if err != nil || !strings.Contains(string(stored), "e2e lamp") {
		t.Errorf("object: %v\n%s", err, stored)
	}

	queues := sqs.NewFromConfig(awsConfig(env))
	list, err := queues.ListQueues(ctx, &sqs.ListQueuesInput{})
	if err != nil || len(list.QueueUrls) != 1 {
		t.Fatalf("queues: %v, %+v", err, list)
	}
	eventually(t, time.Minute, "message of the order on the queue", func(ctx context.Context) error {
		got, err := queues.ReceiveMessage(ctx, &sqs.ReceiveMessageInput{QueueUrl: &list.QueueUrls[0], MaxNumberOfMessages: 10, WaitTimeSeconds: 1})
		if err != nil {
			return err
		}
		for _, m := range got.Messages {
			if strings.Contains(*m.Body, created.Order.ID) {
				return nil
			}
		}
		return fmt.Errorf("%d messages, none of order %s", len(got.Messages), created.Order.ID)
	})

	eventually(t, time.Minute, "GET /orders", func(ctx context.Context) error {
		answer, err := throughService(ctx, client, "GET", "/orders", "")
		if err == nil && !strings.Contains(string(answer), created.Order.ID) {
			err = fmt.Errorf("without order %s: %s", created.Order.ID, answer)
		}
		return err
	})
	eventually(t, 2*time.Minute, "the counter in Prometheus", func(ctx context.Context) error {
		n, err := number(ctx, prometheus(t, env), `sum(orders_created_total{namespace="production"})`)
		if err == nil && n < 1 {
			err = fmt.Errorf("orders_created_total is %v", n)
		}
		return err
	})
}

func dashboardQueries(t *testing.T, env map[string]string) {
	queries, err := observe.DashboardQueries("../stacks/web-app/dashboards")
	if err != nil {
		t.Fatal(err)
	}
	if len(queries) == 0 {
		t.Fatal("no query in the dashboards")
	}
	for _, q := range queries {
		eventually(t, 2*time.Minute, q.Panel+": "+q.Expr, func(ctx context.Context) error {
			value, _, _, err := prometheus(t, env).Query(ctx, q.Expr, time.Now())
			if err != nil {
				return err
			}
			if vector, ok := value.(model.Vector); ok && len(vector) == 0 {
				return errors.New("no data")
			}
			return nil
		})
	}
}

func rulesLoaded(t *testing.T, env map[string]string) {
	// A rule has no health before it is first evaluated.
	eventually(t, time.Minute, "healthy rules", func(ctx context.Context) error {
		rules, err := prometheus(t, env).Rules(ctx, nil)
		if err != nil {
			return err
		}
		health := map[string]promv1.RuleHealth{}
		for _, g := range rules.Groups {
			for _, r := range g.Rules {
				if alert, ok := r.(promv1.AlertingRule); ok {
					health[alert.Name] = alert.Health
				}
			}
		}
		var bad []error
		for _, want := range []string{"PodCrashLooping", "HighMemoryUsage", "WebAppDown"} {
			if health[want] != promv1.RuleHealthGood {
				bad = append(bad, fmt.Errorf("rule %s: health %q", want, health[want]))
			}
		}
		return errors.Join(bad...)
	})
}

func targetsUp(t *testing.T, env map[string]string) {
	for job, least := range map[string]float64{
		"kubernetes-pods": 3, "kubernetes-cadvisor": 1, "kubernetes-kubelet": 1, "kube-state-metrics": 1, "prometheus": 1, "alertmanager": 1,
	} {
		eventually(t, 2*time.Minute, "targets of "+job, func(ctx context.Context) error {
			n, err := number(ctx, prometheus(t, env), fmt.Sprintf("sum(up{job=%q})", job))
			if err == nil && n < least {
				err = fmt.Errorf("%v up, want %v", n, least)
			}
			return err
		})
	}
}

// killedPod deletes a pod: status must stop being ok, and be ok again once
// the Deployment has replaced it. The node takes no new pod until that was seen,
// however long a look takes.
func killedPod(t *testing.T, w *world, name string, env map[string]string) {
	client := kube(t, env)
	pods, err := client.CoreV1().Pods("production").List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/instance=web-app"})
	if err != nil || len(pods.Items) != 3 {
		t.Fatalf("pods of the release: %v, %d", err, len(pods.Items))
	}
	cordon(t, client, pods.Items[0].Spec.NodeName, true)
	defer cordon(t, client, pods.Items[0].Spec.NodeName, false)
	if err := client.CoreV1().Pods("production").Delete(t.Context(), pods.Items[0].Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, "release/web-app not ok", func(context.Context) error {
		h := component(t, w.status(name), "release/web-app")
		if h.State == event.StateOK {
			return errors.New("still ok")
		}
		if h.Reason == "" {
			return errors.New("no reason for " + string(h.State))
		}
		return nil
	})
	cordon(t, client, pods.Items[0].Spec.NodeName, false)
	w.healthy(name)
}

// cordon keeps new pods from a node, or lets them in again.
func cordon(t *testing.T, client kubernetes.Interface, node string, closed bool) {
	t.Helper()
	patch := fmt.Sprintf(`{"spec":{"unschedulable":%t}}`, closed)
	if _, err := client.CoreV1().Nodes().Patch(t.Context(), node, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Errorf("cordon %s: %v", node, err)
	}
}

// lostEmulator restarts the emulator, which forgets everything: status must
// blame it, and up must create the resources anew.
func lostEmulator(t *testing.T, w *world, name string, env map[string]string) {
	w.ask("restart", "-t", "2", "sandbox-"+name+"-aws")
	eventually(t, time.Minute, "terraform/infra failed", func(context.Context) error {
		h := component(t, w.status(name), "terraform/infra")
		if h.State == event.StateOK {
			return errors.New("still ok")
		}
		return nil
	})
	if res := w.run("status", "--name", name); res.code != 5 {
		t.Errorf("status of an unhealthy sandbox: exit %d, want 5", res.code)
	}
	w.mustUp(name, "web-app")
	dataPath(t, env)
}

// lastRun returns the recorded events of the last run.
func (w *world) lastRun(name string) []event.Envelope {
	w.t.Helper()
	f, err := os.Open(filepath.Join(w.state, "sandbox", name, "events.jsonl"))
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	var all []event.Envelope
	for e, err := range event.Read(f) {
		if err != nil {
			w.t.Fatal(err)
		}
		if e.PlanReady != nil {
			all = nil
		}
		all = append(all, e)
	}
	if len(all) == 0 {
		w.t.Fatal("no events were recorded")
	}
	return all
}

// assertNothingLeft checks the engine, the ports, the processes and the files.
func (w *world) assertNothingLeft(name string, env map[string]string) {
	w.t.Helper()
	label := "label=sandbox.name=" + name
	for what, args := range map[string][]string{
		"containers": {"ps", "-a", "-q", "--filter", label},
		"nodes":      {"ps", "-a", "-q", "--filter", "label=io.x-k8s.kind.cluster=sandbox-" + name},
		"networks":   {"network", "ls", "-q", "--filter", label},
		"volumes":    {"volume", "ls", "-q", "--filter", "label=io.x-k8s.kind.cluster=sandbox-" + name},
		"images":     {"images", "-q", "--filter", label},
	} {
		if out := w.ask(args...); strings.TrimSpace(out) != "" {
			w.t.Errorf("%s are left:\n%s", what, out)
		}
	}
	// A port that is free again may have been given to another program, which has
	// no such page.
	for variable, page := range map[string]string{
		"AWS_ENDPOINT_URL": "/_localstack/health", "PROMETHEUS_URL": "/api/v1/status/buildinfo", "ALERTMANAGER_URL": "/api/v2/status",
	} {
		eventually(w.t, 30*time.Second, variable+" is refused", func(ctx context.Context) error {
			return refused(ctx, env[variable]+page)
		})
	}
	if _, err := os.Stat(filepath.Join(w.state, "sandbox", name)); !errors.Is(err, os.ErrNotExist) {
		w.t.Errorf("the state folder is left: %v", err)
	}
	eventually(w.t, 30*time.Second, "no process is left", func(context.Context) error {
		for _, cmdline := range processes(w.t) {
			if strings.Contains(cmdline, w.state) {
				return errors.New(cmdline)
			}
		}
		return nil
	})
}

// refused returns an error while the page is there.
func refused(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil // as it should be
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil
	}
	return errors.New(url + " still answers")
}

// processes returns the command lines of all processes.
func processes(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, f := range files {
		if data, err := os.ReadFile(f); err == nil { // it may have ended meanwhile
			list = append(list, strings.ReplaceAll(string(data), "\x00", " "))
		}
	}
	return list
}
