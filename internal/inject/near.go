package inject

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
)

// suggest proposes what comes closest to a name that is not there, or else
// lists what there is.
func suggest(name string, there []string) string {
	best, distance := "", max(2, len(name)/3)+1
	for _, candidate := range there {
		if d := levenshtein.Distance(strings.ToLower(name), strings.ToLower(candidate), nil); d < distance {
			best, distance = candidate, d
		}
	}
	switch {
	case best != "":
		return fmt.Sprintf("did you mean %q?", best)
	case len(there) == 0:
		return "there is none"
	}
	there = slices.Clone(there)
	slices.Sort(there)
	return "there are " + strings.Join(there, ", ")
}
