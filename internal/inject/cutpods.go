package inject

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/stack"
)

// cutPods drops what their nodes forward from and to pods, connections that
// exist included. What runs on a pod's own node is not forwarded and still
// reaches it: the kubelet's probes, and on the node of the API server what comes
// by its proxy, which Prometheus scrapes through. Where pods of a node are
// joined by a bridge, they still reach each other unless the kernel hands
// bridged packets to iptables.
type cutPods struct {
	spec *stack.CutFault
	w    World
}

// chainOf names the record's chain of packet filter rules.
func chainOf(rec Record) string { return "SANDBOX-" + short(rec.ID) }

// dropPods makes the chain $2 of the tool $1 drop what comes from and goes to
// just the addresses that follow, and puts it before all that is forwarded.
const dropPods = `set -eu
tool=$1 chain=$2
shift 2
rules() { "$tool" -w 10 "$@"; }
rules -n -L "$chain" >/dev/null 2>&1 || rules -N "$chain"
for address; do
	for side in -s -d; do
		rules -C "$chain" $side "$address" -j DROP 2>/dev/null || rules -A "$chain" $side "$address" -j DROP
	done
done
rules -S "$chain" | while read -r what _ side address _; do
	[ "$what" = -A ] || continue
	case " $* " in *" ${address%/*} "*) ;; *) rules -D "$chain" $side "$address" -j DROP ;; esac
done
first=$(rules -S FORWARD | grep -e '^-A' | head -n 1)
if [ "$first" != "-A FORWARD -j $chain" ]; then
	while rules -D FORWARD -j "$chain" 2>/dev/null; do :; done
	rules -I FORWARD -j "$chain"
fi
`

// passPods removes the chain $1 and what leads to it, and ends what still adds
// to it, by its mark $2.
const passPods = `set -u
chain=$1
` + endMarked + `
end "$2"
for tool in iptables ip6tables; do
	rules() { "$tool" -w 10 "$@"; }
	if ! all=$(rules -S); then
		[ $tool = ip6tables ] || exit 1
		continue # a kernel without IPv6 has nothing to remove
	fi
	case $all in *"$chain"*) ;; *) continue ;; esac
	while rules -D FORWARD -j "$chain" 2>/dev/null; do :; done
	rules -F "$chain" 2>/dev/null
	rules -X "$chain" || exit 1
done
`

// Prepare finds the pods.
func (c *cutPods) Prepare(ctx context.Context) (Record, error) {
	set, pods, err := findPods(ctx, c.w, podSpec{selector: c.spec.Selector, namespace: c.spec.Namespace})
	if err != nil {
		return Record{}, err
	}
	for _, p := range pods {
		if p.Spec.HostNetwork {
			return Record{}, fault.New(fault.Invalid, fmt.Sprintf("pod %s/%s can't be cut off", p.Namespace, p.Name), "it has the network of its node", "choose other pods")
		}
	}
	if err := c.w.reachNodes(ctx, pods); err != nil {
		return Record{}, err
	}
	kube, err := c.w.Kube()
	if err != nil {
		return Record{}, err
	}
	if set.Nodes, err = nodeNames(ctx, kube); err != nil {
		return Record{}, err
	}
	targets, err := set.targets(ctx, kube, pods)
	if err != nil {
		return Record{}, err
	}
	return newRecord("cut", "cut the network of "+set.whole(), LevelEngine, set, targets...)
}

// Inject cuts the pods off.
func (c *cutPods) Inject(ctx context.Context, rec Record) error {
	wanted, err := c.addresses(ctx, rec)
	if err != nil {
		return err
	}
	return c.drop(ctx, rec, wanted)
}

// refresh is after how many ticks the rules are made sure of though the pods
// are the same: the cluster's own may have been put before them.
const refresh = 5

// Sustain follows the pods that replace them.
func (c *cutPods) Sustain(ctx context.Context, rec Record) error {
	var last podAddresses
	n := 0
	return sustain(ctx, func() error {
		wanted, err := c.addresses(ctx, rec)
		if err != nil {
			return err
		}
		for at := range last { // a node that has none of them any more drops nothing
			if _, ok := wanted[at]; !ok {
				wanted[at] = nil
			}
		}
		if n++; n%refresh != 0 && maps.EqualFunc(wanted, last, slices.Equal) {
			return nil
		}
		if err := c.drop(ctx, rec, wanted); err != nil {
			return err // and tried again, as last is another
		}
		last = wanted
		return nil
	})
}

// filter is one packet filter of a node.
type filter struct{ node, tool string }

// podAddresses are those that each filter is to drop.
type podAddresses map[filter][]string

// addresses returns what each of the pods' nodes is to drop.
func (c *cutPods) addresses(ctx context.Context, rec Record) (podAddresses, error) {
	var set podSet
	if err := rec.read(&set); err != nil {
		return nil, err
	}
	kube, err := c.w.Kube()
	if err != nil {
		return nil, err
	}
	pods, err := set.list(ctx, kube)
	if err != nil {
		return nil, err
	}
	wanted := podAddresses{}
	for _, p := range pods {
		if done := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed; done || p.Spec.HostNetwork {
			continue // its address may be another's by now
		}
		for _, ip := range p.Status.PodIPs {
			tool := "iptables"
			if strings.Contains(ip.IP, ":") {
				tool = "ip6tables"
			}
			at := filter{p.Spec.NodeName, tool}
			wanted[at] = append(wanted[at], ip.IP)
		}
	}
	for at := range wanted {
		slices.Sort(wanted[at])
	}
	return wanted, nil
}

// drop makes the nodes drop just these addresses.
func (c *cutPods) drop(ctx context.Context, rec Record, wanted podAddresses) error {
	var errs []error
	for at, addresses := range wanted {
		_, err := c.w.breakOnNode(ctx, at.node, rec.ID, dropPods, append([]string{at.tool, chainOf(rec)}, addresses...)...)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Undo removes the rules from all nodes.
func (c *cutPods) Undo(ctx context.Context, rec Record) error {
	var set podSet
	if err := rec.read(&set); err != nil {
		return err
	}
	return c.w.mendNodes(ctx, set.Nodes, passPods, chainOf(rec), recordMark(rec.ID))
}
