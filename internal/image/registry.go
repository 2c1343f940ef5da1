package image

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/distribution/reference"

	"github.com/sandbox-stack/sandbox/images"
)

// probeTimeout bounds how long the first connection to a registry may take. A
// network that drops packets must not hold up those who build from packages.
const probeTimeout = 3 * time.Second

// pin is a platform image at its registry.
type pin struct {
	ref      string // name@digest, or name:tag where there is no digest
	host     string // the registry
	version  string // the tag
	verified bool   // ref has a digest
}

// parsePins takes the references apart. Engines accept a tag or a digest, not
// all of them both.
func parsePins(locked map[string]images.Pin) (map[string]pin, error) {
	pins := make(map[string]pin, len(locked))
	for component, l := range locked {
		p, err := parsePin(l.Ref)
		if err != nil {
			return nil, fmt.Errorf("image pin of %s: %w", component, err)
		}
		pins[component] = p
	}
	return pins, nil
}

func parsePin(ref string) (pin, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return pin{}, fmt.Errorf("%q: %w", ref, err)
	}
	p := pin{ref: named.String(), host: reference.Domain(named)}
	if tagged, ok := named.(reference.Tagged); ok {
		p.version = tagged.Tag()
	}
	if digested, ok := named.(reference.Digested); ok {
		canonical, err := reference.WithDigest(reference.TrimNamed(named), digested.Digest())
		if err != nil {
			return pin{}, fmt.Errorf("%q: %w", ref, err)
		}
		p.ref, p.verified = canonical.String(), true
	}
	return p, nil
}

// probe finds out which registries can be reached, each once.
type probe struct {
	// get asks a URL and returns the answer's status.
	get func(ctx context.Context, url string) (status int, err error)

	mu    sync.Mutex
	hosts map[string]*answer
}

type answer struct {
	done chan struct{}
	err  error // valid after done
}

func newProbe() *probe { return &probe{get: getStatus, hosts: map[string]*answer{}} }

// reach returns nil where the host answers as a registry does.
func (p *probe) reach(ctx context.Context, host string) error {
	p.mu.Lock()
	a, asked := p.hosts[host]
	if !asked {
		a = &answer{done: make(chan struct{})}
		p.hosts[host] = a
	}
	p.mu.Unlock()
	if !asked {
		// The answer is for all who ask, so it does not depend on the first
		// one's patience.
		go func() {
			defer close(a.done)
			a.err = p.ask(context.WithoutCancel(ctx), host)
		}()
	}
	select {
	case <-a.done:
		return a.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Reach returns nil where the host answers as a registry does, asked anew.
func Reach(ctx context.Context, host string) error { return newProbe().ask(ctx, host) }

// Registries returns the hosts of the pinned images, sorted.
func Registries() ([]string, error) {
	locked, err := images.Pins()
	if err != nil {
		return nil, err
	}
	pins, err := parsePins(locked)
	if err != nil {
		return nil, err
	}
	var hosts []string
	for _, p := range pins {
		hosts = append(hosts, p.host)
	}
	slices.Sort(hosts)
	return slices.Compact(hosts), nil
}

func (p *probe) ask(ctx context.Context, host string) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if host == "docker.io" {
		host = "registry-1.docker.io"
	}
	url := "https://" + host + "/v2/"
	status, err := p.get(ctx, url)
	switch {
	case err != nil:
		return fmt.Errorf("ask the registry %s: %w", host, err)
	case status != http.StatusOK && status != http.StatusUnauthorized:
		// Filtering proxies answer in the registry's place.
		return fmt.Errorf("ask the registry %s: it answers %d", host, status)
	}
	return nil
}

func getStatus(ctx context.Context, url string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}
