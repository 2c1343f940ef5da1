package release

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/release"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

const (
	// tailLines is how many lines of a container's log go into an error.
	tailLines = 20
	// maxCrashes is of how many crashed containers.
	maxCrashes = 2
	// evidenceTime is how long collecting them may take; the release's own
	// time may be over by then.
	evidenceTime = 5 * time.Second
)

// crashLogs returns the last log lines of the containers that crashed. What
// cannot be read is said in its place: it explains an error and is none.
func (c *cluster) crashLogs(ctx context.Context, blockers []object) []string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), evidenceTime)
	defer cancel()
	var lines []string
	crashes := 0
	for _, o := range blockers {
		if o.container == "" || crashes == maxCrashes {
			continue
		}
		crashes++
		lines = append(lines, fmt.Sprintf("--- last lines of pod %s, container %s", o.pod, o.container))
		lines = append(lines, c.tail(ctx, o.ref.namespace, o.pod, o.container)...)
	}
	return lines
}

// hookLogs returns the last log lines of the pods of a chart's hooks that did
// not succeed.
func (c *cluster) hookLogs(ctx context.Context, namespace string, hooks []*release.Hook) []string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), evidenceTime)
	defer cancel()
	var lines []string
	for _, h := range hooks {
		if h.LastRun.Phase != release.HookPhaseFailed || h.Kind != "Job" {
			continue
		}
		pods, err := c.kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "batch.kubernetes.io/job-name=" + h.Name})
		if err != nil {
			lines = append(lines, fmt.Sprintf("(the pods of hook %s cannot be listed: %v)", h.Name, err))
			continue
		}
		for _, p := range pods.Items {
			for _, s := range p.Status.ContainerStatuses {
				lines = append(lines, fmt.Sprintf("--- last lines of hook pod %s, container %s", p.Name, s.Name))
				lines = append(lines, c.tail(ctx, namespace, p.Name, s.Name)...)
			}
		}
	}
	return lines
}

// tail returns the end of the container's log, of the run before the present
// one where there was one.
func (c *cluster) tail(ctx context.Context, namespace, pod, container string) []string {
	var lines []string
	var err error
	for range 4 { // a container that is being replaced has no log for a moment
		lines, err = c.readLog(ctx, namespace, pod, container, true, tailLines)
		if err != nil || len(lines) == 0 {
			lines, err = c.readLog(ctx, namespace, pod, container, false, tailLines)
		}
		if len(lines) != 1 || !strings.HasPrefix(lines[0], "unable to retrieve container logs") {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	switch {
	case err != nil:
		return []string{fmt.Sprintf("(its log cannot be read: %v)", err)}
	case len(lines) == 0:
		return []string{"(it logged nothing)"}
	}
	return lines
}

func (c *cluster) readLog(ctx context.Context, namespace, pod, container string, previous bool, tail int64) (lines []string, err error) {
	stream, err := c.kube.CoreV1().Pods(namespace).GetLogs(pod, &corev1.PodLogOptions{
		Container: container, Previous: previous, TailLines: ptr.To(tail), LimitBytes: ptr.To[int64](64 << 10),
	}).Stream(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stream.Close()) }()
	in := bufio.NewScanner(stream)
	in.Buffer(nil, 128<<10)
	for in.Scan() {
		lines = append(lines, in.Text())
	}
	return lines, in.Err()
}
