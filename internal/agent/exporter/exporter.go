// Package exporter shows Prometheus what it can't see by itself: whether the AWS
// emulator and the cluster's API answer, and whether the emulator still holds what
// Terraform has created. It looks when it is scraped.
package exporter

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sandbox-stack/sandbox/internal/agent"
	"github.com/sandbox-stack/sandbox/internal/live/existence"
)

// Config says what to look at. Everything in it is optional.
type Config struct {
	// Emulator is the URL of the AWS emulator.
	Emulator string
	// Cluster is the URL of the cluster's API.
	Cluster string
	// Modules are the Terraform state files, by the name of the module.
	Modules map[string]string
	// Region, AccessKey and SecretKey are for questions to the emulator.
	Region, AccessKey, SecretKey string
}

const (
	probeTimeout = 2 * time.Second
	// checkTimeout bounds a look at all resources of a module. It has to be over
	// before a scrape is.
	checkTimeout = 3 * time.Second
	// grace is how long what has never answered is starting, and not down.
	grace = 2 * time.Minute
)

// client asks for health anew each time: an old connection that still works says
// nothing about a new one. The certificate of the API is not looked at, as nothing
// but the answer's status is.
var client = &http.Client{Transport: &http.Transport{
	DisableKeepAlives: true,
	TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
}}

var (
	emulatorUp = prometheus.NewDesc("sandbox_emulator_up", "Whether the AWS emulator answers.", nil, nil)
	clusterUp  = prometheus.NewDesc("sandbox_cluster_api_up", "Whether the cluster's API server says that it is ready.", nil, nil)
	resources  = prometheus.NewDesc("sandbox_terraform_resources",
		"Resources of a Terraform module, by whether the emulator holds them.", []string{"module", "state"}, nil)
)

// Handler returns what the exporter answers; out gets a line whenever what it sees
// changes.
func Handler(cfg Config, out io.Writer) http.Handler {
	return handler(newCollector(cfg, out))
}

func handler(c *collector) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET "+agent.PathHealth, agent.Healthy)
	return mux
}

type collector struct {
	Config
	out  io.Writer
	soon func() bool // whether what has never answered may still be starting

	mu       sync.Mutex
	said     map[string]string // what was last logged of each thing
	answered map[string]bool   // what has been up
}

func newCollector(cfg Config, out io.Writer) *collector {
	began := time.Now()
	return &collector{
		Config: cfg, out: out, soon: func() bool { return time.Since(began) < grace },
		said: map[string]string{}, answered: map[string]bool{},
	}
}

// Describe lists the metrics.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- emulatorUp
	ch <- clusterUp
	ch <- resources
}

// Collect looks at everything at the same time.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	// Nothing is asked any further of an emulator that does not answer.
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	var all sync.WaitGroup
	if c.Emulator != "" {
		all.Go(func() {
			if !c.probe(ch, emulatorUp, "emulator", c.Emulator+"/_localstack/health") {
				cancel(errNoEmulator)
			}
		})
	}
	if c.Cluster != "" {
		all.Go(func() { c.probe(ch, clusterUp, "cluster API", c.Cluster+"/readyz") })
	}
	for name, file := range c.Modules {
		all.Go(func() { c.module(ctx, ch, name, file) })
	}
	all.Wait()
}

var errNoEmulator = errors.New("the emulator does not answer")

// probe asks for a URL: what answers with success is up. What is only starting has
// no series: nobody is to be alarmed by it.
func (c *collector) probe(ch chan<- prometheus.Metric, desc *prometheus.Desc, name, url string) (up bool) {
	err := get(url)
	c.say(name, err)
	if err != nil && !c.seen(name) && c.soon() {
		return false
	}
	value := 0.0
	if err == nil {
		value = 1
	}
	ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value)
	return err == nil
}

// seen reports whether a thing has ever answered.
func (c *collector) seen(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answered[name]
}

func get(url string) error {
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", resp.Status)
	}
	return nil
}

// module counts the resources of a module. Where that can't be known, it has no
// series: what is not seen is not missing.
func (c *collector) module(ctx context.Context, ch chan<- prometheus.Metric, name, file string) {
	count, err := c.count(ctx, file)
	c.say("Terraform module "+name, err)
	if err != nil {
		return
	}
	for _, state := range []existence.Verdict{existence.Held, existence.Missing, existence.Unknown} {
		ch <- prometheus.MustNewConstMetric(resources, prometheus.GaugeValue, float64(count[state]), name, string(state))
	}
}

func (c *collector) count(ctx context.Context, file string) (map[existence.Verdict]int, error) {
	list, err := existence.ReadState(file)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	verdicts, err := existence.Checker{
		Endpoint: c.Emulator, Region: c.Region, AccessKey: c.AccessKey, SecretKey: c.SecretKey,
	}.Check(ctx, list)
	if err != nil && errors.Is(context.Cause(ctx), errNoEmulator) {
		return nil, errNoEmulator
	}
	if err != nil {
		return nil, err
	}
	count := map[existence.Verdict]int{}
	for _, v := range verdicts {
		count[v]++
	}
	return count, nil
}

// say logs what becomes of a thing, once.
func (c *collector) say(name string, err error) {
	text := "ok"
	if err != nil {
		text = strings.ReplaceAll(err.Error(), "\n", " ")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.answered[name] = true
	}
	if c.said[name] == text {
		return
	}
	c.said[name] = text
	fmt.Fprintf(c.out, "%s: %s\n", name, text)
}
