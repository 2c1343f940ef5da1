package doctor

import (
	"context"
	"net"
	"runtime"
)

// thisKernel is the one that this process runs on.
type thisKernel struct{}

func goCores() int { return runtime.NumCPU() }

func (thisKernel) Dial(ctx context.Context, socket string) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return err
	}
	return conn.Close()
}

func lookup(ctx context.Context, host string) ([]string, error) {
	return net.DefaultResolver.LookupHost(ctx, host)
}
