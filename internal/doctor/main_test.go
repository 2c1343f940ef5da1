package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/sandbox-stack/sandbox/internal/image"
)

// childVariable makes this program a child that makes one check on the real
// machine, in whatever state its parent has put it, and prints the result.
const childVariable = "DOCTOR_TEST_CHILD"

// order is what a child is to do.
type order struct {
	Check string
	Need  Need
	Cache string
}

func TestMain(m *testing.M) {
	if text := os.Getenv(childVariable); text != "" {
		os.Exit(child(text))
	}
	os.Exit(m.Run())
}

func child(text string) int {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	h := ThisHost()
	h.CacheDir = o.Cache
	h.Net.Registry = image.Reach
	if host := os.Getenv("CONTAINER_HOST"); host != "" {
		h.Choose = func(context.Context) (Choice, error) { return Choice{Engine: "podman", Host: host}, nil }
	}
	report, err := Run(context.Background(), h, o.Need, only(o.Check), nil)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(report.Checks[0])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func only(id string) []Check {
	for _, c := range Checks() {
		if c.ID == id {
			return []Check{c}
		}
	}
	panic("no check " + id)
}

// condition is the state that a child finds the machine in.
type condition struct {
	wrap []string // leads the child's command line
	env  []string // replaces these variables
	uid  int      // runs as this user, where the test runs as root
	need Need
	// cache is the child's cache folder.
	cache string
}

// inChild makes one check for real in the condition.
func inChild(t *testing.T, id string, c condition) Result {
	t.Helper()
	if len(c.wrap) > 0 {
		if _, err := exec.LookPath(c.wrap[0]); err != nil {
			t.Skipf("%s, which puts a process into this state, is not installed", c.wrap[0])
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(order{Check: id, Need: c.need, Cache: c.cache})
	if err != nil {
		t.Fatal(err)
	}
	argv := append(append([]string{}, c.wrap...), self)
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "TEST_PROGRAM="+self, "HTTPS_PROXY=", "HTTP_PROXY=", "https_proxy=", "http_proxy=")
	cmd.Env = append(append(cmd.Env, c.env...), childVariable+"="+string(text))
	if c.uid != 0 && os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(c.uid), Gid: uint32(c.uid)}}
		open(t, self)
	}
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		if strings.Contains(errs.String(), "not permitted") || strings.Contains(errs.String(), "Permission denied") {
			t.Skipf("this machine can't be put into that state: %s", errs.String())
		}
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, errs.String())
	}
	var r Result
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return r
}

// open lets other users run the test's program, which lies in a private folder.
func open(t *testing.T, program string) {
	t.Helper()
	for dir := program; len(dir) > len(os.TempDir()); dir = dir[:strings.LastIndex(dir, "/")] {
		info, err := os.Stat(dir)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, info.Mode().Perm()|0o055); err != nil {
			t.Fatal(err)
		}
	}
}

// recorded is a machine made of recorded files, with root as its user and no
// program on its PATH but the named ones.
func recorded(files map[string]string, programs ...string) *Host {
	tree := fstest.MapFS{}
	for name, text := range files {
		tree[strings.TrimPrefix(name, "/")] = &fstest.MapFile{Data: []byte(text), Mode: 0o644}
	}
	h := ThisHost()
	h.Files, h.OS, h.User = tree, "linux", User{Name: "root"}
	h.Env = func(string) string { return "" }
	h.Find = func(name string) (string, error) {
		for _, p := range programs {
			if p == name {
				return "/usr/bin/" + name, nil
			}
		}
		return "", exec.ErrNotFound
	}
	return h
}

// check makes one check on the host, which must come to its end by itself.
func check(t *testing.T, h *Host, need Need, id string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	report, err := Run(ctx, h, need, only(id), nil)
	if err != nil {
		t.Fatalf("%s: %v", id, err)
	}
	return report.Checks[0]
}

// program writes a shell script into a folder of its own and returns a PATH
// with that folder first.
func program(t *testing.T, name, script string) (path string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/"+name, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
	return dir + ":" + os.Getenv("PATH")
}
