package tui

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// recording is the run that the frames are drawn from. It can be any recording
// of a sandbox's events.jsonl; only the golden frames depend on it. Without a
// better one,
//
//	go test ./internal/tui -run TestWriteRecording -write-recording
//
// makes one up: a stack comes up, and after ten minutes its queue is deleted
// behind Terraform's back, which makes the app crash and an alert fire.
const recording = "testdata/run.jsonl"

var writeRecording = flag.Bool("write-recording", false, "make up "+recording)

type envelope = event.Envelope

func eachEnvelope(path string, do func(envelope) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	for e, err := range event.Read(f) {
		if err == nil {
			err = do(e)
		}
		if err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return f.Close()
}

// replay feeds a recording.
func replay(t testing.TB, path string) *Feed {
	t.Helper()
	feed := NewFeed()
	require.NoError(t, eachEnvelope(path, feed.Handle))
	return feed
}

func TestWriteRecording(t *testing.T) {
	if !*writeRecording {
		t.Skip("only with -write-recording")
	}
	s := &script{t: t, at: time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC)}
	s.comeUp()
	s.run()
	s.breakDown()
	require.NoError(t, os.WriteFile(recording, s.out, 0o600))
	require.Equal(t, s.seq, replay(t, recording).latest().version, "all of it can be read back")
}

// script writes a recording as it goes on.
type script struct {
	t   *testing.T
	at  time.Time
	seq uint64
	out []byte
}

// emit stamps payloads as a Log would.
func (s *script) emit(payloads ...event.Payload) {
	log := event.NewLog("20260102-100000-c0de", func() time.Time { return s.at }, event.SinkFunc(func(e event.Envelope) error {
		s.seq++
		e.Seq = s.seq
		line, err := json.Marshal(e)
		s.out = append(append(s.out, line...), '\n')
		return err
	}))
	for _, p := range payloads {
		log.Emit(p)
	}
	require.NoError(s.t, log.Close())
}

func (s *script) wait(d time.Duration) { s.at = s.at.Add(d) }

func (s *script) health(component string, state event.State, reason string, more ...func(*event.Health)) {
	h := event.Health{Component: component, State: state, Reason: reason, Since: s.at}
	for _, m := range more {
		m(&h)
	}
	s.emit(event.HealthChanged{Health: h})
}

func url(u string) func(*event.Health)    { return func(h *event.Health) { h.URL = u } }
func blames(c string) func(*event.Health) { return func(h *event.Health) { h.Blames = c } }
func try(c string) func(*event.Health)    { return func(h *event.Health) { h.Try = c } }

func (s *script) done(id, note string, took time.Duration) {
	s.emit(event.StepFinished{ID: id, Outcome: event.Done, Note: note, Elapsed: took})
}

func (s *script) start(ids ...string) {
	for _, id := range ids {
		s.emit(event.StepStarted{ID: id})
	}
}

const (
	nodePath = "cluster/node/sandbox-web-app-control-plane"
	appPath  = "release/web-app"
	webPath  = appPath + "/Deployment/web-app"
	workPath = appPath + "/Deployment/worker"
)

