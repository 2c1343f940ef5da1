package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestEdit(t *testing.T) {
	for name, test := range map[string]struct{ in, want string }{
		"process": {
			`{"args":["x"],"user":{"uid":18446744073709551615},"capabilities":{"bounding":["CAP_CHOWN","CAP_SYS_RESOURCE"],"ambient":null},"rlimits":[{"type":"RLIMIT_NOFILE","hard":1}],"oomScoreAdj":-500}`,
			`{"args":["x"],"capabilities":{"ambient":null,"bounding":["CAP_CHOWN"]},"user":{"uid":18446744073709551615}}`,
		},
		"without capabilities": {`{"args":["x"]}`, `{"args":["x"]}`},
	} {
		path := filepath.Join(t.TempDir(), "process.json")
		if err := os.WriteFile(path, []byte(test.in), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := edit(path, reduce); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != test.want {
			t.Errorf("%s: got %s, %v", name, got, err)
		}
	}
	if err := edit(filepath.Join(t.TempDir(), "missing"), reduce); err == nil {
		t.Error("a missing file went unnoticed")
	}
}

func TestOption(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"runc", "--root", "/r", "create", "--bundle", "/b", "id"}, "/b"},
		{[]string{"runc", "create", "--bundle=/b", "id"}, "/b"},
		{[]string{"runc", "run", "-b", "/b"}, "/b"},
		{[]string{"runc", "start", "id"}, ""},
		{[]string{"runc", "create", "--bundle"}, ""},
	} {
		if got := option(test.args, "bundle", "b"); got != test.want {
			t.Errorf("%q: %q, want %q", test.args, got, test.want)
		}
	}
}
