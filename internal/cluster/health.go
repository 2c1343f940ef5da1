package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// healthTimeout bounds one look at the cluster's health. Health also asks the
// engine, so all of it stays within about a second.
const healthTimeout = 900 * time.Millisecond

// component names in health.
const component = "cluster"

func nodeComponent(name string) string { return component + "/node/" + name }

// Health looks at the cluster once and returns its health as component
// "cluster" and that of each node as "cluster/node/NAME". A part that cannot be
// seen is stale, or failed where the engine says why; it never stays ok.
func (c *Cluster) Health(ctx context.Context) []event.Health {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	st, err := c.Inspect(ctx)
	if err != nil {
		return []event.Health{{Component: component, State: event.StateStale, Reason: firstLine(err.Error())}}
	}
	switch st.Phase {
	case Absent:
		return []event.Health{{Component: component, State: event.StateFailed, Reason: "the cluster does not exist", Try: "sandbox up"}}
	case Partial:
		return []event.Health{{Component: component, State: event.StateFailed, Reason: "its creation did not finish", Try: "sandbox up"}}
	case Stopped:
		return stoppedHealth(st.Nodes)
	case Running:
	}
	client, err := c.Client()
	if err != nil {
		return []event.Health{{Component: component, State: event.StateFailed, Reason: firstLine(err.Error())}}
	}
	v, err := read(ctx, client, since(st.Nodes))
	if err != nil {
		return c.blindHealth(err, st.Nodes)
	}
	return v.health(c.cfg.Nodes)
}

// since is when the last of the node containers started.
func since(nodes []runtime.Container) time.Time {
	var t time.Time
	for _, n := range nodes {
		if n.Started.After(t) {
			t = n.Started
		}
	}
	return t
}

// readySince is when the node's Ready condition last changed.
func readySince(n *corev1.Node) time.Time {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.LastTransitionTime.Time
		}
	}
	return time.Time{}
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// stoppedHealth is the health of a cluster of which some nodes do not run.
func stoppedHealth(nodes []runtime.Container) []event.Health {
	all := event.Health{Component: component, State: event.StateFailed, Try: "sandbox up"}
	hs := []event.Health{all}
	for _, n := range nodes {
		h := event.Health{Component: nodeComponent(n.Name), State: event.StateStale, Reason: "not looked at while another node is down", Blames: component}
		if !n.Running() {
			h = event.Health{Component: nodeComponent(n.Name), State: event.StateFailed, Reason: exitReason(n), Try: "sandbox up", Since: n.Finished}
			if hs[0].Reason == "" {
				hs[0].Reason, hs[0].Blames = n.Name+": "+exitReason(n), h.Component
			}
		}
		hs = append(hs, h)
	}
	return hs
}

// blindHealth is the health of a cluster whose nodes run but whose API does
// not answer: refused means that it is down, silence that nothing is known.
func (c *Cluster) blindHealth(err error, nodes []runtime.Container) []event.Health {
	all := event.Health{Component: component, State: event.StateFailed, Reason: "API server: " + firstLine(err.Error()), Try: "sandbox logs cluster"}
	if errors.Is(err, context.DeadlineExceeded) || strings.Contains(err.Error(), "Client.Timeout") {
		all.State, all.Reason = event.StateStale, fmt.Sprintf("the API server has not answered within %s", healthTimeout)
	}
	hs := []event.Health{all}
	for _, n := range nodes {
		hs = append(hs, event.Health{
			Component: nodeComponent(n.Name), State: event.StateStale,
			Reason: "the API server does not answer", Blames: component,
		})
	}
	return hs
}

// read lists what a view holds, from the API server's cache.
func read(ctx context.Context, client kubernetes.Interface, since time.Time) (*view, error) {
	v := &view{since: since}
	fast := metav1.ListOptions{ResourceVersion: "0"}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		list, err := client.CoreV1().Nodes().List(ctx, fast)
		if err != nil {
			return err
		}
		v.nodes = pointers(list.Items)
		return nil
	})
	g.Go(func() error {
		list, err := client.CoreV1().Pods(metav1.NamespaceAll).List(ctx, fast)
		if err != nil {
			return err
		}
		v.pods = pointers(list.Items)
		return nil
	})
	g.Go(func() error {
		list, err := client.AppsV1().Deployments(metav1.NamespaceAll).List(ctx, fast)
		if err != nil {
			return err
		}
		v.deployments = pointers(list.Items)
		return nil
	})
	g.Go(func() error {
		list, err := client.AppsV1().DaemonSets(metav1.NamespaceAll).List(ctx, fast)
		if err != nil {
			return err
		}
		v.daemonSets = pointers(list.Items)
		return nil
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return v, nil
}

func pointers[T any](items []T) []*T {
	out := make([]*T, len(items))
	for i := range items {
		out[i] = &items[i]
	}
	return out
}

// health turns a view into the health of the cluster and its nodes.
func (v *view) health(wantNodes int) []event.Health {
	hs := []event.Health{{Component: component, State: event.StateOK}}
	var ready int
	for _, n := range v.nodes {
		h := event.Health{Component: nodeComponent(n.Name), State: event.StateOK, Reason: n.Status.NodeInfo.KubeletVersion, Since: readySince(n)}
		if reason := v.nodeReason(n); reason != "" {
			h.State, h.Reason = event.StateFailed, reason
		} else {
			hs[0].Since = latest(hs[0].Since, h.Since)
			ready++
		}
		hs = append(hs, h)
	}
	bs := v.blockers(wantNodes)
	switch {
	case len(bs) == 0:
		hs[0].Reason = fmt.Sprintf("%d of %d nodes ready", ready, wantNodes)
	case ready == 0:
		hs[0].Since = time.Time{}
		hs[0].State, hs[0].Reason = event.StateFailed, bs[0].String()
	default:
		hs[0].Since = time.Time{}
		hs[0].State, hs[0].Reason = event.StateDegraded, bs[0].String()
	}
	return hs
}
