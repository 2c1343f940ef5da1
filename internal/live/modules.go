package live

import (
	"context"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/health"
)

// A comparison by Terraform takes seconds of CPU, as its provider has to start,
// so it can't be what shows a deleted resource within seconds, nor run every
// minute beside an idle dashboard. Instead the emulator itself is asked whether
// the resources of the state are there, which takes milliseconds: at each look
// at the module's health, and at once when the emulator's log tells of a call
// that creates or deletes something. Terraform compares when a user asks.

// mutation matches the emulator's log line of a call that succeeded in making
// or dropping a resource: "AWS sqs.DeleteQueue => 200".
var mutation = regexp.MustCompile(`\bAWS [a-z0-9-]+\.(?:Create|Delete|Put|Schedule|Cancel|Restore)(\w*) => 2\d\d`)

// contents are what calls of these names make or drop: what applications do
// with resources all the time, and not resources.
var contents = []string{
	"Object", "Objects", "Message", "MessageBatch", "Item", "Record", "Records", "RecordBatch", "Events", "LogEvents", "MetricData",
	"MultipartUpload",
}

// observeLine learns from a component's log line.
func (l *live) observeLine(component, line string) {
	if component != "aws" || !strings.Contains(line, "AWS ") {
		return
	}
	if m := mutation.FindStringSubmatch(line); m != nil && !slices.Contains(contents, m[1]) {
		l.wake("terraform")
	}
}

// module is a Terraform module and what is known of it.
type module struct {
	Module
	health health.Probe
	emit   func(event.Payload)

	mu sync.Mutex // held during a look and a refresh: they share the workspace
	// refreshed is what the last full comparison found, by address.
	refreshed map[string]event.Resource
	at        time.Time
	// said is what was said last; probes read it during a full comparison.
	said atomic.Pointer[event.ModuleChanged]
}

// WithResources returns the health of a module, completed with a look at its
// resources.
func WithResources(m Module, of health.Probe) health.Probe {
	return (&module{Module: m, health: of, emit: func(event.Payload) {}}).probe()
}

func (m *module) probe() health.Probe {
	return func(ctx context.Context) []event.Health {
		found := m.health(ctx)
		i := slices.IndexFunc(found, func(h event.Health) bool { return h.Component == m.Component() })
		if i < 0 || found[i].State != event.StateOK {
			return found // there is nothing to compare, or nothing to compare with
		}
		if !m.mu.TryLock() {
			// A full comparison is under way; until it tells, what was seen counts.
			if last := m.said.Load(); last != nil {
				found[i] = judge(found[i], *last)
			}
			return found
		}
		defer m.mu.Unlock()
		seen, err := m.Look(ctx)
		if err != nil {
			found[i].State, found[i].Reason = event.StateStale, "its resources can't be looked at: "+err.Error()
			return found
		}
		if found[i].Since.After(m.at) {
			m.refreshed, m.at = nil, time.Time{} // the module was applied since
		}
		m.tell(m.merge(seen))
		found[i] = judge(found[i], *m.said.Load())
		return found
	}
}

// merge completes what a look saw with what the last full comparison found. A
// look is newer, but does not see in what a resource that exists has changed,
// nor all types of resources; of those it says so in their detail.
func (m *module) merge(seen event.ModuleChanged) event.ModuleChanged {
	seen.Refreshed = m.at
	seen.Resources = slices.Clone(seen.Resources)
	for i, r := range seen.Resources {
		was, known := m.refreshed[r.Address]
		if known && r.State == event.ResourceOK && (r.Detail != "" || was.State == event.ResourceDrift) {
			seen.Resources[i] = was
		}
	}
	seen.Drift = seen.Differing()
	return seen
}

// tell reports what is known of the module where it has changed.
func (m *module) tell(now event.ModuleChanged) {
	if last := m.said.Load(); last == nil || !reflect.DeepEqual(*last, now) {
		m.said.Store(&now)
		m.emit(now)
	}
}

// refresh compares the module in full.
func (m *module) refresh(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	seen, err := m.Look(ctx) // which takes no time, and shows what an apply has mended
	if err != nil {
		return err
	}
	seen = m.merge(seen)
	seen.Comparing = true
	m.tell(seen)
	now, err := m.Refresh(ctx)
	if err != nil {
		seen.Comparing = false
		m.tell(seen)
		return err
	}
	m.at = now.Refreshed
	m.refreshed = map[string]event.Resource{}
	for _, r := range now.Resources {
		m.refreshed[r.Address] = r
	}
	m.tell(m.merge(now))
	return nil
}

// judge is the health of an applied module by its resources. Only a resource
// that is gone speaks against it: one that was changed works, and the Terraform
// tab shows it.
func judge(h event.Health, of event.ModuleChanged) event.Health {
	var missing []string
	for _, r := range of.Resources {
		if r.State == event.ResourceMissing {
			missing = append(missing, r.Address)
		}
	}
	if len(missing) == 0 {
		return h
	}
	h.State, h.Since, h.Try = event.StateDegraded, time.Time{}, "sandbox up"
	h.Reason = missing[0] + " is missing in the emulator"
	if more := len(missing) - 1; more > 0 {
		h.Reason = fmt.Sprintf("%s (and %d more)", h.Reason, more)
	}
	return h
}

// refreshModules compares the modules that are asked for in full, one after
// the other. What fails is told as an event.
func (l *live) refreshModules(ctx context.Context) {
	for {
		var asked string
		select {
		case <-ctx.Done():
			return
		case asked = <-l.src.Refresh:
		}
		if asked == "" {
			for _, p := range l.sources {
				p.wake()
			}
		}
		for _, m := range l.modules {
			if asked != "" && m.Component() != asked {
				continue
			}
			if err := m.refresh(ctx); err != nil && ctx.Err() == nil {
				l.emit(event.ObjectEvent{
					Type: event.Warning, Source: "sandbox", Object: "module/" + m.Component(), Reason: "RefreshFailed",
					Message: err.Error(), Last: time.Now(),
				})
			}
		}
		l.wake("terraform")
	}
}
