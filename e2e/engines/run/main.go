// The command run starts the Docker that tests use, runs a command with it, and
// ends it:
//
//	go run ./e2e/engines/run -- sandbox up minimal --runtime docker
//
// SANDBOX_TEST_DOCKER=newest takes that of Debian's unstable, and newest-store
// the same with its images in containerd's store.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"

	"github.com/sandbox-stack/sandbox/e2e/engines"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	args := os.Args[1:]
	if i := slices.Index(args, "--"); i >= 0 {
		args = args[i+1:]
	}
	if len(args) == 0 {
		return errors.New("which command?")
	}
	docker, err := engines.StartDocker(ctx, engines.Options{
		Newest:          os.Getenv("SANDBOX_TEST_DOCKER") != "",
		ContainerdStore: os.Getenv("SANDBOX_TEST_DOCKER") == "newest-store",
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, docker.Stop()) }()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = docker.Env(os.Environ())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	return cmd.Run()
}