// comeUp is the run: two minutes from nothing to a healthy stack.
func (s *script) comeUp() {
	s.emit(event.PlanReady{Stack: "web-app", Command: "up", Engine: "podman 5.4.0 rootless", Steps: []event.PlanStep{
		{ID: "network", Title: "Create the network"},
		{ID: "cluster", Title: "Create the cluster", After: []string{"network"}},
		{ID: "aws", Title: "Start LocalStack", After: []string{"network"}},
		{ID: "image/web-app", Title: "Build web-app"},
		{ID: "terraform/infra", Title: "Apply infra", After: []string{"aws"}},
		{ID: "observe/prometheus", Title: "Start Prometheus", After: []string{"cluster"}},
		{ID: "observe/alertmanager", Title: "Start Alertmanager", After: []string{"network"}},
		{ID: "observe/grafana", Title: "Start Grafana", After: []string{"network"}},
		{ID: "load/web-app", Title: "Load web-app", After: []string{"cluster", "image/web-app"}},
		{ID: "release/web-app", Title: "Release web-app", After: []string{"load/web-app", "terraform/infra"}},
		{ID: "observe/rules", Title: "Load alerting rules", After: []string{"observe/prometheus"}},
		{ID: "health", Title: "Check health", After: []string{"release/web-app", "observe/rules"}},
	}})
	s.start("network", "image/web-app")
	s.wait(800 * time.Millisecond)
	s.done("network", "sandbox-web-app", 800*time.Millisecond)
	s.start("cluster", "aws", "observe/alertmanager", "observe/grafana")
	s.emit(event.StepFinished{ID: "observe/grafana", Outcome: event.Off, Note: "no registry can be reached, and no package has its image"})
	s.health("observe/grafana", event.StateOff, "no registry can be reached, and no package has its image")
	s.health("aws", event.StateWorking, "starting")
	s.health("cluster", event.StateWorking, "starting")
	for i, line := range []string{"STEP 1/6: FROM node:20", "STEP 2/6: WORKDIR /app", "STEP 3/6: COPY package*.json ./", "STEP 4/6: RUN npm ci --omit=dev", "added 67 packages in 4s", "STEP 5/6: COPY . .", "STEP 6/6: CMD [\"node\", \"server.js\"]"} {
		s.wait(700 * time.Millisecond)
		s.emit(event.StepLog{ID: "image/web-app", Source: "build", Line: line}, event.StepProgress{ID: "image/web-app", Progress: event.Progress{Text: "building", Done: int64(i), Total: 7, Unit: "steps"}})
	}
	s.emit(event.StepLog{ID: "aws", Source: "localstack", Line: "LocalStack version: 4.14.0"}, event.StepLog{ID: "aws", Source: "localstack", Line: "Ready."})
	s.done("aws", "4.14.0 at http://127.0.0.1:4566", 5300*time.Millisecond)
	s.health("aws", event.StateOK, "3 services", url("http://127.0.0.1:4566"))
	for _, service := range []string{"s3", "secretsmanager", "sqs"} {
		s.health("aws/"+service, event.StateOK, "")
	}
	s.done("observe/alertmanager", "0.28 at http://127.0.0.1:9093", 4*time.Second)
	s.health("observe/alertmanager", event.StateOK, "1 receiver", url("http://127.0.0.1:9093"))
	s.start("terraform/infra")
	s.wait(5 * time.Second)
	s.done("image/web-app", "9 of 11 layers cached", 11400*time.Millisecond)
	s.health("image/web-app", event.StateOK, "localhost/web-app:3f9c0e")
	for _, line := range []string{"Preparing nodes", "Writing configuration", "Starting control-plane"} {
		s.wait(4 * time.Second)
		s.emit(event.StepLog{ID: "cluster", Source: "kind", Line: line},
			event.StepProgress{ID: "cluster", Progress: event.Progress{Text: "waiting", Blockers: []string{"Node sandbox-web-app-control-plane: not ready"}}})
		s.emit(event.StepLog{ID: "terraform/infra", Source: "terraform", Line: "aws_sqs_queue.jobs: Still creating... [10s elapsed]"})
	}
	s.wait(11 * time.Second)
	s.done("terraform/infra", "6 added, 0 changed, 0 destroyed", 28*time.Second)
	s.health("terraform/infra", event.StateOK, "6 resources, no drift")
	s.module(0)
	s.wait(9 * time.Second)
	s.done("cluster", "1 node, Kubernetes v1.37.2", 43*time.Second)
	s.health("cluster", event.StateOK, "1 of 1 nodes ready", url("https://127.0.0.1:40443"))
	s.health(nodePath, event.StateOK, "v1.37.2")
	s.start("load/web-app", "observe/prometheus")
	s.wait(4 * time.Second)
	s.done("load/web-app", "225 MB on 1 node", 4*time.Second)
	s.start("release/web-app")
	s.health(appPath, event.StateWorking, "Deployment/web-app 0 of 3")
	s.wait(3 * time.Second)
	s.done("observe/prometheus", "2.53 at http://127.0.0.1:9090", 7*time.Second)
	s.health("observe/prometheus", event.StateOK, "9 of 9 targets up", url("http://127.0.0.1:9090"))
	s.start("observe/rules")
	s.wait(2 * time.Second)
	s.done("observe/rules", "6 rules", 2*time.Second)
	s.health("observe/rules", event.StateOK, "6 loaded", url("http://127.0.0.1:9090/alerts"))
	for _, r := range rules {
		s.emit(event.AlertChanged{Rule: r[0], State: "inactive", Labels: map[string]string{"severity": r[1]}})
	}
	s.emit(event.AlertmanagerChanged{Receivers: []string{"sandbox-webhook"}})
	s.emit(event.ObjectEvent{Type: event.Normal, Source: "deployment-controller", Object: "deployment/web-app", Namespace: "production", Reason: "ScalingReplicaSet", Message: "Scaled up replica set web-app-6f8b9c7d5 from 0 to 3"})
	for _, pod := range append(webPods, workerPod) {
		s.emit(event.ObjectEvent{Type: event.Normal, Source: "kubelet", Object: "pod/" + pod, Namespace: "production", Reason: "Started", Message: "Started container"})
	}
	s.wait(12 * time.Second)
	s.done("release/web-app", "revision 1, 4 objects ready", 17*time.Second)
	s.health(appPath, event.StateOK, "4 objects ready", url("http://127.0.0.1:8080"))
	s.health(webPath, event.StateOK, "3 of 3 ready")
	for _, pod := range webPods {
		s.health(webPath+"/Pod/"+pod, event.StateOK, "")
	}
	s.health(workPath, event.StateOK, "1 of 1 ready")
	s.health(workPath+"/Pod/"+workerPod, event.StateOK, "")
	s.start("health")
	s.wait(2 * time.Second)
	s.done("health", "all components are well", 2*time.Second)
	s.emit(event.RunFinished{OK: true, Elapsed: s.at.Sub(time.Date(2026, 1, 2, 10, 0, 0, 0, time.UTC))})
}

