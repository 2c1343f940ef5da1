package packages

import (
	"bytes"
	"cmp"
	"context"
	"os"
	"slices"
	"strings"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// Origin is where the packages of some recipes come from.
type Origin struct {
	Name string
	// URL is a page that is there where the source is.
	URL string
	// Tools are the programs of this host that use it.
	Tools []string
}

// Origins lists where the packages of the named recipes come from on this
// host, and what they are built with.
func (b *Builder) Origins(ctx context.Context, names []string) ([]Origin, error) {
	tools := map[string]bool{}
	var debian, python, modules bool
	for _, name := range names {
		r, err := b.recipe(name)
		if err != nil {
			return nil, err
		}
		for _, tool := range b.tools(r) {
			tools[tool] = true
		}
		modules = modules || len(r.modules()) > 0
		for _, c := range r.contents() {
			debian = debian || c.Debian != nil
			python = python || c.Python != nil
		}
	}
	var list []Origin
	if debian {
		board := newBoard(event.Discard, 0)
		defer board.close()
		m, err := b.hostMirrors(ctx, &task{board: board, title: "mirrors"})
		if err != nil {
			return nil, err
		}
		list = append(list, Origin{Name: "Debian packages", URL: m.main + "/dists/bookworm/Release"})
	}
	if proxy := b.goProxy(ctx); modules && proxy != "" {
		list = append(list, Origin{Name: "Go modules", URL: proxy + "/k8s.io/api/@v/list"})
	}
	if python {
		index := cmp.Or(os.Getenv("PIP_INDEX_URL"), "https://pypi.org/simple")
		list = append(list, Origin{Name: "Python packages", URL: strings.TrimSuffix(index, "/") + "/pip/"})
	}
	needed := make([]string, 0, len(tools))
	for tool := range tools {
		needed = append(needed, tool)
	}
	slices.Sort(needed)
	if len(list) > 0 {
		list[0].Tools = needed
	}
	return list, nil
}

// goProxy is the first proxy that the go command asks for modules, or "" where
// it asks their own servers.
func (b *Builder) goProxy(ctx context.Context) string {
	const usual = "https://proxy.golang.org"
	if b.runner.lookPath("go") != nil {
		return usual
	}
	var out bytes.Buffer
	if err := b.runner.run(ctx, command{name: "go", args: []string{"env", "GOPROXY"}, stdout: &out}, func(string) {}); err != nil {
		return usual // the build will say what is wrong with go
	}
	first, _, _ := strings.Cut(strings.TrimSpace(out.String()), ",")
	first, _, _ = strings.Cut(first, "|")
	if !strings.HasPrefix(first, "http") {
		return ""
	}
	return strings.TrimSuffix(first, "/")
}
