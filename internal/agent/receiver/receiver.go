// Package receiver takes the notifications that Alertmanager sends during a drill,
// keeps them, and hands them out to whoever waits for one.
package receiver

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Notification is what Alertmanager sent to a receiver at once.
type Notification struct {
	// Receiver is the name of the receiver in Alertmanager's configuration.
	Receiver   string    `json:"receiver"`
	ReceivedAt time.Time `json:"receivedAt"`
	Status     string    `json:"status"` // firing or resolved
	Alerts     []Alert   `json:"alerts"`
}

// Alert is an alert as it was sent.
type Alert struct {
	Status      string            `json:"status"` // firing or resolved
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
	EndsAt      time.Time         `json:"endsAt"`
	Fingerprint string            `json:"fingerprint"`
}

// answerSize bounds what is read of a receiver's answer, in bytes.
const answerSize = 2 * keepBytes

// local never goes through a proxy: the receiver's port is on this host.
var local = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: 10 * time.Second}}

// Fetch returns what the receiver at baseURL was sent, the earliest first.
func Fetch(ctx context.Context, baseURL string) ([]Notification, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(baseURL, "/")+pathNotifications, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("ask the receiver: %w", err)
	}
	resp, err := local.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the receiver: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask the receiver: it answers %s", resp.Status)
	}
	var list []Notification
	if err := json.NewDecoder(io.LimitReader(resp.Body, answerSize)).Decode(&list); err != nil {
		return nil, fmt.Errorf("read the receiver's answer: %w", err)
	}
	return list, nil
}

// broken are the words that Prometheus and Alertmanager leave where a template
// could not be filled in.
var broken = []string{"<no value>", "<error expanding template"}

// CheckPayload returns what is wrong with an alert for who reads it; nothing, if
// nothing is.
func CheckPayload(a Alert) []string {
	var wrong []string
	if a.Labels["alertname"] == "" {
		wrong = append(wrong, "the label alertname is missing")
	}
	for _, part := range []struct {
		kind   string
		values map[string]string
	}{{"label", a.Labels}, {"annotation", a.Annotations}} {
		for _, name := range slices.Sorted(maps.Keys(part.values)) {
			value := part.values[name]
			if part.kind == "annotation" && strings.TrimSpace(value) == "" {
				wrong = append(wrong, "the annotation "+name+" is empty")
			}
			for _, word := range broken {
				if strings.Contains(value, word) {
					wrong = append(wrong, fmt.Sprintf("the %s %s was not filled in: %q", part.kind, name, value))
					break
				}
			}
		}
	}
	return wrong
}
