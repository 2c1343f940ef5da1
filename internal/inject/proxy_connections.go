package inject

import (
	"context"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// cutOff cuts the connections to a Service that lead to the addresses: those
// that a client keeps open outlive a change of where the Service leads.
func (w World) cutOff(ctx context.Context, client kubernetes.Interface, namespace, service string, addresses []string) error {
	svc, err := client.CoreV1().Services(namespace).Get(ctx, service, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read the Service %s/%s: %w", namespace, service, err)
	}
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("list the nodes: %w", err)
	}
	for _, node := range nodes.Items {
		container, err := w.Node(ctx, node.Name)
		if err != nil {
			return err
		}
		for _, address := range addresses {
			if err := w.forget(ctx, container, svc.Spec.ClusterIP, address); err != nil {
				return fmt.Errorf("cut the connections on the node %s: %w", node.Name, err)
			}
		}
	}
	return nil
}

// forget makes a node forget the connections from one address, a Service's, to
// another: their next packet goes where the Service leads now, and is refused.
func (w World) forget(ctx context.Context, node runtime.Container, service, address string) error {
	var out tail
	exit, err := w.Engine.Exec(ctx, node.ID, runtime.ExecSpec{
		Cmd: []string{"conntrack", "-D", "-p", "tcp", "-d", service, "-r", address}, Stdout: &out, Stderr: &out,
	})
	if err != nil {
		return err
	}
	if exit > 1 { // 1 is that there were none
		return fmt.Errorf("conntrack ends with exit code %d: %s", exit, strings.Join(out.lines(), " "))
	}
	return nil
}
