// Command boxcmd is package box as a program.
package main

import (
	"context"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/sandbox-stack/sandbox/internal/runtime/runtimetest/box"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	env := map[string]string{}
	for _, v := range os.Environ() {
		key, value, _ := strings.Cut(v, "=")
		env[key] = value
	}
	return box.Main(ctx, box.Process{Args: os.Args[1:], Env: env, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr})
}
