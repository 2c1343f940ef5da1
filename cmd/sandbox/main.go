// Command sandbox brings a production-like environment up from one file and
// shows whether it is healthy, and why not.
package main

import (
	"os"

	"github.com/sandbox-stack/sandbox/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
