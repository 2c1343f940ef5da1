//go:build integration

package observe

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sandbox-stack/sandbox/internal/event"
)

const apiToken = "let-me-in"

// apiServer plays the part of a Kubernetes API that Prometheus uses: lists of
// pods and nodes, and the proxy in front of them. It wants the token.
type apiServer struct {
	pods, nodes any
	proxied     map[string]string // path → metrics
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer "+apiToken {
		http.Error(w, "unauthorized", http.StatusUnauthorized)
		return
	}
	if metrics, ok := s.proxied[r.URL.Path]; ok {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		fmt.Fprint(w, metrics)
		return
	}
	if r.URL.Query().Get("watch") != "" {
		w.WriteHeader(http.StatusOK)
		if err := http.NewResponseController(w).Flush(); err == nil {
			<-r.Context().Done() // nothing ever changes
		}
		return
	}
	var list any
	switch r.URL.Path {
	case "/api/v1/pods", "/api/v1/namespaces/sandbox-system/pods":
		list = s.pods
	case "/api/v1/nodes":
		list = s.nodes
	default:
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(list); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func pod(namespace, name string, port int32, labels, annotations map[string]string) corev1.Pod {
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: "u", Labels: labels, Annotations: annotations},
		Spec: corev1.PodSpec{NodeName: "node-1", Containers: []corev1.Container{{
			Name: "c", Ports: []corev1.ContainerPort{{ContainerPort: port, Protocol: corev1.ProtocolTCP}},
		}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.244.0.9"},
	}
}

func TestDiscoveryThroughTheAPIForReal(t *testing.T) {
	rt := openEngine(t)
	network, err := rt.CreateNetwork(t.Context(), "sandbox-"+testSandbox, map[string]string{"sandbox.name": testSandbox})
	if err != nil {
		t.Fatal(err)
	}
	cfg := PrometheusConfig{
		Common: Common{Sandbox: testSandbox, Run: "r1", Network: network.Name},
		Image:  platformImage(t, rt, "prometheus"), Dir: filepath.Join(t.TempDir(), "prometheus"),
		ScrapeInterval: time.Second, EvaluationInterval: time.Second,
	}
	prom := NewPrometheus(rt, cfg)
	if _, err := prom.Ensure(t.Context(), event.Discard); err != nil {
		fatal(t, err)
	}
	// The gateway's address exists on this host once a container is up.
	if network.Gateway == "" {
		t.Fatalf("network %+v has no gateway to serve the API on", network)
	}
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", net.JoinHostPort(network.Gateway, "0"))
	if err != nil {
		t.Fatalf("serve on the network's gateway (needs a rootful engine): %v", err)
	}
	key, ca := newCertificate(t, net.ParseIP(network.Gateway))
	srv := &http.Server{
		ReadHeaderTimeout: time.Second,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{keyPair(t, key, ca)}, MinVersion: tls.VersionTLS12},
		Handler: &apiServer{
			pods: corev1.PodList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PodList"}, ListMeta: metav1.ListMeta{ResourceVersion: "1"}, Items: []corev1.Pod{
				pod("production", "web-1", 3000, map[string]string{"app": "web"}, map[string]string{"prometheus.io/scrape": "true", "prometheus.io/path": "/stats"}),
				pod("production", "web-2", 3000, map[string]string{"app": "web"}, map[string]string{"prometheus.io/scrape": "true"}),
				pod("production", "quiet", 80, nil, nil),
				pod("sandbox-system", "ksm-1", 8080, map[string]string{"app.kubernetes.io/name": "kube-state-metrics"}, nil),
			}},
			nodes: corev1.NodeList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "NodeList"}, ListMeta: metav1.ListMeta{ResourceVersion: "1"}, Items: []corev1.Node{{
				ObjectMeta: metav1.ObjectMeta{Name: "node-1", UID: "n"},
				Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.89.0.2"}}},
			}}},
			proxied: map[string]string{
				"/api/v1/namespaces/production/pods/web-1:3000/proxy/stats":       "orders_total 3\n",
				"/api/v1/nodes/node-1/proxy/metrics":                              "kubelet_running_pods 4\n",
				"/api/v1/nodes/node-1/proxy/metrics/cadvisor":                     "container_memory_usage_bytes{namespace=\"production\",pod=\"web-1\"} 7 1000\n",
				"/api/v1/namespaces/sandbox-system/pods/ksm-1:8080/proxy/metrics": "kube_pod_info{namespace=\"production\",pod=\"web-1\"} 1\n",
			},
		},
	}
	served := make(chan error, 1)
	go func() { served <- srv.ServeTLS(listener, "", "") }()
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		<-served //nolint:errcheck // always ErrServerClosed
	})

	access := Access{Server: "https://" + listener.Addr().String(), CA: ca, Token: apiToken}
	if changed, err := prom.SetCluster(t.Context(), access, event.Discard); err != nil || !changed {
		t.Fatalf("changed %v, %v", changed, err)
	}
	for query, want := range map[string]string{
		`orders_total{job="kubernetes-pods",namespace="production",pod="web-1",app="web",node="node-1",instance="web-1:3000"}`: "3",
		`kubelet_running_pods{job="kubernetes-kubelet",node="node-1"}`:                                                         "4",
		`container_memory_usage_bytes{job="kubernetes-cadvisor",namespace="production",pod="web-1",node="node-1"}`:             "7",
		`kube_pod_info{job="kube-state-metrics",namespace="production",pod="web-1"}`:                                           "1",
	} {
		eventually(t, query, func() (bool, any) {
			value, err := prom.Query(t.Context(), query)
			if err != nil {
				return false, err
			}
			v, ok := value.(model.Vector)
			return ok && len(v) == 1 && v[0].Value.String() == want, value
		})
	}
	// web-2 has no metrics behind the proxy; nothing else is missed.
	eventually(t, "health", func() (bool, any) {
		h := prom.Health(context.WithoutCancel(t.Context()))[0]
		return h.State == event.StateDegraded && h.Reason == "kubernetes-pods 1 of 2 up: server returned HTTP status 404 Not Found", h
	})
	targets, err := prom.Targets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range targets {
		if strings.Contains(target.ScrapeURL, "quiet") {
			t.Errorf("the pod without the annotation is scraped: %s", target.ScrapeURL)
		}
	}
}

func keyPair(t *testing.T, key *ecdsa.PrivateKey, certificate []byte) tls.Certificate {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certificate, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	return pair
}
