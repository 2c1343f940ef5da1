package inject

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/sandbox-stack/sandbox/internal/aws"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/stack"
)

const (
	// proxyPort is the port that the proxies listen on, each at an address of
	// its own.
	proxyPort = 4566
	// keepUp is how often a fault that has to be kept up is looked after, and
	// patience how often in a row that may fail.
	keepUp   = 2 * time.Second
	patience = 3
)

// proxyFault leads what is sent to the emulator or to a Service through a proxy
// that delays it, or answers in its place.
type proxyFault struct {
	kind      string
	component string
	service   string
	namespace string
	spec      ProxySpec
	w         World
}

// detour is what is recorded of a proxyFault.
type detour struct {
	Spec    ProxySpec `json:"spec"`
	Proxies []string  `json:"proxies"`
	// Service is the one that is led astray; without one it is the emulator.
	Service *ledService `json:"service,omitempty"`
}

func newDelay(spec stack.Inject, w World) Injector {
	f := proxyFault{kind: "delay", w: w}
	if s := spec.Delay; s != nil {
		f.component, f.service, f.namespace = s.Component, s.Service, s.Namespace
		f.spec = ProxySpec{Latency: time.Duration(s.Latency), Jitter: time.Duration(s.Jitter)}
	}
	return f
}

func newHTTP(spec stack.Inject, w World) Injector {
	f := proxyFault{kind: "http", w: w}
	if s := spec.HTTP; s != nil {
		f.component, f.service, f.namespace = s.Component, s.Service, s.Namespace
		f.spec = ProxySpec{Status: cmp.Or(s.Status, 503), Method: s.Method, Path: s.Path, Percent: cmp.Or(s.Percent, 100)}
	}
	return f
}

// what says what the proxy does to what is sent to a target.
func (f proxyFault) what(target string) string {
	if f.spec.Status == 0 {
		text := "delay what is sent to " + target + " by " + f.spec.Latency.String()
		if f.spec.Jitter > 0 {
			text += " ± " + f.spec.Jitter.String()
		}
		return text
	}
	requests := []string{"all"}
	if f.spec.Percent < 100 {
		requests = []string{strconv.Itoa(f.spec.Percent), "% of the"}
	}
	if f.spec.Method != "" {
		requests = append(requests, f.spec.Method)
	}
	requests = append(requests, "requests")
	if f.spec.Path != "" {
		requests = append(requests, "for "+f.spec.Path)
	}
	return fmt.Sprintf("answer %d to %s to %s", f.spec.Status, strings.Join(requests, " "), target)
}

func (f proxyFault) Prepare(ctx context.Context) (Record, error) {
	if f.service != "" {
		return f.prepareService(ctx)
	}
	if _, _, err := f.w.Emulator(ctx); err != nil {
		return Record{}, err
	}
	rec, err := newRecord(f.kind, f.what(f.component), LevelCluster, nil, "component "+f.component)
	if err != nil {
		return rec, err
	}
	return rec, rec.keep(detour{Spec: f.spec, Proxies: []string{"proxy-" + short(rec.ID)}})
}

func (f proxyFault) Inject(ctx context.Context, rec Record) error {
	var d detour
	if err := rec.read(&d); err != nil {
		return err
	}
	if d.Service != nil {
		return f.leadService(ctx, rec, d)
	}
	host, port, err := f.w.Emulator(ctx)
	if err != nil {
		return err
	}
	d.Spec.Listen, d.Spec.Upstream = proxyPort, net.JoinHostPort(host, strconv.Itoa(port))
	address, err := f.w.Proxy(ctx, d.Proxies[0], d.Spec)
	if err != nil {
		return err
	}
	return f.w.LeadEmulator(ctx, address, proxyPort)
}

// Sustain sees to it that nothing goes past the proxy any more: connections
// that were there before stay with what they lead to until they are cut.
func (f proxyFault) Sustain(ctx context.Context, rec Record) error {
	var d detour
	if err := rec.read(&d); err != nil {
		return err
	}
	ticker := time.NewTicker(keepUp)
	defer ticker.Stop()
	for failed := 0; ; {
		err := f.keep(ctx, d)
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			failed = 0
		default:
			if failed++; failed == patience {
				return fmt.Errorf("keep up the fault %s: %w", rec.ID, err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// keep does once what Sustain does.
func (f proxyFault) keep(ctx context.Context, d detour) error {
	client, err := f.w.Kube()
	if err != nil {
		return err
	}
	if d.Service != nil {
		return f.keepService(ctx, client, *d.Service)
	}
	host, _, err := f.w.Emulator(ctx)
	if err != nil {
		return err
	}
	return f.w.cutOff(ctx, client, aws.Namespace, aws.ObjectName, []string{host})
}

// Undo leads clients back, and removes the proxies, and the way by which they reach
// what is behind them, once no node leads to them.
func (f proxyFault) Undo(ctx context.Context, rec Record) error {
	var d detour
	if err := rec.read(&d); err != nil {
		return err
	}
	var proxies []string
	for _, name := range d.Proxies {
		address, err := f.w.ProxyAddress(ctx, name)
		if err != nil {
			return err
		}
		if address != "" {
			proxies = append(proxies, address)
		}
	}
	namespace, service := aws.Namespace, aws.ObjectName
	var err error
	if d.Service != nil {
		namespace, service = d.Service.Namespace, d.Service.Name
		err = f.mendService(ctx, rec, *d.Service)
	} else {
		err = f.w.LeadEmulator(ctx, "", 0)
	}
	if err != nil { // the proxies are still in use
		return err
	}
	if err := f.w.Leave(ctx, namespace, service, proxies); err != nil {
		return err
	}
	var failed []error
	if d.Service != nil {
		failed = append(failed, f.removeBypass(ctx, rec, *d.Service))
	}
	for _, name := range d.Proxies {
		failed = append(failed, f.w.StopProxy(ctx, name))
	}
	return errors.Join(failed...)
}

// noProxy says why a Service can't be led through a proxy.
func noProxy(service, why string) error {
	return fault.New(fault.Invalid, "no proxy can be put in front of the Service "+service, why,
		"choose a Service that selects pods and has a cluster IP")
}
