package live

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// firstLines is how many lines of the past each source of logs begins with.
const firstLines = 200

// logSource is the log of one container.
type logSource struct {
	key       string // unique for the container
	component string
	name      string
	// once is a log that ends for good where it ends. Others go on when their
	// container is started again.
	once bool
	// read writes the log since the time, or its last tail lines where that is
	// zero, and what is added, until the container ends.
	read func(ctx context.Context, since time.Time, tail int, w io.Writer) error
}

// follower is what is known of a log that is, or was, followed.
type follower struct {
	source logSource
	cancel context.CancelFunc
	ended  bool
	last   time.Time // when its last line came
}

// errNoLog says that the container of a log is there no more.
var errNoLog = errors.New("no such log")

// followLogs passes on the log lines of all components. Sources that appear
// are picked up, and those that are gone are dropped.
func (l *live) followLogs(ctx context.Context) {
	var running sync.WaitGroup
	defer running.Wait()
	known := map[string]*follower{} // by the key of its source
	ended := make(chan *follower)
	for {
		present := map[string]bool{}
		for _, s := range l.logSources() {
			present[s.key] = true
			f := known[s.key]
			if f != nil && (!f.ended || s.once) {
				continue
			}
			life, cancel := context.WithCancel(ctx)
			next := &follower{source: s, cancel: cancel}
			if f != nil {
				next.last = f.last
			}
			known[s.key] = next
			running.Go(func() {
				l.followLog(life, next)
				cancel()
				select {
				case ended <- next:
				case <-ctx.Done():
				}
			})
		}
		for key, f := range known {
			// A container that is stopped may be started again; until then its
			// last lines may still be on their way.
			if !present[key] && f.source.once {
				delete(known, key)
				time.AfterFunc(lastRetry, f.cancel) // unless it ends by itself
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-l.inventory:
		case f := <-ended:
			f.ended = true
			if !f.source.once {
				// It may run again already.
				time.AfterFunc(firstRetry, l.inventory.set)
			}
		}
	}
}

// followLog follows one log to its end, and over interruptions.
func (l *live) followLog(ctx context.Context, f *follower) {
	s := f.source
	out := newThrottle(func(line string) {
		at, text := stamped(line)
		l.observeLine(s.component, text)
		l.emit(event.LogLine{Component: s.component, Source: s.name, Line: text, At: at})
	})
	defer out.flush()
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = firstRetry, lastRetry
	for {
		r, w := io.Pipe()
		go func() { w.CloseWithError(s.read(ctx, f.last, firstLines, w)) }()
		err := eachLine(r, func(line string) {
			f.last = time.Now()
			retry.Reset()
			out.line(line)
		})
		if f.last.IsZero() {
			f.last = time.Now() // nothing came; what comes from now on is new
		}
		if err == nil || errors.Is(err, errNoLog) || ctx.Err() != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(retry.NextBackOff()):
		}
	}
}

// stamped splits a line into when it was written, which engines and the kubelet
// put in front where they are asked to, and its text.
func stamped(line string) (time.Time, string) {
	stamp, text, _ := strings.Cut(line, " ")
	at, err := time.Parse(time.RFC3339Nano, stamp)
	if err != nil {
		return time.Time{}, line
	}
	return at, text
}

// logSources lists the logs of what runs now.
func (l *live) logSources() []logSource {
	var list []logSource
	for _, c := range l.containers.all() {
		if c.logs != "" && c.Running() {
			list = append(list, l.containerLog(c))
		}
	}
	for _, p := range l.pods.list() {
		component, ours := l.releaseOf(p)
		if !ours {
			continue
		}
		for _, status := range p.Status.ContainerStatuses {
			if status.ContainerID != "" {
				list = append(list, l.podLog(component+"/"+workloadOf(p)+"/Pod/"+p.Name, p, status))
			}
		}
	}
	return list
}

func (l *live) containerLog(c container) logSource {
	name := c.logs
	if c.logs != c.usage { // one of several that belong to the component
		name = c.Name
	}
	return logSource{
		key: c.ID, component: c.logs, name: name,
		read: func(ctx context.Context, since time.Time, tail int, w io.Writer) error {
			opt := runtime.LogOptions{Follow: true, Since: since, Timestamps: true}
			if since.IsZero() {
				opt.Tail = tail
			}
			err := l.src.Engine.Logs(ctx, c.ID, opt, w)
			if errors.Is(err, runtime.ErrNotFound) {
				return errNoLog
			}
			return err
		},
	}
}

func (l *live) podLog(component string, pod *corev1.Pod, status corev1.ContainerStatus) logSource {
	name := pod.Name
	if len(pod.Spec.Containers) > 1 {
		name += "/" + status.Name
	}
	namespace, podName := pod.Namespace, pod.Name // not the whole pod
	return logSource{
		key: string(pod.UID) + "/" + status.ContainerID, component: component, name: name, once: true,
		read: func(ctx context.Context, since time.Time, tail int, w io.Writer) error {
			opt := &corev1.PodLogOptions{Container: status.Name, Follow: true, Timestamps: true}
			if since.IsZero() {
				lines := int64(tail)
				opt.TailLines = &lines
			} else {
				from := metav1.NewTime(since)
				opt.SinceTime = &from
			}
			client := *l.pods.client.Load() // where there are pods there is one
			body, err := client.CoreV1().Pods(namespace).GetLogs(podName, opt).Stream(ctx)
			if apierrors.IsNotFound(err) || apierrors.IsBadRequest(err) { // the pod, or this run of its container, is gone
				return errNoLog
			}
			if err != nil {
				return err
			}
			defer body.Close() // read to its end or given up
			_, err = io.Copy(w, body)
			return err
		},
	}
}
