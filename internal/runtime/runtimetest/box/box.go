// Package box is the one program in the conformance suite's image: a handful
// of commands that show a container's behaviour. It runs as a static binary in
// a real engine, and as a function in the fake.
package box

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// Process is what a command runs in.
type Process struct {
	Args   []string // without the program's name
	Env    map[string]string
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
}

// Usage is the exit code of a wrong command line.
const Usage = 64

// Main runs one command until it ends, or until ctx ends (SIGTERM), and returns
// the exit code.
func Main(ctx context.Context, p Process) int {
	if len(p.Args) == 0 {
		return p.fail(Usage, errors.New("a command is missing"))
	}
	args := p.Args[1:]
	commands := map[string]struct {
		args int
		run  func(ctx context.Context, p Process, args []string) int
	}{
		"wait":  {0, wait},
		"hang":  {0, hang},
		"print": {1, printLines},
		"tick":  {0, tick},
		"exit":  {1, exit},
		"cat":   {0, cat},
		"env":   {1, env},
		"write": {2, write},
		"read":  {1, read},
		"eat":   {1, eat},
		"serve": {1, serve},
		"get":   {1, get},
	}
	c, ok := commands[p.Args[0]]
	if !ok || len(args) != c.args {
		return p.fail(Usage, fmt.Errorf("unknown command %q", strings.Join(p.Args, " ")))
	}
	return c.run(ctx, p, args)
}

func (p Process) fail(code int, err error) int {
	fmt.Fprintln(p.Stderr, "box:", err)
	return code
}

// wait says "ready" and waits for the signal to end.
func wait(ctx context.Context, p Process, _ []string) int {
	fmt.Fprintln(p.Stdout, "ready")
	<-ctx.Done()
	fmt.Fprintln(p.Stdout, "bye")
	return 0
}

// hang takes no notice of the signal.
func hang(context.Context, Process, []string) int {
	select {}
}

// printLines writes "line 1" to "line N", the odd ones to stdout, the even ones
// to stderr.
func printLines(_ context.Context, p Process, args []string) int {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return p.fail(Usage, err)
	}
	for i := 1; i <= n; i++ {
		w := p.Stdout
		if i%2 == 0 {
			w = p.Stderr
		}
		fmt.Fprintf(w, "line %d\n", i)
	}
	return 0
}

// tick writes a line every 50 ms.
func tick(ctx context.Context, p Process, _ []string) int {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for i := 1; ; i++ {
		fmt.Fprintf(p.Stdout, "tick %d\n", i)
		select {
		case <-ctx.Done():
			return 0
		case <-ticker.C:
		}
	}
}

func exit(_ context.Context, p Process, args []string) int {
	code, err := strconv.Atoi(args[0])
	if err != nil {
		return p.fail(Usage, err)
	}
	return code
}

func cat(_ context.Context, p Process, _ []string) int {
	if _, err := io.Copy(p.Stdout, p.Stdin); err != nil {
		return p.fail(1, err)
	}
	return 0
}

func env(_ context.Context, p Process, args []string) int {
	fmt.Fprintln(p.Stdout, p.Env[args[0]])
	return 0
}

func write(_ context.Context, p Process, args []string) int {
	if err := os.WriteFile(args[0], []byte(args[1]), 0o644); err != nil {
		return p.fail(1, err)
	}
	return 0
}

func read(_ context.Context, p Process, args []string) int {
	text, err := os.ReadFile(args[0])
	if err != nil {
		return p.fail(1, err)
	}
	if _, err := p.Stdout.Write(text); err != nil {
		return p.fail(1, err)
	}
	return 0
}

// eat takes that many MiB of memory.
func eat(ctx context.Context, p Process, args []string) int {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return p.fail(Usage, err)
	}
	memory := make([]byte, n<<20)
	for i := range memory {
		memory[i] = byte(i)
	}
	fmt.Fprintln(p.Stdout, "ate", memory[len(memory)-1])
	<-ctx.Done()
	return 0
}

// serve answers every HTTP request on the port with "hello".
func serve(ctx context.Context, p Process, args []string) int {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", ":"+args[0])
	if err != nil {
		return p.fail(1, err)
	}
	server := &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintln(w, "hello")
		}),
	}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return p.fail(1, err)
	}
	return 0
}

// get prints the answer of a URL, which it asks for up to 20 s.
func get(ctx context.Context, p Process, args []string) int {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := getOnce(ctx, p.Stdout, args[0])
		if err == nil {
			return 0
		}
		select {
		case <-ctx.Done():
			return p.fail(1, err)
		case <-ticker.C:
		}
	}
}

func getOnce(ctx context.Context, w io.Writer, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, resp.Body)
	return errors.Join(err, resp.Body.Close())
}
