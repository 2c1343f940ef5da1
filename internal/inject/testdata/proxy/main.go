// Proxy is the proxy of a drill, and nothing else, for tests of what leads to it.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/sandbox-stack/sandbox/internal/agent"
	"github.com/sandbox-stack/sandbox/internal/agent/proxy"
)

func main() {
	spec, err := proxy.Parse(os.Getenv(proxy.Variable))
	if err != nil {
		log.Fatal(err)
	}
	if err := proxy.Run(context.Background(), spec, fmt.Sprintf(":%d", agent.PortProxy), os.Stdout); err != nil {
		log.Fatal(err)
	}
}
