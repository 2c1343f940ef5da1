package release

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
)

const (
	// lookAgain is how often a wait judges anew although nothing changed:
	// some judgements depend on the time alone.
	lookAgain = 2 * time.Second
	// heartbeat is how often a wait speaks although it has nothing new.
	heartbeat = 5 * time.Second
)

// errTimeout ends a wait whose time is over.
var errTimeout = errors.New("the time to become ready is over")

// waitReady watches the release's objects until all of them are ready. It
// fails when the time is over, and before that when waiting cannot help.
func (c *cluster) waitReady(ctx context.Context, spec Spec, manifest string, rep event.Reporter) ([]object, error) {
	refs, err := c.manifestRefs(manifest, spec.Namespace)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, spec.timeout(), errTimeout)
	w, stop, err := c.watch(ctx, refs)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("watch release %q: %w", spec.Name, err)
	}
	defer stop()
	defer cancel() // before stop, which waits for what cancel ends

	v := &vigil{spec: spec, rep: rep, said: map[ref]string{}, heard: map[types.UID]bool{}}
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		select {
		case <-w.changed:
		case <-tick.C:
		case <-ctx.Done():
			if context.Cause(ctx) != errTimeout { //nolint:errorlint // this very value, set above
				return nil, fmt.Errorf("wait for release %q: %w", spec.Name, context.Cause(ctx))
			}
			return nil, c.notReady(ctx, spec, v.last, fmt.Sprintf("release %q is not ready after %s", spec.Name, spec.timeout()))
		}
		if !v.look(w) {
			continue
		}
		if blockers := blocking(v.last); len(blockers) > 0 {
			if giveUp(blockers) {
				return nil, c.notReady(ctx, spec, v.last, fmt.Sprintf("release %q will not become ready", spec.Name))
			}
			continue
		}
		// A watch may lag behind what was just applied, so the last word
		// has the API server itself.
		objects, err := c.inspect(ctx, spec, manifest)
		if err == nil && len(blocking(objects)) == 0 {
			return objects, nil
		}
		if err == nil {
			v.judge(objects)
		}
	}
}

// vigil is what a wait has seen and said so far.
type vigil struct {
	spec  Spec
	rep   event.Reporter
	last  []object
	said  map[ref]string     // the last line on each object
	heard map[types.UID]bool // warnings passed on
	shown []string
	at    time.Time
}

// look judges what the watcher knows, and speaks where there is news; false
// means that nothing can be judged yet.
func (v *vigil) look(w *watcher) bool {
	if broken := w.broken.Load(); broken != nil || !w.synced() {
		why := "reading the state of the cluster"
		if broken != nil {
			why = "the API server does not answer: " + short((*broken).Error())
		}
		v.progress(0, 0, []string{why})
		return false
	}
	s := w.snapshot(time.Now())
	v.passOn(s.warnings)
	v.judge(assess(w.refs, s))
	return true
}

func (v *vigil) judge(objects []object) {
	v.last = objects
	blockers := blocking(objects)
	for _, o := range objects {
		if line := o.String(); v.said[o.ref] != line {
			v.said[o.ref] = line
			v.rep.Log("sandbox", line)
		}
	}
	v.progress(len(objects)-len(blockers), len(objects), describe(blockers))
}

// progress reports what is waited for, when that has changed and now and then.
func (v *vigil) progress(done, total int, blockers []string) {
	if slices.Equal(blockers, v.shown) && time.Since(v.at) < heartbeat {
		return
	}
	v.shown, v.at = blockers, time.Now()
	v.rep.Progress(event.Progress{
		Text: "waiting for " + v.spec.Name, Done: int64(done), Total: int64(total), Unit: "objects", Blockers: blockers,
	})
}

// passOn logs each warning about the namespace's objects once.
func (v *vigil) passOn(warnings []*corev1.Event) {
	for _, w := range warnings {
		if !v.heard[w.UID] {
			v.heard[w.UID] = true
			v.rep.Log("kubernetes", fmt.Sprintf("%s/%s: %s", w.InvolvedObject.Kind, w.InvolvedObject.Name, joinReason(w.Reason, w.Message)))
		}
	}
}

// notReady is the error of a release that does not become ready.
func (c *cluster) notReady(ctx context.Context, spec Spec, objects []object, what string) error {
	blockers := blocking(objects)
	// What explains most comes first.
	slices.SortStableFunc(blockers, func(a, b object) int { return int(b.severity) - int(a.severity) })
	f := &fault.Error{Code: fault.Failed, What: what, Try: "sandbox logs " + spec.Component()}
	switch lines := describe(blockers); len(lines) {
	case 0:
		f.Why = "the state of the cluster could not be read"
	case 1:
		f.Why = lines[0]
	default:
		f.Why = fmt.Sprintf("%s (and %d more)", lines[0], len(lines)-1)
		f.Log = append(f.Log, lines[1:]...)
	}
	f.Log = append(f.Log, c.crashLogs(ctx, blockers)...)
	return f
}
