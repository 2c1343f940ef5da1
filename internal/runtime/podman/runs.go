package podman

import (
	"context"
	"net"
	"net/http"
	"os"
	"strings"
)

// Runs reports whether a service of this user's answers, on the socket that
// CONTAINER_HOST names or on the usual one.
func Runs(ctx context.Context) bool {
	sockets := defaultSockets()
	if path, local := strings.CutPrefix(os.Getenv("CONTAINER_HOST"), "unix://"); local {
		sockets = []string{path}
	}
	for _, socket := range sockets {
		if answers(ctx, socket) {
			return true
		}
	}
	return false
}

// answers asks the service behind the socket; unlike the bindings, once.
func answers(ctx context.Context, socket string) bool {
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, "unix", socket)
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://d/_ping", http.NoBody)
	if err != nil {
		return false
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}
