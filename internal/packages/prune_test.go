package packages

import (
	"strings"
	"testing"
)

const registry = `// Code generated; DO NOT EDIT.
package registry

import (
	"context"

	"example.com/sdk/alpha"
	b "example.com/sdk/beta"
	"example.com/sdk/gamma"
	"example.com/other/delta"
)

// Alpha returns a client.
func (c *Client) Alpha(ctx context.Context) *alpha.Client { return must[*alpha.Client](ctx, c) }

// Beta returns a client.
func (c *Client) Beta(ctx context.Context) *b.Client {
	return must[*b.Client](ctx, c)
}

func all(ctx context.Context) []any {
	return []any{
		alpha.New(ctx),
		b.New(ctx),
		gamma.New(ctx),
		delta.New(ctx),
	}
}
`

func TestPruneImports(t *testing.T) {
	got, err := pruneImports("registry.go", []byte(registry), "example.com/sdk/", []string{"alpha"})
	if err != nil {
		t.Fatal(err)
	}
	for _, stays := range []string{"example.com/sdk/alpha", "example.com/other/delta", "Alpha(ctx", "alpha.New(ctx),", "delta.New(ctx),"} {
		if !strings.Contains(string(got), stays) {
			t.Errorf("%q was removed:\n%s", stays, got)
		}
	}
	for _, goes := range []string{"beta", "gamma", "Beta", "b.New"} {
		if strings.Contains(string(got), goes) {
			t.Errorf("%q is still there:\n%s", goes, got)
		}
	}
}

func TestPruneImportsErrors(t *testing.T) {
	tests := map[string]struct{ source, keep, want string }{
		"unknown package to keep": {registry, "omega", "does not import example.com/sdk/omega"},
		"use outside of a list": {
			"package p\n\nimport \"example.com/sdk/alpha\"\n\nvar client = alpha.New()\nvar _ = list{}\n" +
				"func f() { _ = client }\n", "", "used outside of lists",
		},
		"not Go": {"package", "", "parse"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var keep []string
			if test.keep != "" {
				keep = []string{test.keep}
			}
			_, err := pruneImports("registry.go", []byte(test.source), "example.com/sdk/", keep)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v does not contain %q", err, test.want)
			}
		})
	}
}
