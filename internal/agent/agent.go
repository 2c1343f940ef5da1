// Package agent is what the parts of a sandbox that are this program itself have
// in common. They run in containers on the sandbox's network, as `sandbox agent`:
// a receiver of notifications, a proxy that breaks what passes it, and an exporter
// of what Prometheus can't see by itself. Package box starts them.
package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"
)

// The ports that the agents answer on inside the sandbox's network.
const (
	PortReceiver = 9099
	PortExporter = 9098
	// PortProxy is the one that says how the proxy is; what passes it takes another.
	PortProxy = 9097
)

// PathHealth is where each agent says that it is ready.
const PathHealth = "/healthz"

const (
	headerTimeout = 5 * time.Second
	shutdownGrace = 2 * time.Second
)

// Healthy answers that the agent is ready.
func Healthy(w http.ResponseWriter, _ *http.Request) {
	_, _ = io.WriteString(w, "ok\n") // who asked may have gone
}

// Serve answers HTTP at the address until ctx ends.
func Serve(ctx context.Context, address string, h http.Handler, out io.Writer) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	return ServeListener(ctx, l, h, out)
}

// ServeListener is Serve on a listener, which it closes.
func ServeListener(ctx context.Context, l net.Listener, h http.Handler, out io.Writer) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: headerTimeout, ErrorLog: log.New(out, "", 0)}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
		defer cancel()
		err := srv.Shutdown(ctx)
		if err != nil { // somebody does not finish
			err = srv.Close()
		}
		stopped <- err
	})
	defer stop()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return <-stopped
}
