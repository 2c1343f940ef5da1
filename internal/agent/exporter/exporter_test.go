package exporter

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const stateFile = `{"version": 4, "resources": [
  {"mode": "managed", "type": "aws_s3_bucket", "name": "held", "instances": [{"attributes": {"id": "held", "bucket": "held"}}]},
  {"mode": "managed", "type": "aws_s3_bucket", "name": "gone", "instances": [{"attributes": {"id": "gone", "bucket": "gone"}}]},
  {"mode": "managed", "type": "random_id", "name": "x", "instances": [{"attributes": {"id": "x"}}]}
]}`

// scrape returns the samples of a scrape.
func scrape(t *testing.T, h http.Handler) []string {
	t.Helper()
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
	body, err := io.ReadAll(rec.Result().Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, rec.Code, string(body))
	var samples []string
	for line := range strings.Lines(string(body)) {
		if !strings.HasPrefix(line, "#") {
			samples = append(samples, strings.TrimSpace(line))
		}
	}
	return samples
}

func TestMetrics(t *testing.T) {
	var broken atomic.Bool
	emulator := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case broken.Load():
			w.WriteHeader(http.StatusBadGateway)
		case strings.Contains(r.URL.Path, "gone"):
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer emulator.Close()
	var ready atomic.Bool
	cluster := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		assert.Equal(t, "/readyz", r.URL.Path)
		if !ready.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	defer cluster.Close()
	file := filepath.Join(t.TempDir(), "terraform.tfstate")
	var log bytes.Buffer
	h := Handler(Config{
		Emulator: emulator.URL, Cluster: cluster.URL, Modules: map[string]string{"infra": file},
		Region: "us-east-1", AccessKey: "a", SecretKey: "b",
	}, &log)

	// Before anything was applied there is no state file, and the API starts.
	assert.Equal(t, []string{
		"sandbox_emulator_up 1",
		`sandbox_terraform_resources{module="infra",state="held"} 0`,
		`sandbox_terraform_resources{module="infra",state="missing"} 0`,
		`sandbox_terraform_resources{module="infra",state="unknown"} 0`,
	}, scrape(t, h))

	require.NoError(t, os.WriteFile(file, []byte(stateFile), 0o600))
	ready.Store(true)
	want := []string{
		"sandbox_cluster_api_up 1", "sandbox_emulator_up 1",
		`sandbox_terraform_resources{module="infra",state="held"} 1`,
		`sandbox_terraform_resources{module="infra",state="missing"} 1`,
		`sandbox_terraform_resources{module="infra",state="unknown"} 1`,
	}
	assert.Equal(t, want, scrape(t, h))
	assert.Equal(t, want, scrape(t, h))

	// What has answered is down from then on, not starting.
	ready.Store(false)
	want[0] = "sandbox_cluster_api_up 0"
	assert.Equal(t, want, scrape(t, h))
	ready.Store(true)

	// What can't be seen is not missing.
	broken.Store(true)
	assert.Equal(t, []string{"sandbox_cluster_api_up 1", "sandbox_emulator_up 0"}, scrape(t, h))

	for line, n := range map[string]int{
		"emulator: ok\n": 1, "emulator: it answers 502 Bad Gateway\n": 1,
		"cluster API: it answers 500 Internal Server Error\n": 2, "cluster API: ok\n": 2,
		"Terraform module infra: ok\n": 1,
	} {
		assert.Equal(t, n, strings.Count(log.String(), line), line)
	}
}

func TestWhatIsNotThereHasNoMetrics(t *testing.T) {
	assert.Empty(t, scrape(t, Handler(Config{}, io.Discard)))
}

// The emulator answers, but not to the questions about resources.
func TestQuestionsThatAreNotAnswered(t *testing.T) {
	emulator := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/_localstack/health" {
			w.WriteHeader(http.StatusBadGateway)
		}
	}))
	defer emulator.Close()
	file := filepath.Join(t.TempDir(), "terraform.tfstate")
	require.NoError(t, os.WriteFile(file, []byte(stateFile), 0o600))
	var log bytes.Buffer
	h := Handler(Config{Emulator: emulator.URL, Modules: map[string]string{"infra": file}, Region: "us-east-1"}, &log)
	assert.Equal(t, []string{"sandbox_emulator_up 1"}, scrape(t, h))
	assert.Contains(t, log.String(), "Terraform module infra: look for aws_s3_bucket.")
}

func TestAScrapeOfNothingThatAnswersEnds(t *testing.T) {
	silent := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-silent }))
	defer srv.Close()
	defer close(silent)
	file := filepath.Join(t.TempDir(), "terraform.tfstate")
	require.NoError(t, os.WriteFile(file, []byte(stateFile), 0o600))
	var log bytes.Buffer
	c := newCollector(Config{Emulator: srv.URL, Modules: map[string]string{"infra": file}}, &log)
	assert.Empty(t, scrape(t, handler(c)), "it may be starting")
	c.soon = func() bool { return false }
	assert.Equal(t, []string{"sandbox_emulator_up 0"}, scrape(t, handler(c)))
	assert.Equal(t, 1, strings.Count(log.String(), "Terraform module infra: the emulator does not answer\n"))
}
