package observe

import (
	"errors"

	"github.com/sandbox-stack/sandbox/internal/stack"
)

// CheckRules parses rule files with Prometheus' own parser and returns what is
// wrong with them, with positions, as fault.Invalid.
func CheckRules(files []string) error {
	var errs []error
	for _, file := range files {
		if _, err := stack.ParseRules(file); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
