package inject

import (
	"context"
	"fmt"
	"slices"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Endpoints returns the addresses that a Service leads to.
func Endpoints(ctx context.Context, client kubernetes.Interface, namespace, service string) ([]string, error) {
	return endpointsOf(ctx, client, namespace, service, "")
}

// endpointsOf returns the addresses that a Service leads to, but for those of a drill.
func endpointsOf(ctx context.Context, client kubernetes.Interface, namespace, service, drill string) ([]string, error) {
	list, err := client.DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=" + service})
	if err != nil {
		return nil, fmt.Errorf("list the EndpointSlices of the Service %s/%s: %w", namespace, service, err)
	}
	var all []string
	for _, s := range list.Items {
		if drill != "" && s.Labels[labelDrill] == drill {
			continue
		}
		for _, e := range s.Endpoints {
			all = append(all, e.Addresses...)
		}
	}
	return all, nil
}

// unled waits until a node's packet filter names none of the addresses: kube-proxy
// follows a change of endpoints after up to a second (minSyncPeriod), and longer
// where it gets little CPU time. A way that can't be listed, as the one of IPVS,
// counts as left.
const unled = `
end=$(($(date +%s) + 30))
addresses=$(printf '%s\n' "$@")
while led=$({ iptables-save; ip6tables-save; nft list ruleset; } 2>/dev/null | grep -owF -e "$addresses"); do
	if [ "$(date +%s)" -gt "$end" ]; then
		echo "its rules still lead to $(echo "$led" | head -n 1)" >&2
		exit 1
	fi
	sleep 0.1
done
`

// Leave waits until no node leads clients of a Service to those of the addresses
// that are no longer its own, and cuts the connections that still lead there.
// Who is led to an address at which nothing answers any more hangs until a time-out.
func (w World) Leave(ctx context.Context, namespace, service string, addresses []string) error {
	if len(addresses) == 0 {
		return nil
	}
	client, err := w.Kube()
	if err != nil {
		return err
	}
	own, err := Endpoints(ctx, client, namespace, service)
	if err != nil {
		return err
	}
	var left []string
	for _, address := range addresses {
		if !slices.Contains(own, address) {
			left = append(left, address)
		}
	}
	if len(left) == 0 {
		return nil
	}
	nodes, err := nodeNames(ctx, client)
	if err != nil {
		return err
	}
	if err := w.mendNodes(ctx, nodes, unled, left...); err != nil {
		return fmt.Errorf("lead the clients of the Service %s/%s away from %s: %w", namespace, service, strings.Join(left, ", "), err)
	}
	return w.cutOff(ctx, client, namespace, service, left)
}

// forget makes a node forget the connections from an address, a Service's, to
// others: their next packet goes where the Service leads now, and is refused.
const forget = `
service=$1
shift
for address in "$@"; do
	conntrack -D -p tcp -d "$service" -r "$address" >/dev/null
	[ $? -le 1 ] || exit 1 # 1 is that there were none
done
`

// cutOff cuts the connections to a Service that lead to the addresses: those
// that a client keeps open outlive a change of where the Service leads.
func (w World) cutOff(ctx context.Context, client kubernetes.Interface, namespace, service string, addresses []string) error {
	svc, err := client.CoreV1().Services(namespace).Get(ctx, service, metav1.GetOptions{})
	if apierrors.IsNotFound(err) { // and with it all that led there
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the Service %s/%s: %w", namespace, service, err)
	}
	nodes, err := nodeNames(ctx, client)
	if err != nil {
		return err
	}
	if err := w.mendNodes(ctx, nodes, forget, append([]string{svc.Spec.ClusterIP}, addresses...)...); err != nil {
		return fmt.Errorf("cut the connections to the Service %s/%s: %w", namespace, service, err)
	}
	return nil
}
