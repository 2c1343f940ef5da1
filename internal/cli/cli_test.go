package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/session"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"sandbox": func() { os.Exit(Main(os.Args[1:], Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})) },
		// The question that down --all asks, without what it is about.
		"confirm": func() {
			a := &app{Streams: Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, output: "table", color: "never"}
			err := a.confirm(context.Background(), "--all removes demo, review", "sandbox down --all --yes")
			if err != nil {
				a.fail(err)
			}
			os.Exit(exitCode(err))
		},
	})
}

// TestScripts runs the program as a user does, without an engine: each script
// has a home, a state and a cache folder of its own.
func TestScripts(t *testing.T) {
	repo, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
		Setup: func(env *testscript.Env) error {
			for name, dir := range map[string]string{"HOME": "home", "XDG_STATE_HOME": "state", "XDG_CACHE_HOME": "cache"} {
				env.Setenv(name, filepath.Join(env.WorkDir, dir))
			}
			env.Setenv("REPO", repo)
			program, system, _ := strings.Cut(env.Getenv("PATH"), string(os.PathListSeparator))
			env.Setenv("PROGRAM", program) // the folder with sandbox
			env.Setenv("SYSTEM", system)
			return silent(env)
		},
	})
}

// silent gives the script a socket that takes connections and never answers.
func silent(env *testscript.Env) error {
	path := filepath.Join(env.WorkDir, "silent.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	env.Defer(func() { l.Close() })
	env.Setenv("SILENT", path)
	return nil
}

// exits runs a command that must end with the given exit code: exits 2 sandbox stats.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARG...]")
	}
	code := 0
	err := ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		code = exit.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if got := strconv.Itoa(code); got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

func TestExitCodes(t *testing.T) {
	for name, tc := range map[string]struct {
		err  error
		want int
	}{
		"none":                   {nil, 0},
		"anything":               {errors.New("x"), 1},
		"failed":                 {fault.New(fault.Failed, "x", "", ""), 1},
		"wrapped":                {fmt.Errorf("up: %w", fault.New(fault.Invalid, "x", "", "")), 2},
		"shown already":          {&reported{fault.New(fault.Unhealthy, "x", "", "")}, 5},
		"found by a step":        {runFailed(fault.New(fault.Invalid, "x", "", "")), 1},
		"interrupted run":        {runFailed(errInterrupted), 130},
		"needs confirmation":     {fault.New(fault.Confirm, "x", "", ""), 3},
		"time is over":           {fault.New(fault.Timeout, "x", "", ""), 124},
		"deadline":               {fmt.Errorf("x: %w", context.DeadlineExceeded), 124},
		"own failure around CMD": {fault.New(fault.Wrapper, "x", "", ""), 125},
		"a step's own deadline":  {fault.Wrap(fault.Failed, context.DeadlineExceeded, "", "x"), 1},
		"one of several":         {errors.Join(&reported{fault.New(fault.Invalid, "x", "", "")}, errors.New("y")), 2},
		"interrupted":            {errInterrupted, 130},
		"failed, interrupted":    {errors.Join(fault.New(fault.Failed, "x", "", ""), fmt.Errorf("y: %w", errInterrupted)), 130},
		"canceled":               {fmt.Errorf("x: %w", context.Canceled), 130},
		"the command's own":      {commandExit(7), 7},
	} {
		if got := exitCode(tc.err); got != tc.want {
			t.Errorf("%s: exit code %d, want %d", name, got, tc.want)
		}
	}
}

// A tool that runs inside must not find its way to the user's own AWS account.
func TestMergeHidesTheUsersAWSSettings(t *testing.T) {
	got := merge(
		[]string{"PATH=/bin", "AWS_PROFILE=prod", "AWS_SESSION_TOKEN=secret", "AWS_CA_BUNDLE=/ca", "KUBECONFIG=/home/u/.kube/config"},
		[]session.Var{{Name: "KUBECONFIG", Value: "/state/kubeconfig"}, {Name: "AWS_ENDPOINT_URL", Value: "http://127.0.0.1:4566"}},
	)
	want := []string{"PATH=/bin", "AWS_CA_BUNDLE=/ca", "KUBECONFIG=/state/kubeconfig", "AWS_ENDPOINT_URL=http://127.0.0.1:4566"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
	kept := merge([]string{"AWS_PROFILE=prod"}, []session.Var{{Name: "KUBECONFIG", Value: "/k"}})
	if !slices.Contains(kept, "AWS_PROFILE=prod") {
		t.Errorf("a sandbox without AWS has no business with %v", kept)
	}
}
