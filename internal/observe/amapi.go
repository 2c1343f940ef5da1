package observe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
)

// SentAlert is an alert as Alertmanager has it.
type SentAlert struct {
	Labels map[string]string `json:"labels"`
	Status struct {
		// State is active, suppressed, or unprocessed.
		State       string   `json:"state"`
		SilencedBy  []string `json:"silencedBy"`
		InhibitedBy []string `json:"inhibitedBy"`
		MutedBy     []string `json:"mutedBy"`
	} `json:"status"`
	Receivers []struct {
		Name string `json:"name"`
	} `json:"receivers"`
	Fingerprint string `json:"fingerprint"`
}

// Alerts returns the alerts that Alertmanager has, by version 2 of its API: those
// that match, such as `alertname="Down"`, or all of them for "".
func (a *Alertmanager) Alerts(ctx context.Context, matcher string) ([]SentAlert, error) {
	base, err := a.svc.url(ctx)
	if err != nil {
		return nil, err
	}
	return alertsAt(ctx, base, matcher)
}

func alertsAt(ctx context.Context, base, matcher string) ([]SentAlert, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	address := base + "/api/v2/alerts"
	if matcher != "" {
		address += "?" + url.Values{"filter": {matcher}}.Encode()
	}
	body, err := request(ctx, http.MethodGet, address)
	if err != nil {
		return nil, errors.New(shortError(err.Error()))
	}
	var alerts []SentAlert
	if err := json.Unmarshal(body, &alerts); err != nil {
		return nil, fmt.Errorf("ask Alertmanager for its alerts: %w", err)
	}
	return alerts, nil
}

// Notifying returns the receivers that notify somebody, by the configuration.
func (a *Alertmanager) Notifying() ([]string, error) {
	cfg := ownRouting()
	if a.cfg.Config != "" {
		var err error
		if cfg, err = readRouting(a.cfg.Config, fileSet{}); err != nil {
			return nil, err
		}
	}
	var names []string
	list, _ := cfg["receivers"].([]any)
	for _, item := range list {
		if r, ok := item.(map[string]any); ok && (a.cfg.Config == "" || notifies(r)) {
			names = append(names, fmt.Sprint(r["name"]))
		}
	}
	slices.Sort(names)
	return names, nil
}
