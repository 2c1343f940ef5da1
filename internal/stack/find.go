package stack

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/stacks"
)

// Find returns the path that Load takes for what a user named: a folder with a
// stack file, a stack file, or the name of a stack that comes with sandbox. The
// latter is written to a folder of its name below dir, so that builds, charts
// and Terraform can read it. A folder of the same name wins over a stack's name
// only where it holds a stack file.
func Find(arg, dir string) (string, error) {
	known := stacks.Names()
	path, err := stackFile(arg)
	if err == nil {
		return path, nil
	}
	if slices.Contains(known, arg) {
		dir, err := stacks.Materialize(arg, dir)
		if err != nil {
			return "", fault.Wrap(fault.Failed, err, "check that the folder can be written", "can't write the stack %s", quote(arg))
		}
		return stackFile(dir)
	}
	if _, statErr := os.Stat(arg); statErr == nil || strings.ContainsAny(arg, `/\`) {
		return "", err
	}
	return "", fault.New(fault.Invalid, fmt.Sprintf("no stack %s", quote(arg)), "there is no file or folder of this name, and no stack that comes with sandbox: "+strings.Join(known, ", "), suggest(arg, known))
}
