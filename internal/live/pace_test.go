package live

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/health"
)

// probe is a source of health that counts the looks at it.
type probe struct {
	mu    sync.Mutex
	state event.State
	looks int
}

func isIn(s event.State) *probe { return &probe{state: s} }

func (p *probe) turn(s event.State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = s
}

// count returns the number of looks since the last count.
func (p *probe) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.looks
	p.looks = 0
	return n
}

func (p *probe) source(component string) health.Source {
	return health.Source{Name: component, Probe: func(context.Context) []event.Health {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.looks++
		return []event.Health{{Component: component, State: p.state}}
	}}
}

// watched runs the health feed over one source.
func watched(t *testing.T, s health.Source) (*live, *recorder) {
	t.Helper()
	r := &recorder{}
	l := newLive(Sources{Health: []health.Source{s}, Deadline: time.Second}, r.emit)
	running(t, l.watchHealth)
	return l, r
}

func TestWhatIsAnnouncedIsLookedAtAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := isIn(event.StateOK)
		l, r := watched(t, p.source("release/web"))
		defer l.kubeWatched.during()()
		<-time.After(20 * time.Second)
		if n := p.count(); n != 1 {
			t.Fatalf("%d looks within 20 s at what is well and announces its changes, want 1", n)
		}
		take[event.HealthChanged](r)

		p.turn(event.StateFailed)
		began := time.Now()
		l.wake("release")
		<-time.After(healthTick)
		synctest.Wait()
		got := take[event.HealthChanged](r)
		if len(got) != 1 || got[0].State != event.StateFailed {
			t.Fatalf("%s after the change: %+v, want it failed", time.Since(began), got)
		}
	})
}

func TestManyAnnouncementsCostFewLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := isIn(event.StateOK)
		l, _ := watched(t, p.source("release/web"))
		defer l.kubeWatched.during()()
		<-time.After(10 * time.Second)
		p.count()
		for range 100 { // ten seconds of a rollout
			l.wake("release")
			<-time.After(100 * time.Millisecond)
		}
		if n := p.count(); n < 5 || n > 11 {
			t.Errorf("%d looks, want about one a second", n)
		}
	})
}

func TestWhatIsNotWellIsLookedAtOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := isIn(event.StateDegraded)
		l, _ := watched(t, p.source("release/web"))
		defer l.kubeWatched.during()()
		<-time.After(20 * time.Second)
		if n := p.count(); n < 9 || n > 11 {
			t.Errorf("%d looks in 20 s, want one in two seconds", n)
		}
	})
}

func TestWithoutAnnouncementsLooksAreFrequent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := isIn(event.StateOK)
		_, _ = watched(t, p.source("release/web")) // the informers are not in contact
		<-time.After(20 * time.Second)
		if n := p.count(); n < 9 || n > 11 {
			t.Errorf("%d looks in 20 s, want one in two seconds", n)
		}
	})
}

func TestALookThatNobodyWaitedForIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hang atomic.Bool
		hang.Store(true)
		r := &recorder{}
		l := newLive(Sources{Deadline: time.Second, Health: []health.Source{{
			Name: "aws", Components: []string{"aws"},
			Probe: func(ctx context.Context) []event.Health {
				if hang.Load() {
					<-ctx.Done()
				}
				return []event.Health{{Component: "aws", State: event.StateOK}}
			},
		}}}, r.emit)
		running(t, l.watchHealth)
		<-time.After(1100 * time.Millisecond)
		got := take[event.HealthChanged](r)
		if len(got) == 0 || got[0].State != event.StateStale {
			t.Fatalf("said %+v, want stale", got)
		}
		hang.Store(false)
		<-time.After(3 * time.Second)
		got = take[event.HealthChanged](r)
		if len(got) == 0 || got[len(got)-1].State != event.StateOK {
			t.Fatalf("said %+v, want ok again", got)
		}
	})
}

func TestAFailedClusterEndsTheInformersContact(t *testing.T) {
	l := newLive(Sources{}, func(event.Payload) {})
	l.judgeCluster([]event.Health{{Component: "cluster", State: event.StateFailed, Reason: "API server: refused"}})
	if len(l.kubeLost) != 0 {
		t.Error("lost what was not in contact")
	}
	defer l.kubeWatched.during()()
	l.judgeCluster([]event.Health{{Component: "cluster", State: event.StateDegraded}})
	if len(l.kubeLost) != 0 {
		t.Error("a degraded cluster still answers")
	}
	l.judgeCluster([]event.Health{{Component: "cluster", State: event.StateFailed, Reason: "API server: refused"}})
	if why := <-l.kubeLost; why != "API server: refused" {
		t.Errorf("lost because of %q", why)
	}
}
