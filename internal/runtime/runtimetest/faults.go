package runtimetest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/sandbox-stack/sandbox/internal/runtime"
)

func testPause(t *testing.T, s *suite) {
	ctx := testContext(t)
	spec := s.spec(t, "serve", "8080")
	spec.Ports = []runtime.Port{{Container: 8080}}
	c := s.create(t, spec)
	if err := s.rt.PauseContainer(ctx, c.ID); err == nil {
		t.Error("a container that does not run was paused")
	}
	must(t, s.rt.StartContainer(ctx, c.ID))
	must(t, s.rt.UnpauseContainer(ctx, c.ID)) // not paused: no error
	s.answers(t, c.Ports[0].HostPort)
	began, err := s.rt.Container(ctx, c.ID)
	must(t, err)

	must(t, s.rt.PauseContainer(ctx, c.ID))
	must(t, s.rt.PauseContainer(ctx, c.ID)) // paused already: no error
	c, err = s.rt.Container(ctx, c.ID)
	must(t, err)
	if c.State != "paused" || c.Running() || c.PID != began.PID {
		t.Errorf("after pause: %+v", c)
	}
	s.silent(t, c.Ports[0].HostPort)

	must(t, s.rt.UnpauseContainer(ctx, c.ID))
	c, err = s.rt.Container(ctx, c.ID)
	must(t, err)
	if !c.Running() || c.PID != began.PID || !c.Started.Equal(began.Started) {
		t.Errorf("after unpause: %+v, before %+v", c, began)
	}
	s.answers(t, c.Ports[0].HostPort)

	must(t, s.rt.StopContainer(ctx, c.ID, time.Second))
	must(t, s.rt.UnpauseContainer(ctx, c.ID)) // stopped: no error
}

// What is left paused can be started, stopped and removed like anything else.
func testPauseLeft(t *testing.T, s *suite) {
	ctx := testContext(t)
	c := s.start(t, s.spec(t, "wait"))
	s.waitLog(t, c.ID, "ready")
	began := c.Started

	must(t, s.rt.PauseContainer(ctx, c.ID))
	must(t, s.rt.StartContainer(ctx, c.ID))
	c, err := s.rt.Container(ctx, c.ID)
	must(t, err)
	if !c.Running() || !c.Started.Equal(began) {
		t.Errorf("a paused container after start: %+v", c)
	}

	must(t, s.rt.PauseContainer(ctx, c.ID))
	must(t, s.rt.StopContainer(ctx, c.ID, 10*time.Second))
	c, err = s.rt.Container(ctx, c.ID)
	must(t, err)
	if c.State != "exited" || c.ExitCode != 0 {
		t.Errorf("a paused container after stop: %+v", c)
	}

	must(t, s.rt.StartContainer(ctx, c.ID))
	must(t, s.rt.PauseContainer(ctx, c.ID))
	must(t, s.rt.RemoveContainer(ctx, c.ID))
	_, err = s.rt.Container(ctx, c.ID)
	mustBe(t, err, runtime.ErrNotFound)
}

func testDisconnect(t *testing.T, s *suite) {
	ctx := testContext(t)
	s.network(t)
	// The server is not the last to get an address, so that it has a later one
	// or another's were it to get a new one.
	spec := s.spec(t, "serve", "8080")
	spec.Network, spec.Aliases, spec.Ports = netName, []string{"web", "www"}, []runtime.Port{{Container: 8080}}
	server := s.start(t, spec)
	other := s.spec(t, "wait")
	other.Name, other.Network = other.Name+"-client", netName
	client := s.start(t, other)

	aliases := server.Aliases[netName]
	slices.Sort(aliases)
	if !slices.Equal(aliases, spec.Aliases) {
		t.Errorf("aliases %q, want %q", server.Aliases, spec.Aliases)
	}
	before := server.Endpoint(netName)
	s.answers(t, server.Ports[0].HostPort)
	must(t, s.rt.ConnectNetwork(ctx, netName, server.ID, before)) // on it already

	for _, endpoint := range []runtime.Endpoint{before, {Aliases: aliases}, {Aliases: []string{"web"}, IP: before.IP, MAC: before.MAC}} {
		must(t, s.rt.DisconnectNetwork(ctx, netName, server.ID))
		must(t, s.rt.DisconnectNetwork(ctx, netName, server.ID)) // not on it: no error
		c, err := s.rt.Container(ctx, server.ID)
		must(t, err)
		if _, on := c.Aliases[netName]; on || c.IPs[netName] != "" || !c.Running() || c.PID != server.PID {
			t.Errorf("after disconnect: %+v", c)
		}
		s.silent(t, server.Ports[0].HostPort)

		must(t, s.rt.ConnectNetwork(ctx, netName, server.ID, endpoint))
		must(t, s.rt.ConnectNetwork(ctx, netName, server.ID, endpoint)) // on it already: no error
		c, err = s.rt.Container(ctx, server.ID)
		must(t, err)
		if c.IPs[netName] == "" || (endpoint.IP != "" && c.IPs[netName] != endpoint.IP) || c.PID != server.PID || !c.Attached(netName, endpoint) {
			t.Errorf("after connect to %+v: %+v", endpoint, c)
		}
		s.answers(t, server.Ports[0].HostPort)
		for _, host := range append([]string{spec.Name, c.IPs[netName]}, endpoint.Aliases...) {
			s.reaches(t, client.ID, host)
		}
	}
	// On it, but not by that name.
	before.Aliases = []string{"late"}
	must(t, s.rt.ConnectNetwork(ctx, netName, server.ID, before))
	c, err := s.rt.Container(ctx, server.ID)
	must(t, err)
	if !c.Attached(netName, before) {
		t.Errorf("after connect to %+v: %+v", before, c)
	}
	s.answers(t, server.Ports[0].HostPort)
	// Its address is the other's.
	taken := runtime.Endpoint{Aliases: before.Aliases, IP: client.IPs[netName]}
	for range 2 {
		must(t, s.rt.DisconnectNetwork(ctx, netName, server.ID))
		if err := s.rt.ConnectNetwork(ctx, netName, server.ID, taken); err == nil {
			t.Error("two containers of one address")
		}
	}
	s.silent(t, server.Ports[0].HostPort)
	must(t, s.rt.ConnectNetwork(ctx, netName, server.ID, runtime.Endpoint{Aliases: before.Aliases}))
	s.answers(t, server.Ports[0].HostPort)
	s.reaches(t, client.ID, "late")
}

