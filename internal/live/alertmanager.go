package live

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"golang.org/x/sync/errgroup"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// local never goes through a proxy: what it asks is on this host.
var local = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// askAlertmanager asks the Alertmanager at base, by version 2 of its API, for
// what it makes of the alerts.
func askAlertmanager(ctx context.Context, base string) (event.AlertmanagerChanged, error) {
	var alerts []struct {
		Status struct {
			State       string   `json:"state"`
			InhibitedBy []string `json:"inhibitedBy"`
		} `json:"status"`
	}
	var silences []struct {
		Status struct {
			State string `json:"state"`
		} `json:"status"`
	}
	var receivers []struct {
		Name string `json:"name"`
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return getJSON(ctx, base+"/api/v2/alerts", &alerts) })
	g.Go(func() error { return getJSON(ctx, base+"/api/v2/silences", &silences) })
	g.Go(func() error { return getJSON(ctx, base+"/api/v2/receivers", &receivers) })
	if err := g.Wait(); err != nil {
		return event.AlertmanagerChanged{}, err
	}
	var out event.AlertmanagerChanged
	for _, a := range alerts {
		if a.Status.State == "active" {
			out.Active++
		}
		if len(a.Status.InhibitedBy) > 0 {
			out.Inhibited++
		}
	}
	for _, s := range silences {
		if s.Status.State == "active" {
			out.Silences++
		}
	}
	for _, r := range receivers {
		out.Receivers = append(out.Receivers, r.Name)
	}
	return out, nil
}

// getJSON reads the JSON at a URL into out.
func getJSON(ctx context.Context, url string, out any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("ask %s: %w", url, err)
	}
	resp, err := local.Do(req)
	if err != nil {
		return err // it names the URL
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return fmt.Errorf("GET %s: %w", url, err)
	}
	return nil
}
