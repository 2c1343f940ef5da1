package doctor

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

var toolChecks = []Check{
	{ID: "tools/terraform", Title: "Terraform or OpenTofu", run: checkTerraform},
	{ID: "tools/build", Title: "what builds images from packages", limit: engineLimit + 2*checkLimit, run: checkBuildTools},
}

func checkTerraform(ctx context.Context, e *exam) Finding {
	if !e.need.Terraform || e.Terraform == nil {
		return skip("not needed", "the stack has no Terraform modules")
	}
	name, err := e.Terraform(ctx)
	if err == nil {
		return ok("%s", name)
	}
	var said *fault.Error
	if !errors.As(err, &said) {
		return unknown("which Terraform there is", err)
	}
	return warn(said.What, said.Reason()+"; sandbox builds OpenTofu from its Go module instead", said.Try)
}

// buildPackages are the Debian packages of the programs that building needs.
var buildPackages = map[string][]string{
	"mmdebstrap": {"mmdebstrap", "debian-archive-keyring"},
	"gcc":        {"gcc", "libc6-dev"},
	"unshare":    {"util-linux"},
}

// checkBuildTools looks for the programs that build the platform's images where
// no registry has them.
func checkBuildTools(ctx context.Context, e *exam) Finding {
	sources, unbuilt, why, err := e.toBuild(ctx)
	if err != nil {
		return unknown("which programs are needed", err)
	}
	if len(sources) == 0 {
		return skip("not needed", why)
	}
	var missing, packages []string
	for _, s := range sources {
		for _, program := range s.Programs {
			if e.program(program) || slices.Contains(missing, program) {
				continue
			}
			missing = append(missing, program)
			packages = append(packages, buildPackages[program]...)
		}
	}
	if !e.there("/usr/share/keyrings/debian-archive-keyring.gpg") && !slices.Contains(packages, "debian-archive-keyring") {
		missing = append(missing, "Debian's archive keyring")
		packages = append(packages, "debian-archive-keyring")
	}
	why = "no registry can be reached, and " + strings.Join(unbuilt, ", ") + " would be built here"
	if len(missing) == 0 {
		return ok("all of them")
	}
	found := fail("not installed: "+strings.Join(missing, ", "), why, "")
	if len(packages) > 0 {
		found = found.repaired(e.Host, Repair{Packages: packages})
	}
	if slices.Contains(missing, "go") { // that of a distribution is too old
		found.Fix = strings.TrimPrefix(found.Fix+", and install Go 1.26 or newer: https://go.dev/doc/install", ", and ")
	}
	return found
}
