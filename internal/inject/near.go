package inject

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sandbox-stack/sandbox/internal/stack"
)

// suggest proposes what comes closest to a name that is not there, or else
// lists what there is.
func suggest(name string, there []string) string {
	if near := stack.Nearest(name, there); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	if len(there) == 0 {
		return "there is none"
	}
	there = slices.Clone(there)
	slices.Sort(there)
	return "there are " + strings.Join(there, ", ")
}
