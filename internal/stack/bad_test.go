package stack

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

const badStacks = "../../fixtures/stacks/bad"

// Every folder below fixtures/stacks/bad is a stack with something wrong. What a
// user is told about it is in its error.golden.
func TestBadStacksAreExplained(t *testing.T) {
	t.Chdir(filepath.FromSlash(badStacks))
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) < 50 {
		t.Fatalf("only %d bad stacks; is the folder complete?", len(entries))
	}
	for _, entry := range entries {
		t.Run(entry.Name(), func(t *testing.T) {
			_, err := Load(entry.Name())
			if err == nil {
				t.Fatal("the stack was accepted")
			}
			got := explain(t, err)
			golden := filepath.Join(entry.Name(), "error.golden")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// explain returns everything that an error says, and checks what holds for all
// of them: code, position, rule and advice.
func explain(t *testing.T, err error) string {
	t.Helper()
	if code := fault.CodeOf(err); code != fault.Invalid {
		t.Errorf("code is %q", code)
	}
	var b strings.Builder
	for _, p := range AllProblems(err) {
		if p.Pos == "" || strings.Count(p.Pos, ":") == 0 {
			t.Errorf("no position: %v", p)
		}
		if p.Code != fault.Invalid || p.What == "" || p.Why == "" || p.Try == "" {
			t.Errorf("incomplete: %+v", p)
		}
		fmt.Fprintln(&b, p)
	}
	if b.Len() == 0 {
		t.Errorf("no problems in %v", err)
	}
	return b.String()
}