// A container keeps what it was connected with over a restart; when another one
// has taken its address meanwhile, it gets a new one.
func testConnectRestart(t *testing.T, s *suite) {
	ctx := testContext(t)
	s.network(t)
	spec := s.spec(t, "serve", "8080")
	spec.Network, spec.Aliases, spec.Ports = netName, []string{"web"}, []runtime.Port{{Container: 8080}}
	server := s.start(t, spec)
	before := server.IPs[netName]
	fixed := server.Endpoint(netName)
	must(t, s.rt.DisconnectNetwork(ctx, netName, server.ID))
	must(t, s.rt.ConnectNetwork(ctx, netName, server.ID, fixed))
	must(t, s.rt.StopContainer(ctx, server.ID, 5*time.Second))
	must(t, s.rt.StartContainer(ctx, server.ID))
	s.answers(t, server.Ports[0].HostPort)

	must(t, s.rt.StopContainer(ctx, server.ID, 5*time.Second))
	other := s.spec(t, "wait")
	other.Name, other.Network = other.Name+"-other", netName
	client := s.start(t, other)
	must(t, s.rt.DisconnectNetwork(ctx, netName, client.ID))
	must(t, s.rt.ConnectNetwork(ctx, netName, client.ID, runtime.Endpoint{IP: before}))
	must(t, s.rt.StartContainer(ctx, server.ID))
	again, err := s.rt.Container(ctx, server.ID)
	must(t, err)
	if ip := again.IPs[netName]; ip == "" || ip == before {
		t.Errorf("address %q, which was %s, another's by now", ip, before)
	}
	s.answers(t, server.Ports[0].HostPort)
	s.reaches(t, client.ID, "web")
}

// network creates the suite's network for the length of the test.
func (s *suite) network(t *testing.T) {
	t.Helper()
	_, err := s.rt.CreateNetwork(testContext(t), netName, s.labels)
	must(t, err)
	t.Cleanup(func() { must(t, s.rt.RemoveNetwork(context.Background(), netName)) })
}

// answers waits until the published port answers.
func (s *suite) answers(t *testing.T, port int) {
	t.Helper()
	if !s.features.Network {
		return
	}
	eventually(t, "the port answers", func() bool {
		text, err := fetch(testContext(t), "127.0.0.1", port)
		return err == nil && text == "hello\n"
	})
}

// silent makes sure that the published port does not answer.
func (s *suite) silent(t *testing.T, port int) {
	t.Helper()
	if !s.features.Network {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if text, err := fetch(ctx, "127.0.0.1", port); err == nil {
		t.Errorf("the port answers: %q", text)
	}
}

// reaches asks for the server's page from within the container.
func (s *suite) reaches(t *testing.T, id, host string) {
	t.Helper()
	if !s.features.Network {
		return
	}
	var out, errs buffer
	code, err := s.rt.Exec(testContext(t), id, runtime.ExecSpec{Cmd: []string{"/box", "get", "http://" + host + ":8080/"}, Stdout: &out, Stderr: &errs})
	must(t, err)
	if code != 0 || out.String() != "hello\n" {
		t.Errorf("%s: code %d, %q %s", host, code, out.String(), errs.String())
	}
}
