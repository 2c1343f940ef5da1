package live

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/health"
)

func TestCallsThatMakeOrDropResourcesWakeTheModules(t *testing.T) {
	for line, want := range map[string]bool{
		"2026-11-24T10:00:00.123  INFO --- [et.reactor-0] localstack.request.aws     : AWS sqs.DeleteQueue => 200": true,
		"INFO : AWS s3.DeleteBucket => 204":                       true,
		"INFO : AWS kms.ScheduleKeyDeletion => 200":               true,
		"INFO : AWS ssm.PutParameter => 200":                      true,
		"INFO : AWS sqs.DeleteQueue => 400 (QueueDoesNotExist)":   false,
		"INFO : AWS sqs.DeleteMessage => 200":                     false,
		"INFO : AWS s3.PutObject => 200":                          false,
		"INFO : AWS s3.DeleteObjects => 200":                      false,
		"INFO : AWS sqs.GetQueueAttributes => 200":                false,
		"a program of the user's own that writes AWS DeleteQueue": false,
	} {
		l := newLive(Sources{Health: []health.Source{{Name: "terraform/infra"}}}, func(event.Payload) {})
		l.observeLine("release/web", line)
		if l.sources[0].woken {
			t.Errorf("%q of an application wakes", line)
		}
		l.observeLine("aws", line)
		if got := l.sources[0].woken; got != want {
			t.Errorf("%q wakes: %t, want %t", line, got, want)
		}
	}
}

// tf is a Terraform module that answers what a test wants.
type tf struct {
	look, refresh event.ModuleChanged
	err           error
}

func (m *tf) Component() string                                    { return "terraform/infra" }
func (m *tf) Look(context.Context) (event.ModuleChanged, error)    { return m.look, m.err }
func (m *tf) Refresh(context.Context) (event.ModuleChanged, error) { return m.refresh, m.err }

func resources(list ...event.Resource) event.ModuleChanged {
	return event.ModuleChanged{Module: "infra", Resources: list}
}

var (
	queue   = event.Resource{Address: "aws_sqs_queue.orders", State: event.ResourceOK}
	noQueue = event.Resource{Address: "aws_sqs_queue.orders", State: event.ResourceMissing}
	bucket  = event.Resource{Address: "aws_s3_bucket.orders", State: event.ResourceOK}
	changed = event.Resource{Address: "aws_s3_bucket.orders", State: event.ResourceDrift, Detail: "tags"}
	unseen  = event.Resource{Address: "aws_x.y", State: event.ResourceOK, Detail: "not compared"}
	clean   = event.Resource{Address: "aws_x.y", State: event.ResourceOK}
)

func ok(context.Context) []event.Health {
	return []event.Health{{Component: "terraform/infra", State: event.StateOK, Reason: "3 resources", Since: time.Unix(1, 0)}}
}

func TestAMissingResourceDegradesItsModule(t *testing.T) {
	r, fake := &recorder{}, &tf{look: resources(queue, bucket)}
	m := &module{Module: fake, health: ok, emit: r.emit}
	probe := m.probe()
	if got := probe(t.Context())[0]; got.State != event.StateOK || got.Reason != "3 resources" {
		t.Errorf("with all resources: %+v", got)
	}
	probe(t.Context())
	if got := take[event.ModuleChanged](r); len(got) != 1 || got[0].Drift != 0 {
		t.Errorf("said %+v, want one word on what does not change", got)
	}

	fake.look = resources(noQueue, bucket)
	got := probe(t.Context())[0]
	if got.State != event.StateDegraded || got.Reason != "aws_sqs_queue.orders is missing in the emulator" || !got.Since.IsZero() {
		t.Errorf("without the queue: %+v", got)
	}
	if got := take[event.ModuleChanged](r); len(got) != 1 || got[0].Drift != 1 {
		t.Errorf("said %+v, want a drift of one", got)
	}

	fake.err = errors.New("no answer")
	if got := probe(t.Context())[0]; got.State != event.StateStale {
		t.Errorf("unseen: %+v", got)
	}
}

func TestAModuleThatIsNotOKIsNotLookedAt(t *testing.T) {
	waiting := event.Health{Component: "terraform/infra", State: event.StateWaiting, Reason: "not applied yet"}
	probe := WithResources(&tf{err: errors.New("looked")}, func(context.Context) []event.Health { return []event.Health{waiting} })
	if got := probe(t.Context())[0]; got != waiting {
		t.Errorf("got %+v", got)
	}
}

func TestARefreshIsCompletedByLaterLooks(t *testing.T) {
	r := &recorder{}
	fake := &tf{look: resources(queue, bucket, unseen), refresh: resources(queue, changed, clean)}
	fake.refresh.Refreshed = time.Unix(100, 0)
	m := &module{Module: fake, health: ok, emit: r.emit}
	if err := m.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	probe := m.probe()
	if got := probe(t.Context())[0]; got.State != event.StateOK {
		t.Errorf("a changed resource is no fault: %+v", got)
	}
	fake.look = resources(noQueue, bucket, unseen)
	probe(t.Context())
	said := take[event.ModuleChanged](r)
	last := said[len(said)-1]
	if last.Drift != 2 || last.Resources[1] != changed || last.Resources[2] != clean || last.Refreshed != fake.refresh.Refreshed {
		t.Errorf("said %+v, want the missing queue, the drift of the refresh and what only the refresh saw", last)
	}

	m.health = func(context.Context) []event.Health {
		return []event.Health{{Component: "terraform/infra", State: event.StateOK, Since: time.Unix(200, 0)}}
	}
	fake.look = resources(queue, bucket, unseen)
	probe(t.Context())
	said = take[event.ModuleChanged](r)
	if last := said[len(said)-1]; last.Drift != 0 || !last.Refreshed.IsZero() {
		t.Errorf("said %+v after an apply, want the refresh before it forgotten", last)
	}
}
