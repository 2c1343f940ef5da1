package install

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCommand(t *testing.T) {
	for _, test := range []struct{ binary, want string }{
		{"apt-get", "apt-get install -y x y"},
		{"apk", "apk add x y"},
		{"brew", "brew install x y"},
		{"nothing", "install x y with your system's package manager"},
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, test.binary), nil, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", dir)
		if got := strings.TrimPrefix(Command("x y"), "sudo "); got != test.want {
			t.Errorf("with %s: %q, want %q", test.binary, got, test.want)
		}
	}
	if got := Sudo("x"); (os.Geteuid() == 0) != (got == "x") {
		t.Errorf("as user %d: %q", os.Geteuid(), got)
	}
}
