package podman

import (
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

func TestSettings(t *testing.T) {
	for _, test := range []struct {
		name    string
		machine machine
		want    map[string]any
	}{
		{"usual", machine{root: true, mayRaiseLimits: true, runc: "/usr/bin/runc", maxFiles: 1024}, map[string]any{}},
		{"cgroup v1", machine{root: true, mayRaiseLimits: true, cgroupV1: true, runc: "/usr/bin/runc"}, map[string]any{
			"engine": map[string]any{"runtime": "runc"},
		}},
		{"restricted root", machine{root: true, maxFiles: 20000, maxProcesses: 300}, map[string]any{
			"containers": map[string]any{"default_ulimits": []string{"nofile=20000:20000", "nproc=300:300"}},
		}},
		{"restricted root without limits", machine{root: true}, map[string]any{}},
		{"user", machine{maxFiles: 1024, maxProcesses: 100}, map[string]any{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := test.machine.settings()
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
	_, err := machine{cgroupV1: true}.settings()
	if fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "runc") {
		t.Errorf("cgroup v1 without runc: %v", err)
	}
}

var restricted = machine{root: true, maxFiles: 20000, cgroupV1: true, runc: "/usr/bin/runc"}

func TestAdaptKeepsTheUsersSettings(t *testing.T) {
	dir := t.TempDir()
	users := filepath.Join(dir, "users.conf")
	const text = "[containers]\ntz = \"local\"\ndefault_ulimits = [\"nofile=1:1\"]\n[engine]\nruntime = \"crun\"\n[engine.runtimes]\nkata = [\"/kata\"]\n"
	if err := os.WriteFile(users, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(confVariable, users)
	state := filepath.Join(dir, "state")
	restore, err := adapt(state, restricted, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	path := os.Getenv(confVariable)
	if filepath.Dir(path) != state {
		t.Fatalf("%s is %q, want a file in %s", confVariable, path, state)
	}
	var got map[string]any
	if _, err := toml.DecodeFile(path, &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"containers": map[string]any{"tz": "local", "default_ulimits": []any{"nofile=20000:20000"}},
		"engine":     map[string]any{"runtime": "runc", "runtimes": map[string]any{"kata": []any{"/kata"}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if after, err := os.ReadFile(users); err != nil || string(after) != text {
		t.Errorf("the user's file was changed: %q, %v", after, err)
	}
	if err := restore(); err != nil || os.Getenv(confVariable) != users {
		t.Errorf("after restore: %q, %v", os.Getenv(confVariable), err)
	}
}

func TestAdaptLeavesAUsualMachineAlone(t *testing.T) {
	t.Setenv(confVariable, "")
	dir := t.TempDir()
	restore, err := adapt(dir, machine{root: true, mayRaiseLimits: true}, slog.New(slog.DiscardHandler))
	if err != nil || restore != nil || os.Getenv(confVariable) != "" {
		t.Errorf("restore %t, %q, %v", restore != nil, os.Getenv(confVariable), err)
	}
	if files, err := os.ReadDir(dir); err != nil || len(files) != 0 {
		t.Errorf("files %v, %v", files, err)
	}
}

// An earlier Runtime of this process may have removed its file.
func TestAdaptAfterItsFileIsGone(t *testing.T) {
	t.Setenv(confVariable, filepath.Join(t.TempDir(), "gone.conf"))
	if _, err := adapt(t.TempDir(), restricted, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	for _, file := range confFiles(filepath.Join(t.TempDir(), "gone.conf")) {
		if strings.HasSuffix(file, "gone.conf") {
			t.Errorf("%s is still read", file)
		}
	}
}

func TestAdaptNamesABrokenFile(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken.conf")
	if err := os.WriteFile(broken, []byte("[engine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(confVariable, broken)
	_, err := adapt(t.TempDir(), restricted, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), broken) || os.Getenv(confVariable) != broken {
		t.Errorf("error %v, variable %q", err, os.Getenv(confVariable))
	}
}

func TestExplicitSocket(t *testing.T) {
	for _, test := range []struct{ option, host, want, fails string }{
		{"", "", "", ""},
		{"/a.sock", "unix:///b.sock", "/a.sock", ""},
		{"unix:///a.sock", "", "/a.sock", ""},
		{"", "unix:///run/b.sock", "/run/b.sock", ""},
		{"", "ssh://me:secret@there/run/x.sock", "", "another machine"},
		{"", "tcp://10.0.0.1:1234", "", "another machine"},
		{"", "://", "", "not a URL"},
	} {
		t.Setenv("CONTAINER_HOST", test.host)
		got, err := explicitSocket(test.option)
		switch {
		case test.fails == "":
			if err != nil || got != test.want {
				t.Errorf("%+v: %q, %v", test, got, err)
			}
		case fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), test.fails):
			t.Errorf("%+v: %v", test, err)
		case strings.Contains(err.Error(), "secret"):
			t.Errorf("%+v: the error shows the password", test)
		}
	}
}

func TestWithoutPodman(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv(confVariable, "untouched")
	_, err := Open(t.Context(), Options{StateDir: t.TempDir()})
	if fault.CodeOf(err) != fault.Unavailable || !strings.Contains(err.Error(), "podman") || os.Getenv(confVariable) != "untouched" {
		t.Errorf("error %v, variable %q", err, os.Getenv(confVariable))
	}
}