var (
	webPods   = []string{"web-app-6f8b9c7d5-4kzxq", "web-app-6f8b9c7d5-9hmtr", "web-app-6f8b9c7d5-pw2vd"}
	workerPod = "worker-77c5d8f94b-x6jlc"
	rules     = [][2]string{{"DiskPressure", "warning"}, {"PodCrashLooping", "warning"}, {"QueueBacklog", "warning"}, {"WebAppDown", "critical"}, {"WebHighErrorRate", "critical"}, {"WebLatencyP99", "warning"}}
)

// module is the Terraform module, with that many resources gone.
func (s *script) module(missing int) {
	m := event.ModuleChanged{Module: "infra", Tool: "terraform 1.11.4", Provider: "aws 6.34.0", Drift: missing, Refreshed: s.at}
	for _, a := range []string{"aws_s3_bucket.assets", "aws_s3_bucket_versioning.assets", "aws_secretsmanager_secret.db", "aws_secretsmanager_secret_version.db", "aws_sqs_queue.dead", "aws_sqs_queue.jobs"} {
		r := event.Resource{Address: a, State: event.ResourceOK}
		_, _ = fmt.Sscanf(a, "%s", &r.Type)
		for i := range a {
			if a[i] == '.' {
				r.Type = a[:i]
			}
		}
		if missing > 0 && a == "aws_sqs_queue.jobs" {
			r.State, r.Detail = event.ResourceMissing, "deleted outside of Terraform\nname                       \"jobs\" -> (gone)\nvisibility_timeout_seconds 30 -> (gone)\nused by Deployment/web-app and Deployment/worker"
		}
		if missing > 1 && a == "aws_s3_bucket.assets" {
			r.State, r.Detail = event.ResourceDrift, "tags.owner \"web\" -> \"nobody\""
		}
		m.Resources = append(m.Resources, r)
	}
	s.emit(m)
}

// usage is what components use, in cores and MiB, and how lively they are.
var usage = []struct {
	path        string
	cpu, memory float64
}{
	{"cluster", 0.31, 1910},
	{nodePath, 0.31, 1910},
	{"aws", 0.06, 720},
	{"observe/prometheus", 0.05, 190},
	{"observe/alertmanager", 0.004, 28},
	{appPath, 0.09, 240},
	{webPath, 0.07, 168},
	{workPath, 0.02, 64},
}

// sample emits one sample of all components. A wave and a counter make them
// differ, the same way each time.
func (s *script) sample(i int, load float64) {
	for n, u := range usage {
		wave := 1 + 0.35*math.Sin(float64(i)/3+float64(n)) + 0.1*float64((i*7+n*3)%5)
		if n >= 5 {
			wave *= load
		}
		s.emit(event.ResourceSample{
			Component: u.path, CPU: math.Round(u.cpu*wave*1000) / 1000,
			Memory: int64(u.memory*(1+0.002*float64(i)))<<20 + int64(i%3)<<18,
		})
	}
}

// run is ten minutes in which all is well.
func (s *script) run() {
	for i := range 50 {
		s.wait(12 * time.Second)
		s.sample(i, 1)
		pod := webPods[i%3]
		s.emit(event.LogLine{Component: webPath, Source: pod, Line: fmt.Sprintf(`INFO  GET /orders 200 %dms trace=%08x`, 4+i%9, i*2654435761&0xffffffff)})
		s.emit(event.LogLine{Component: workPath, Source: workerPod, Line: fmt.Sprintf("INFO  took job %d from the queue", 1000+i)})
		if i%4 == 0 {
			s.emit(event.LogLine{Component: "aws", Source: "localstack", Line: "INFO  AWS sqs.ReceiveMessage => 200"})
		}
		if i%10 == 9 {
			s.emit(event.LogLine{Component: "observe/prometheus", Source: "prometheus", Line: `ts=2026-01-02T10:05:00Z level=info component=tsdb msg="Head GC completed" duration=1.2ms`})
			s.module(0)
		}
	}
}

