package live

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/health"
)

const (
	// healthTick is how often each source is asked whether it has to look,
	// beside those times at which a change was announced.
	healthTick = time.Second
	// settle is the least time between two looks, so that a rollout, which
	// announces a change many times a second, does not cost as many looks.
	settle = time.Second
	// troubled is the time between looks while something is not well: part of
	// what is said then depends on how long it has lasted.
	troubled = 2 * time.Second
)

// How long a source that is well goes without a look when nothing is announced.
// It bounds how late a fault is seen that nobody announces, such as a program
// that hangs.
const (
	idleAnswering = 5 * time.Second  // what answers on a port of its own
	idlePolled    = 15 * time.Second // what another feed asks as well, and wakes where that fails
	idleCluster   = 10 * time.Second
	idleAnnounced = 30 * time.Second // what announces all of its changes
	idleImage     = time.Minute
)

// paced is a source of health that looks when it was woken or when its last
// look is too old, and otherwise repeats what it saw.
type paced struct {
	name  string
	probe health.Probe
	// idle is how old what was seen may get while all is well.
	idle func() time.Duration
	// saw is told the result of each look; it may be nil.
	saw func([]event.Health)
	// called is set together with woken, for the watcher to look at once.
	called signal

	mu    sync.Mutex
	woken bool
	ended time.Time // of the last look that came to its end
	last  []event.Health
}

// look is the source's probe.
func (p *paced) look(ctx context.Context) []event.Health {
	last, due := p.begin(time.Now())
	if !due {
		return last
	}
	found := p.probe(ctx)
	if p.lost(found) {
		found = p.probe(ctx) // on a busy machine one answer may come late
	}
	if ctx.Err() != nil {
		p.wake() // nobody waited for it, so it is not what is known
		return found
	}
	p.mu.Lock()
	p.last, p.ended = found, time.Now()
	p.mu.Unlock()
	if p.saw != nil {
		p.saw(found)
	}
	return found
}

// lost says whether something can't be seen that was seen at the last look.
func (p *paced) lost(found []event.Health) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	stale := func(h event.Health) bool { return h.State == event.StateStale }
	return !p.ended.IsZero() && slices.ContainsFunc(found, stale) && !slices.ContainsFunc(p.last, stale)
}

// begin says whether a look is due, and what was seen last.
func (p *paced) begin(now time.Time) ([]event.Health, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	age := now.Sub(p.ended)
	limit := troubled
	if !slices.ContainsFunc(p.last, func(h event.Health) bool { return !h.State.Healthy() }) {
		limit = p.idle()
	}
	if !p.ended.IsZero() && age < limit && (!p.woken || age < settle) {
		return p.last, false
	}
	p.woken = false
	return nil, true
}

func (p *paced) wake() {
	p.mu.Lock()
	p.woken = true
	p.mu.Unlock()
	p.called.set()
}

// pace returns the source with the pace that suits what it looks at.
func (l *live) pace(s health.Source) *paced {
	p := &paced{name: s.Name, probe: s.Probe, called: newSignal()}
	always := func(d time.Duration) func() time.Duration { return func() time.Duration { return d } }
	// A source whose changes are announced is looked at more often while the
	// announcements are not heard.
	heard := func(f *flag, d time.Duration) func() time.Duration {
		return func() time.Duration {
			if f.Load() {
				return d
			}
			return troubled
		}
	}
	switch kind, _, _ := strings.Cut(s.Name, "/"); kind {
	case "cluster":
		p.idle, p.saw = heard(&l.kubeWatched, idleCluster), l.judgeCluster
	case "release":
		p.idle = heard(&l.kubeWatched, idleAnnounced)
	case "image":
		p.idle = always(idleImage)
	case "terraform":
		p.idle = heard(&l.engineHeard, idleAnnounced)
		for _, m := range l.modules {
			if m.Component() == s.Name {
				p.probe = m.probe()
			}
		}
	case "prometheus", "alertmanager":
		p.idle = heard(&l.engineHeard, idlePolled)
	case "grafana":
		p.idle = heard(&l.engineHeard, idleAnnounced)
	default:
		p.idle = always(idleAnswering)
	}
	return p
}

// watchHealth reports the health of all components as it changes.
func (l *live) watchHealth(ctx context.Context) {
	list := slices.Clone(l.src.Health)
	for i, p := range l.sources {
		list[i].Probe, list[i].Wake = p.look, p.called
	}
	health.Watcher{
		Sources: list, Interval: healthTick, Deadline: l.src.Deadline, Needs: l.src.Needs,
		Emit: func(h event.HealthChanged) { l.emit(h) },
	}.Watch(ctx)
}

// wake makes the sources of these kinds look: "release" stands for all releases.
func (l *live) wake(kinds ...string) {
	for _, p := range l.sources {
		kind, _, _ := strings.Cut(p.name, "/")
		if slices.Contains(kinds, kind) {
			p.wake()
		}
	}
}

// judgeCluster gives up the informers' contact with a cluster that does not
// answer: by themselves they notice only after minutes when it is frozen, and
// try again after up to half a minute.
func (l *live) judgeCluster(found []event.Health) {
	for _, h := range found {
		if h.Component == "cluster" && (h.State == event.StateFailed || h.State == event.StateStale) {
			l.loseKube(h.Reason)
		}
	}
}
