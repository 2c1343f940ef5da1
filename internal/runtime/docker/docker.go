// Package docker serves runtime.Runtime through Docker's API.
package docker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/client"

	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// Options configure Open.
type Options struct {
	// Host is where the daemon listens, as in DOCKER_HOST; empty is the
	// system's socket.
	Host string
	// TLS names the files of a secured connection; nil is one without.
	TLS *TLS
	// Patience is how long the daemon may take to say that it is there; 0 means
	// five seconds.
	Patience time.Duration
	// Log takes notes on what Open found; nil discards them.
	Log *slog.Logger
}

// TLS names the certificate files of a secured connection.
type TLS struct{ CA, Cert, Key string }

// DefaultHost is the socket of the system's daemon.
const DefaultHost = client.DefaultDockerHost

// Runtime is Docker.
type Runtime struct {
	api     *client.Client
	host    string
	version string

	mu      sync.Mutex
	samples map[string]sample // the last Stats of each container ID
}

var _ runtime.Runtime = (*Runtime)(nil)

// Open connects to the daemon. One that does not answer in time, lacks
// permission, or is too old is an error that says so.
func Open(ctx context.Context, opt Options) (*Runtime, error) {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Host == "" {
		opt.Host = DefaultHost
	}
	api, version, err := connect(ctx, opt)
	if err != nil {
		return nil, err
	}
	opt.Log.Debug("docker: connected", "host", opt.Host, "version", version, "api", api.ClientVersion())
	return &Runtime{api: api, host: opt.Host, version: version, samples: map[string]sample{}}, nil
}

// Check reports why the daemon can't be used, nil where it can.
func Check(ctx context.Context, opt Options) error {
	if opt.Host == "" {
		opt.Host = DefaultHost
	}
	api, _, err := connect(ctx, opt)
	if err != nil {
		return err
	}
	return api.Close()
}

// connect opens a connection and makes sure that a usable Docker is behind it.
func connect(ctx context.Context, opt Options) (*client.Client, string, error) {
	options := []client.Opt{client.WithHost(opt.Host), client.WithUserAgent("sandbox")}
	if opt.TLS != nil {
		options = append(options, client.WithTLSClientConfig(opt.TLS.CA, opt.TLS.Cert, opt.TLS.Key))
	}
	api, err := client.New(options...)
	if err != nil {
		return nil, "", badHost(opt.Host, err)
	}
	version, err := greet(ctx, api, opt)
	if err != nil {
		return nil, "", errors.Join(err, api.Close())
	}
	return api, version, nil
}

// Close ends the connection. What was created stays.
func (r *Runtime) Close() error { return r.api.Close() }

// Host is where the daemon listens, as in DOCKER_HOST.
func (r *Runtime) Host() string { return r.host }

// Info describes the engine.
func (r *Runtime) Info(ctx context.Context) (runtime.Info, error) {
	result, err := r.api.Info(ctx, client.InfoOptions{})
	if err != nil {
		return runtime.Info{}, fmt.Errorf("describe the engine: %w", apiError(ctx, err))
	}
	info := runtime.Info{
		Engine:        "docker",
		Version:       r.version,
		CgroupVersion: 1,
		Socket:        strings.TrimPrefix(r.host, "unix://"),
		Rootless: slices.ContainsFunc(result.Info.SecurityOptions, func(o string) bool {
			return strings.HasPrefix(o, "name=rootless")
		}),
	}
	if result.Info.CgroupVersion == "2" {
		info.CgroupVersion = 2
	}
	return info, nil
}

// labelFilter renders labels as the API's filter.
func labelFilter(labels map[string]string) client.Filters {
	filters := client.Filters{}
	for key, value := range labels {
		if value != "" {
			key += "=" + value
		}
		filters.Add("label", key)
	}
	return filters
}
