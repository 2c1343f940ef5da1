package render

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/exp/golden"
)

var checks = []Check{
	{ID: "engine/installed", State: "ok", What: "podman is /usr/bin/podman"},
	{ID: "engine/version", State: "fail", What: "podman 3.4.4 is too old", Why: "at least 4.3.0 is needed", Fix: "sudo apt-get update && sudo apt-get install -y --no-install-recommends podman"},
	{ID: "rootless/ids", State: "skip", What: "not rootless", Why: "this is for Podman without root"},
	{ID: "kernel/cgroup", State: "warn", What: "v1, driver cgroupfs", Why: "crun, systemd 256 and Kubernetes 1.35 refuse it; sandbox uses runc and tells the kubelet to accept it", Fix: "boot with systemd.unified_cgroup_hierarchy=1"},
	{ID: "network/ports", State: "fail", What: "taken: 4566 for aws by process 12 (python3 \x1b[31m-m http.server 4566)", Why: "every published port binds 127.0.0.1, and only one process can have it", Fix: "sandbox up --ports auto"},
	{ID: "network/registry", State: "ok", What: "docker.io, registry.k8s.io"},
}

func TestChecksTable(t *testing.T) {
	for name, style := range map[string]Style{
		"pipe":       {},
		"120 colour": {Color: true, Width: 120},
		"80 ascii":   {Width: 80, ASCII: true},
		"40":         {Width: 40},
	} {
		t.Run(name, func(t *testing.T) {
			var buf bytes.Buffer
			if err := WriteChecks(&buf, "doctor", "fail", []string{"podman 3.4.4", "for web-app"}, checks, style); err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(buf.String()) {
				if w := ansi.StringWidth(strings.TrimSuffix(line, "\n")); style.Width > 0 && w > style.Width {
					t.Errorf("%d columns, more than %d: %q", w, style.Width, line)
				}
				if style.ASCII && strings.ContainsFunc(line, func(r rune) bool { return r > 0x7e }) {
					t.Errorf("not ASCII: %q", line)
				}
			}
			golden.RequireEqual(t, buf.Bytes())
		})
	}
}

func TestWarning(t *testing.T) {
	var buf bytes.Buffer
	if err := WriteWarning(&buf, checks[3], Style{ASCII: true}); err != nil {
		t.Fatal(err)
	}
	const want = "! v1, driver cgroupfs\n" +
		"  crun, systemd 256 and Kubernetes 1.35 refuse it; sandbox uses runc and tells the kubelet to accept it\n" +
		"  Try: boot with systemd.unified_cgroup_hierarchy=1\n"
	if buf.String() != want {
		t.Errorf("got %q", buf.String())
	}
}

func TestWaiting(t *testing.T) {
	for name, tc := range map[string]struct {
		redraw bool
		want   string
	}{
		"terminal": {true, "\r\x1b[K1 of 3\r\x1b[K2 of 3\r\x1b[K"},
		"lines":    {false, "1 of 3\n"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var buf bytes.Buffer
				p := NewWaiting(&buf, Style{Width: 80}, tc.redraw, time.Second)
				p.Set("1 of 3")
				<-time.After(time.Second / 2)
				if buf.Len() > 0 {
					t.Errorf("after a moment: %q", buf.String())
				}
				<-time.After(time.Second)
				p.Set("2 of 3")
				<-time.After(time.Second)
				if err := p.Close(); err != nil {
					t.Fatal(err)
				}
				<-time.After(time.Minute)
				if buf.String() != tc.want {
					t.Errorf("got %q", buf.String())
				}
			})
		})
	}
	t.Run("closed output", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r, w := io.Pipe()
			r.CloseWithError(errors.New("gone"))
			p := NewWaiting(w, Style{}, true, time.Second)
			p.Set("x")
			<-time.After(2 * time.Second)
			if err := p.Close(); err == nil {
				t.Error("nobody was told that the output is gone")
			}
		})
	})
}
