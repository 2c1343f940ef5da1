package observe

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// appliedFile holds the hash of the configuration that the service has loaded.
// It is written after the service took it, so that a run that was killed in
// between loads it again.
const appliedFile = "applied"

// reloadTimeout is how long a service may take over a new configuration.
const reloadTimeout = 30 * time.Second

// deployment is the desired state of a service.
type deployment struct {
	dir   string                // holds config/, data/ and the applied mark
	files fileSet               // what config/ holds
	last  string                // the file to write last; it refers to the others
	spec  runtime.ContainerSpec // without what service.complete fills in
}

// check reports whether the service is as it should be.
func (s *service) check(ctx context.Context, d deployment) (bool, error) {
	spec, err := s.complete(ctx, d.spec)
	if err != nil {
		return false, err
	}
	ok, err := s.current(ctx, spec)
	if err != nil || !ok {
		return false, err
	}
	return applied(d.dir) == d.files.hash(), nil
}

// apply makes the service as it should be and reports whether it had to
// change anything. A service that only has a new configuration is told to
// reload it, which loses neither data nor the state of alerts.
func (s *service) apply(ctx context.Context, d deployment, rep event.Reporter) (changed bool, err error) {
	spec, err := s.complete(ctx, d.spec)
	if err != nil {
		return false, err
	}
	config := configDir(d.dir)
	old, err := readFiles(config)
	if err != nil {
		return false, err
	}
	for _, dir := range []string{config, dataDir(d.dir)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return false, fmt.Errorf("prepare %s: %w", s.title(), err)
		}
	}
	if err := d.files.write(config, d.last); err != nil {
		return false, err
	}
	started, err := s.ensure(ctx, spec, rep)
	if err != nil {
		return started, err
	}
	if !started {
		if applied(d.dir) == d.files.hash() {
			return false, nil
		}
		rep.Progress(event.Progress{Text: "reloading the configuration of " + s.title()})
		if err := s.reload(ctx); err != nil {
			// The service goes on with what it had; so must its files, or
			// its next start would fail.
			if len(old) > 0 {
				err = errors.Join(err, old.write(config, d.last))
			}
			return false, err
		}
	}
	return true, replaceFile(filepath.Join(d.dir, appliedFile), []byte(d.files.hash()))
}

// applied returns the hash of the configuration that was last loaded. Where
// the mark can't be read, nothing counts as loaded and it is loaded again.
func applied(dir string) string {
	content, err := os.ReadFile(filepath.Join(dir, appliedFile))
	if err != nil {
		return ""
	}
	return string(content)
}

// reload makes the service read its configuration and returns what it objects
// to. The answer comes after the new configuration has taken effect.
func (s *service) reload(ctx context.Context) error {
	if s.reloadPath == "" {
		return nil
	}
	c, err := s.find(ctx)
	if err != nil {
		return err
	}
	base, err := baseURL(c, s.port)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	if _, err := request(ctx, http.MethodPost, base+s.reloadPath); err != nil {
		why := err.Error()
		var refused *statusError
		if errors.As(err, &refused) {
			why = strings.TrimPrefix(refused.body, "failed to reload config: ")
		}
		return &fault.Error{
			Code: fault.Failed, What: s.title() + " refuses its new configuration and keeps the old one",
			Why: why, Try: "sandbox logs " + s.component, Log: s.tail(ctx, c.ID), Cause: err,
		}
	}
	return nil
}
