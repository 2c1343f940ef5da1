package aws

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// healthPath is LocalStack's own account of its health. MiniStack answers it
// in the same form.
const healthPath = "/_localstack/health"

// answerTimeout bounds one look at the emulator's health.
const answerTimeout = 800 * time.Millisecond

// localStackEnv is the environment of a LocalStack container.
func localStackEnv(cfg Config) map[string]string {
	env := map[string]string{
		"GATEWAY_LISTEN": fmt.Sprintf("0.0.0.0:%d", listenPort),
		// URLs that LocalStack hands out, such as those of queues, work in
		// pods. Clients on the host name the endpoint themselves.
		"LOCALSTACK_HOST": fmt.Sprintf("%s:%d", ServiceHost, ServicePort),
		// HOST/ACCOUNT/QUEUE: the only form with a resolvable host that
		// Terraform's AWS provider accepts (QueueNameFromURL wants two parts).
		"SQS_ENDPOINT_STRATEGY": "off",
		"AWS_DEFAULT_REGION":    cfg.Region,
		// Nothing is fetched from or reported to the outside.
		"SKIP_SSL_CERT_DOWNLOAD": "1",
		"DISABLE_EVENTS":         "1",
		// The cluster's DNS finds the emulator; its own would only look for
		// servers to forward to.
		"DNS_ADDRESS": "0",
		// The control API of the emulator has no users here.
		"ENABLE_CONFIG_UPDATES": "0",
	}
	if len(cfg.Services) > 0 {
		// The services that the stack uses load while the cluster boots;
		// STRICT_SERVICE_LOADING=0 keeps the others available.
		env["SERVICES"] = strings.Join(cfg.Services, ",")
		env["EAGER_SERVICE_LOADING"] = "1"
		env["STRICT_SERVICE_LOADING"] = "0"
	}
	return env
}

// report is the emulator's own account of its health.
type report struct {
	Services map[string]string `json:"services"`
	Edition  string            `json:"edition"`
	Version  string            `json:"version"`
}

// ask fetches the emulator's report from the endpoint.
func ask(ctx context.Context, endpoint string) (*report, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+healthPath, nil)
	if err != nil {
		return nil, fmt.Errorf("ask the AWS emulator: %w", err)
	}
	resp, err := direct.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", healthPath, resp.Status)
	}
	var r report
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
		return nil, fmt.Errorf("%s answers nonsense: %w", healthPath, err)
	}
	return &r, nil
}

// direct is a client that never goes through a proxy: the emulator is local.
var direct = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
