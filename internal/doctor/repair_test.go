package doctor

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

func TestRepairText(t *testing.T) {
	engine := Repair{Packages: []string{"podman", "runc", "netavark", "uidmap"}}
	command := Repair{Command: []string{"tee", "/proc/sys/fs/x"}, Input: "512\n"}
	ann := User{UID: 1000, Name: "ann"}
	for name, tc := range map[string]struct {
		repair     Repair
		user       User
		programs   []string
		want       string
		applicable bool
	}{
		"apt, root":  {engine, User{}, []string{"apt-get"}, "apt-get update && apt-get install -y --no-install-recommends netavark podman runc uidmap", true},
		"apt, sudo":  {engine, ann, []string{"apt-get", "sudo"}, "sudo apt-get update && sudo apt-get install -y --no-install-recommends netavark podman runc uidmap", true},
		"apt, none":  {engine, ann, []string{"apt-get"}, "sudo apt-get update && sudo apt-get install -y --no-install-recommends netavark podman runc uidmap", false},
		"dnf":        {engine, ann, []string{"dnf", "sudo"}, "sudo dnf install -y netavark podman runc shadow-utils", false},
		"brew":       {engine, ann, []string{"brew", "sudo"}, "brew install podman && podman machine init && podman machine start", false},
		"no manager": {engine, User{}, nil, "install with your system's package manager: netavark podman runc uidmap", false},
		"a command":  {command, ann, []string{"sudo"}, "echo 512 | sudo tee /proc/sys/fs/x", true},
	} {
		h := recorded(nil, tc.programs...)
		h.User = tc.user
		if got := tc.repair.Text(h); got != tc.want {
			t.Errorf("%s: %q", name, got)
		}
		if got := h.applicable(tc.repair); got != tc.applicable {
			t.Errorf("%s: applicable %v", name, got)
		}
	}
}

// Packages that several checks want are installed once, and first: a repair
// may need a program of theirs.
func TestActions(t *testing.T) {
	h := recorded(nil, "apt-get", "sudo")
	h.User = User{UID: 1000, Name: "ann"}
	report := Report{Checks: []Result{
		{ID: "modules", Finding: fail("x", "", "").repaired(h, Repair{Command: []string{"mkdir", "/m"}})},
		{ID: "engine", Finding: fail("x", "", "").repaired(h, Repair{Packages: []string{"podman", "runc"}})},
		{ID: "runtime", Finding: warn("x", "", "").repaired(h, Repair{Packages: []string{"runc"}})},
		{ID: "described", Finding: fail("x", "", "do it yourself")},
	}}
	list := Actions(h, report)
	if len(list) != 2 || !slices.Equal(list[0].Mends, []string{"engine", "runtime"}) || !slices.Equal(list[1].Mends, []string{"modules"}) {
		t.Fatalf("%+v", list)
	}
	var lines []string
	for _, r := range list[0].runs {
		lines = append(lines, strings.Join(r.argv, " "))
	}
	want := "sudo -n apt-get update\nsudo -n env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends podman runc"
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("runs\n%s", got)
	}
}

func TestApply(t *testing.T) {
	file := t.TempDir() + "/limit"
	var seen []string
	act := Action{Text: "the command", runs: []run{{argv: []string{"tee", file}, input: "512\n"}}}
	if err := act.Apply(t.Context(), func(l string) { seen = append(seen, l) }); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "512\n" || !slices.Equal(seen, []string{"512"}) {
		t.Errorf("%q %v, seen %v", text, err, seen)
	}

	act.runs = []run{{argv: []string{"sh", "-c", "echo E: no network >&2; exit 100"}}, {argv: []string{"rm", file}}}
	err := act.Apply(t.Context(), func(string) {})
	var f *fault.Error
	if !errors.As(err, &f) || f.Try != "the command" || !slices.Equal(f.Log, []string{"E: no network"}) || !strings.Contains(f.Why, "100") {
		t.Errorf("%+v", f)
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("it went on after a failure: %v", err)
	}
}
