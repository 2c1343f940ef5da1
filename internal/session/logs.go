package session

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/stack"
)

// LogOptions select what Logs prints.
type LogOptions struct {
	Follow bool
	Tail   int           // lines from the end of each source; 0 means all
	Since  time.Duration // 0 means from the beginning
}

// logSource is one stream of log lines.
type logSource struct {
	name string
	read func(ctx context.Context, w io.Writer) error
}

// LogComponents returns the components whose logs can be asked for, for
// completion; none where the sandbox is not clear.
func LogComponents(name string) []string { return complete(name, (*Session).logComponents) }

func (s *Session) logComponents() []string {
	list := []string{"cluster"}
	if s.stack.Spec.AWS.On() {
		list = append(list, "aws")
	}
	if s.stack.Spec.Observability.On() {
		list = append(list, "observe/alertmanager", "observe/prometheus")
		if noExporter() == nil {
			list = append(list, componentExporter)
		}
		if s.ref("grafana") != "" {
			list = append(list, "observe/grafana")
		}
	}
	for _, r := range s.stack.Spec.Releases {
		list = append(list, "release/"+r.Name)
	}
	return list
}

// Logs writes the component's log lines, or all components' with the name of
// each source in front. Lines are stripped of terminal control sequences.
func (s *Session) Logs(ctx context.Context, component string, opt LogOptions, w io.Writer) error {
	wanted := s.logComponents()
	if component != "" {
		if !slices.Contains(wanted, component) {
			return fault.New(fault.Invalid, fmt.Sprintf("no logs of %q", component),
				"components with logs: "+strings.Join(wanted, ", "), "sandbox logs "+wanted[len(wanted)-1])
		}
		wanted = []string{component}
	}
	var sources []logSource
	for _, c := range wanted {
		found, err := s.logSources(ctx, c, opt)
		if err != nil && component != "" {
			return err
		}
		if err != nil { // the others are worth seeing all the same
			if _, werr := fmt.Fprintf(w, "%s: no logs: %s\n", c, event.Clean(reason(err))); werr != nil {
				return werr
			}
			continue
		}
		sources = append(sources, found...)
	}
	return mergeLogs(ctx, sources, opt.Follow, w)
}

// logSources returns the streams of one component.
func (s *Session) logSources(ctx context.Context, component string, opt LogOptions) ([]logSource, error) {
	if name, ok := strings.CutPrefix(component, "release/"); ok {
		r := find(s.stack.Spec.Releases, func(r stack.Release) bool { return r.Name == name })
		return s.podSources(ctx, r, opt)
	}
	t, err := s.target(ctx, component)
	if err != nil {
		return nil, err
	}
	var sources []logSource
	for _, c := range t.containers {
		sources = append(sources, logSource{c.Labels[runtime.LabelComponent], func(ctx context.Context, w io.Writer) error {
			o := runtime.LogOptions{Follow: opt.Follow, Tail: opt.Tail}
			if opt.Since > 0 {
				o.Since = time.Now().Add(-opt.Since)
			}
			return s.engine.Logs(ctx, c.ID, o, w)
		}})
		if component == "cluster" {
			sources[len(sources)-1].name = c.Name
		}
	}
	return sources, nil
}

// podSources returns the streams of a release's pods, by Helm's convention
// for labels.
func (s *Session) podSources(ctx context.Context, r stack.Release, opt LogOptions) ([]logSource, error) {
	c, err := s.cluster()
	if err != nil {
		return nil, err
	}
	client, err := c.Client()
	if err != nil {
		return nil, err
	}
	pods, err := client.CoreV1().Pods(r.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/instance=" + r.Name})
	if err == nil && len(pods.Items) == 0 {
		pods, err = client.CoreV1().Pods(r.Namespace).List(ctx, metav1.ListOptions{})
	}
	if err != nil {
		return nil, fmt.Errorf("list pods of release %s: %w", r.Name, err)
	}
	if len(pods.Items) == 0 {
		return nil, fault.New(fault.Unavailable, "release "+r.Name+" has no pods", "nothing runs in namespace "+r.Namespace, "sandbox status")
	}
	var sources []logSource
	for _, pod := range pods.Items {
		for _, container := range pod.Spec.Containers {
			name := pod.Name
			if len(pod.Spec.Containers) > 1 {
				name += "/" + container.Name
			}
			o := &corev1.PodLogOptions{Container: container.Name, Follow: opt.Follow}
			if opt.Tail > 0 {
				tail := int64(opt.Tail)
				o.TailLines = &tail
			}
			if opt.Since > 0 {
				seconds := int64(max(1, opt.Since.Seconds()))
				o.SinceSeconds = &seconds
			}
			sources = append(sources, logSource{name, func(ctx context.Context, w io.Writer) error {
				body, err := client.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, o).Stream(ctx)
				if apierrors.IsBadRequest(err) || apierrors.IsNotFound(err) {
					// It has not started, or is gone; the others are worth seeing.
					_, err = fmt.Fprintf(w, "no log: %s\n", err)
				}
				if err != nil || body == nil {
					return err
				}
				defer body.Close() // read to its end or given up
				_, err = io.Copy(w, body)
				return err
			}})
		}
	}
	return sources, nil
}

// mergeLogs writes the lines of all sources: one source after the other, or, when
// following, as they come.
func mergeLogs(ctx context.Context, sources []logSource, follow bool, w io.Writer) error {
	width := 0
	for _, src := range sources {
		width = max(width, len(src.name))
	}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	if !follow {
		g.SetLimit(1)
	}
	for _, src := range sources {
		prefix := ""
		if len(sources) > 1 {
			prefix = src.name + strings.Repeat(" ", width-len(src.name)) + " | "
		}
		g.Go(func() error {
			r, pipe := io.Pipe()
			go func() { pipe.CloseWithError(src.read(ctx, pipe)) }()
			defer r.Close() // ends the reader above
			err := eachLine(r, func(line string) error {
				mu.Lock()
				defer mu.Unlock()
				_, err := fmt.Fprintln(w, prefix+event.Clean(line))
				return err
			})
			if err != nil && ctx.Err() == nil {
				return fmt.Errorf("logs of %s: %w", src.name, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// eachLine calls f with every line; one of more than 64 KiB comes in pieces.
func eachLine(r io.Reader, f func(string) error) error {
	buffered := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := buffered.ReadSlice('\n')
		if len(line) > 0 {
			if werr := f(strings.TrimRight(string(line), "\r\n")); werr != nil {
				return werr
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return err
		}
	}
}
