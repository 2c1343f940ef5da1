package stack

import (
	"fmt"
	"regexp"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

// namePattern is the rule for names, the same as in the schema.
var namePattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$`)

// CheckName checks a sandbox's name that did not come from a stack file.
func CheckName(name string) error {
	if namePattern.MatchString(name) {
		return nil
	}
	return fault.New(fault.Invalid, fmt.Sprintf("%s is not a name for a sandbox", quote(name)),
		"1 to 40 lower-case letters, digits and hyphens, the first and the last no hyphen: "+namePattern.String(), "--name demo")
}