// breakDown is what follows when the queue is deleted.
func (s *script) breakDown() {
	s.wait(2 * time.Second)
	backOff := func(pod string, n int) {
		s.emit(event.ObjectEvent{
			Type: event.Warning, Source: "kubelet", Object: "pod/" + pod, Namespace: "production", Count: n, Reason: "BackOff",
			Message: "Back-off restarting failed container web-app in pod " + pod + "_production",
		})
	}
	for i := range 8 {
		s.wait(6 * time.Second)
		s.sample(50+i, 0.2+0.4*float64(i%2))
		s.emit(event.LogLine{Component: workPath, Source: workerPod, Line: fmt.Sprintf("WARN  queue jobs is missing, retry in 5s (attempt %d)", i+1)})
		s.emit(event.LogLine{Component: "aws", Source: "localstack", Line: "INFO  AWS sqs.GetQueueUrl => 400 (QueueDoesNotExist)"})
		pod := webPods[i%3]
		s.emit(event.LogLine{Component: webPath, Source: pod, Line: "INFO  listening on :8080"})
		s.emit(event.LogLine{Component: webPath, Source: pod, Line: "ERROR AWS.SimpleQueueService.NonExistentQueue: The specified queue does not exist (http://sqs.aws.svc.cluster.local:4566/000000000000/jobs) while answering POST /orders, giving up after 3 attempts and 1.4s"})
		s.emit(event.LogLine{Component: webPath, Source: pod, Line: "FATAL exit 1"})
		backOff(pod, i/3+1)
		switch i {
		case 0:
			s.health(appPath, event.StateDegraded, "Deployment/web-app 2 of 3 ready", url("http://127.0.0.1:8080"))
			s.health(webPath, event.StateDegraded, "2 of 3 ready: web-app-6f8b9c7d5-4kzxq: Error, exit 1")
			s.health(webPath+"/Pod/"+webPods[0], event.StateFailed, "container web-app: Error, exit 1")
		case 1:
			s.emit(event.AlertChanged{Rule: "WebHighErrorRate", State: "pending", Labels: map[string]string{"severity": "critical", "namespace": "production", "app": "web-app"}, Value: "0.42", Since: s.at})
		case 2:
			s.health("terraform/infra", event.StateDegraded, "1 missing, 1 drifted of 6 resources", try("sandbox up"))
			s.module(2)
			s.emit(event.ObjectEvent{Type: event.Warning, Source: "terraform", Object: "aws_sqs_queue.jobs", Reason: "Missing", Message: "deleted outside of Terraform"})
		case 3:
			s.health(appPath, event.StateFailed, "Deployment/web-app 0 of 3: CrashLoopBackOff", url("http://127.0.0.1:8080"), blames("terraform/infra"), try("sandbox logs release/web-app"))
			s.health(webPath, event.StateFailed, "0 of 3 ready: container web-app: CrashLoopBackOff, exit 1, 4 restarts", blames("terraform/infra"))
			for _, p := range webPods {
				s.health(webPath+"/Pod/"+p, event.StateFailed, "container web-app: CrashLoopBackOff, exit 1")
			}
		case 4:
			s.emit(event.AlertChanged{Rule: "WebAppDown", State: "pending", Labels: map[string]string{"severity": "critical", "namespace": "production", "app": "web-app"}, Value: "0", Since: s.at})
			s.health(workPath, event.StateWorking, "1 of 1 ready: rolling out revision 2")
		case 5:
			s.emit(event.AlertChanged{Rule: "WebHighErrorRate", State: "firing", Labels: map[string]string{"severity": "critical", "namespace": "production", "app": "web-app"}, Value: "1", Since: s.at.Add(-24 * time.Second)})
			s.emit(event.AlertmanagerChanged{Active: 1, Receivers: []string{"sandbox-webhook"}})
			s.health("observe/rules", event.StateOK, "6 loaded, firing: WebHighErrorRate", url("http://127.0.0.1:9090/alerts"))
		case 7:
			s.emit(event.AlertChanged{Rule: "PodCrashLooping", State: "firing", Labels: map[string]string{"severity": "warning", "namespace": "production", "pod": webPods[0]}, Value: "4", Since: s.at.Add(-40 * time.Second)})
			s.emit(event.AlertmanagerChanged{Active: 2, Inhibited: 1, Receivers: []string{"sandbox-webhook"}})
			s.health("observe/rules", event.StateOK, "6 loaded, firing: WebHighErrorRate, PodCrashLooping", url("http://127.0.0.1:9090/alerts"))
		}
	}
	s.wait(2 * time.Second)
	s.emit(event.LogLine{Component: webPath, Source: webPods[1], Line: "INFO  naïve café ☕ 日本語 e\u0301 done"})
}
