package runtimetest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

const netName = "sandbox-runtimetest"

func testNetworks(t *testing.T, s *suite) {
	ctx := testContext(t)
	created, err := s.rt.CreateNetwork(ctx, netName, s.labels)
	must(t, err)
	defer func() { must(t, s.rt.RemoveNetwork(ctx, netName)) }()
	if created.Name != netName || len(created.Subnets) == 0 || created.Gateway == "" {
		t.Errorf("got %+v", created)
	}
	again, err := s.rt.CreateNetwork(ctx, netName, s.labels)
	must(t, err)
	if again.ID != created.ID {
		t.Error("a second network of that name")
	}
	_, err = s.rt.CreateNetwork(ctx, netName, map[string]string{runtime.LabelName: "other-" + Name})
	if fault.CodeOf(err) != fault.Conflict {
		t.Errorf("somebody else's network: %v, want a conflict", err)
	}
	networks, err := s.rt.Networks(ctx, s.labels)
	must(t, err)
	if len(networks) != 1 || networks[0].Name != netName || networks[0].Labels[runtime.LabelName] != Name {
		t.Errorf("listed: %+v", networks)
	}
	none, err := s.rt.Networks(ctx, map[string]string{runtime.LabelName: Name, runtime.LabelRun: "x"})
	must(t, err)
	if len(none) != 0 {
		t.Errorf("with another label: %+v", none)
	}
}

func testNetworkNames(t *testing.T, s *suite) {
	if !s.features.Network {
		t.Skip("this runtime has no real network")
	}
	s.network(t)
	server := s.spec(t, "serve", "8080")
	server.Name, server.Network, server.Aliases = "sandbox-runtimetest-server", netName, []string{"web"}
	running := s.start(t, server)
	if running.IPs[netName] == "" {
		t.Errorf("no address: %+v", running)
	}
	client := s.spec(t, "wait")
	client.Name, client.Network = "sandbox-runtimetest-client", netName
	c := s.start(t, client)
	for _, host := range []string{server.Name, "web", running.IPs[netName]} {
		s.reaches(t, c.ID, host)
	}
}

func testPorts(t *testing.T, s *suite) {
	spec := s.spec(t, "serve", "8080")
	spec.Ports = []runtime.Port{{Container: 8080}}
	c := s.start(t, spec)
	if len(c.Ports) != 1 || c.Ports[0].HostIP != "127.0.0.1" || c.Ports[0].Container != 8080 || c.Ports[0].HostPort <= 0 {
		t.Fatalf("ports %+v", c.Ports)
	}
	if !s.features.Network {
		return
	}
	port := c.Ports[0].HostPort
	s.answers(t, port)
	for _, address := range otherAddresses(t) {
		if text, err := fetch(testContext(t), address, port); err == nil {
			t.Errorf("the port answers on %s: %q", address, text)
		}
	}
}

func testPortTaken(t *testing.T, s *suite) {
	if !s.features.Network {
		t.Skip("this runtime has no real network")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = listener.Close() }()
	port := listener.Addr().(*net.TCPAddr).Port
	spec := s.spec(t, "serve", "8080")
	spec.Ports = []runtime.Port{{HostPort: port, Container: 8080}}
	c := s.create(t, spec)
	err = s.rt.StartContainer(testContext(t), c.ID)
	if fault.CodeOf(err) != fault.Conflict {
		t.Fatalf("error %v, want a conflict", err)
	}
	for _, want := range []string{strconv.Itoa(port), strconv.Itoa(os.Getpid())} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %s", err, want)
		}
	}
}

// fetch asks for the page at address:port.
func fetch(ctx context.Context, address string, port int) (string, error) {
	url := "http://" + net.JoinHostPort(address, strconv.Itoa(port)) + "/"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	transport := &http.Transport{DisableKeepAlives: true} // without a proxy
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", url, err)
	}
	return string(text), nil
}

// otherAddresses lists this host's IPv4 addresses that are not loopback.
func otherAddresses(t *testing.T) []string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	must(t, err)
	var others []string
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && n.IP.To4() != nil {
			others = append(others, n.IP.String())
		}
	}
	return others
}
