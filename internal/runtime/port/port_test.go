package port

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestListening(t *testing.T) {
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:11D6 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000000000000000 100 0 0 10 0
   1: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4712 1 0000000000000000 100 0 0 10 0
   2: 0100007F:1F90 0100007F:A1B2 01 00000000:00000000 00:00000000 00000000  1000        0 4713 1 0000000000000000 20 4 30 10 -1
   3: short
`
	for port, want := range map[int][]string{4566: {"4711"}, 8080: {"4712"}, 80: nil} {
		if got := listening(table, port); !slices.Equal(got, want) {
			t.Errorf("port %d: %v, want %v", port, got, want)
		}
	}
}

func TestOwner(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if Free("127.0.0.1", port) {
		t.Error("the port counts as free")
	}
	process, found, err := Owner(port)
	if err != nil || !found || process.PID != os.Getpid() || !strings.Contains(process.Command, filepath.Base(os.Args[0])) {
		t.Errorf("%+v, %t, %v; want this process", process, found, err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if !Free("127.0.0.1", port) {
		t.Error("the port does not count as free")
	}
	if process, found, err := Owner(port); err != nil || found {
		t.Errorf("%+v, %t, %v; want none", process, found, err)
	}
}

// A socket whose process is hidden is still known to be taken.
func TestOwnerHidden(t *testing.T) {
	proc := t.TempDir()
	if err := os.Mkdir(filepath.Join(proc, "net"), 0o755); err != nil {
		t.Fatal(err)
	}
	line := "   0: 0100007F:11D6 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n"
	if err := os.WriteFile(filepath.Join(proc, "net", "tcp"), []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	process, found, err := owner(proc, 4566)
	if err != nil || !found || process.PID != 0 {
		t.Errorf("%+v, %t, %v", process, found, err)
	}
	if text := process.String(); text != "another user's process" {
		t.Errorf("named %q", text)
	}
}

func TestProcessString(t *testing.T) {
	for want, p := range map[string]Process{
		"process 7 (nc -l 80)": {PID: 7, Command: "nc -l 80"},
		"process 7":            {PID: 7},
	} {
		if p.String() != want {
			t.Errorf("%q, want %q", p.String(), want)
		}
	}
}

func TestProcessIsNamedForPeople(t *testing.T) {
	long := "/usr/bin/java " + strings.Repeat("-Dx=y ", 100)
	for want, p := range map[string]Process{
		"another user's process":                 {},
		"process 7":                              {PID: 7},
		"process 7 (nc -l 4566)":                 {PID: 7, Command: "nc -l 4566"},
		"container web (process 7, conmon)":      {PID: 7, Command: "/usr/bin/conmon --api-version 1 -c 1f -n web --exit-dir /run"},
		"process 7 (conmon --version)":           {PID: 7, Command: "conmon --version"},
		"process 7 (" + long[:maxCommand] + "…)": {PID: 7, Command: long},
	} {
		if got := p.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
