//go:build e2e

package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A machine with nothing but Debian's smallest system is explained by the
// doctor, and repaired by it: Podman is there and answers afterwards.
//
// The machine is a tree of its own with its own mounts, processes and shared
// memory; the kernel and the network are this machine's.
func TestDoctorOnABareMachine(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make a machine out of a folder")
	}
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		t.Skip("needs mmdebstrap, which makes the bare machine")
	}
	m := newMachine(t)

	before := m.examine(map[string]string{"engine/installed": "fail", "engine/running": "skip", "kernel/modules": "warn", "tools/build": "fail"})
	if got := before["engine/installed"]; !got.Fixable || !strings.Contains(got.Fix, "apt-get install") || !strings.Contains(got.Fix, " podman ") {
		t.Errorf("how to mend it: %+v", got)
	}
	if _, code := m.run("sandbox", "doctor", "--fix"); code != 3 {
		t.Errorf("off a terminal, without --yes: exit %d, want 3", code)
	}

	m.run("sandbox", "doctor", "--images", "packages", "--fix", "--yes")
	mended := map[string]string{}
	for _, id := range []string{"engine/installed", "engine/running", "engine/version", "engine/runtime", "engine/network", "kernel/modules", "tools/build"} {
		mended[id] = "ok"
	}
	m.examine(mended)
	m.keep("doctor-bare.txt")
}

// machine is a tree that holds a system.
type machine struct {
	t          *testing.T
	root       string
	transcript bytes.Buffer
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, root: filepath.Join(t.TempDir(), "root")}
	mirror := cmp.Or(os.Getenv("SANDBOX_DEBIAN_MIRROR"), "http://deb.debian.org/debian")
	out, err := exec.CommandContext(t.Context(), "mmdebstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", m.root, mirror).CombinedOutput()
	if err != nil {
		t.Fatalf("mmdebstrap: %v\n%s", err, out)
	}
	program, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(m.root, "usr/local/bin/sandbox"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	return m
}

// enter mounts what a machine has, and runs a command in it. Podman keeps its
// locks in /dev/shm, so the machine needs one of its own.
const enter = `
set -e
root=$1 go=$2; shift 2
mount --make-rprivate /
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount -t tmpfs none "$root/dev"
mkdir "$root/dev/shm" "$root/dev/net"
for d in null zero full random urandom tty fuse net/tun; do
  if [ -e "/dev/$d" ]; then touch "$root/dev/$d"; mount --bind "/dev/$d" "$root/dev/$d"; fi
done
mount -t tmpfs none "$root/dev/shm"
mount -t tmpfs none "$root/run"
ln -s /proc/self/fd "$root/dev/fd"
mkdir -p "$root/usr/local/go"
mount --bind "$go" "$root/usr/local/go"
cp /etc/resolv.conf "$root/etc/resolv.conf"
if [ -e /etc/ssl/certs/ca-certificates.crt ]; then cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"; fi
exec env -i PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root USER=root \
  http_proxy="$http_proxy" https_proxy="$https_proxy" no_proxy="$no_proxy" chroot "$root" "$@"
`

// run runs a command in the machine and returns its output and its exit code.
func (m *machine) run(command ...string) (stdout string, code int) {
	m.t.Helper()
	args := append([]string{"-m", "-p", "-f", "-i", "-u", "--kill-child", "bash", "-c", enter, "enter", m.root, goEnv("GOROOT")}, command...)
	cmd := exec.CommandContext(m.t.Context(), "unshare", args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if cmd.ProcessState == nil {
		m.t.Fatalf("%s: %v", strings.Join(command, " "), err)
	}
	code = cmd.ProcessState.ExitCode()
	m.transcript.WriteString("$ " + strings.Join(command, " ") + "\n" + errs.String() + out.String() + "\n")
	m.t.Logf("%s: exit %d\n%s", strings.Join(command, " "), code, errs.String())
	return out.String(), code
}

type finding struct {
	ID, State, What, Why, Fix string
	Fixable                   bool
}

// examine makes all checks until they end in the wanted states, and returns what
// they found, by ID. A busy machine may not answer a check in time at first.
func (m *machine) examine(want map[string]string) (found map[string]finding) {
	m.t.Helper()
	eventually(m.t, 3*time.Minute, "the wanted findings", func(context.Context) error {
		found = m.look()
		var other []error
		for id, state := range want {
			if got := found[id]; got.State != state {
				other = append(other, fmt.Errorf("%s is %s, want %s: %s (%s)", id, got.State, state, got.What, got.Why))
			}
		}
		return errors.Join(other...)
	})
	return found
}

// look makes all checks once.
func (m *machine) look() map[string]finding {
	m.t.Helper()
	out, _ := m.run("sandbox", "doctor", "--images", "packages", "-o", "json") // what it found says more than its exit code
	var report struct{ Checks []finding }
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		m.t.Fatalf("%v\n%s", err, out)
	}
	found := map[string]finding{}
	for _, f := range report.Checks {
		found[f.ID] = f
	}
	return found
}

// keep writes what was said to the folder of evidence.
func (m *machine) keep(name string) {
	m.t.Helper()
	dir := filepath.Join("..", "artifacts")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), m.transcript.Bytes(), 0o644); err != nil {
		m.t.Fatal(err)
	}
}

// The machine that the scenarios run on passes: what the doctor calls a failure
// would have kept them from running.
func TestDoctorFindsNothingWrongHere(t *testing.T) {
	w := newWorld(t)
	// A busy engine may not answer in time at first.
	eventually(t, 2*time.Minute, "a machine without a fault", func(context.Context) error {
		res := w.run("doctor", "minimal", "-o", "json")
		report := decode[struct {
			Engine string
			Checks []finding
		}](t, res.stdout)
		var bad []error
		for _, f := range report.Checks {
			// Another program may hold the stack's usual ports.
			if f.State == "fail" && f.ID != "network/ports" {
				bad = append(bad, fmt.Errorf("%s: %s (%s)", f.ID, f.What, f.Why))
			}
		}
		if !strings.HasPrefix(report.Engine, w.engine) {
			bad = append(bad, fmt.Errorf("on %q, want %s", report.Engine, w.engine))
		}
		return errors.Join(bad...)
	})
}
