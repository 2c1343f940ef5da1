package buildah

import (
	"maps"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// Flags renders the spec as flags and argument of "build", as buildah and podman
// understand them alike. The file with the ignore rules is named, since both
// have rules of their own for finding it.
func Flags(spec runtime.BuildSpec, ignoreFile string) []string {
	args := []string{
		"--tag", spec.Tag, "--force-rm",
		"--format=docker", // the OCI format has no HEALTHCHECK
	}
	if spec.Dockerfile != "" {
		file := spec.Dockerfile
		if !filepath.IsAbs(file) {
			file = filepath.Join(spec.Context, file)
		}
		args = append(args, "--file", file)
	}
	if ignoreFile != "" {
		args = append(args, "--ignorefile", ignoreFile)
	}
	if spec.Target != "" {
		args = append(args, "--target", spec.Target)
	}
	for _, key := range slices.Sorted(maps.Keys(spec.Args)) {
		args = append(args, "--build-arg", key+"="+spec.Args[key])
	}
	for _, key := range slices.Sorted(maps.Keys(spec.Labels)) {
		args = append(args, "--label", key+"="+spec.Labels[key])
	}
	if spec.CPUShares > 0 {
		args = append(args, "--cpu-shares", strconv.FormatUint(spec.CPUShares, 10))
	}
	for _, volume := range spec.Volumes {
		args = append(args, "--volume", volume)
	}
	return append(args, "--", spec.Context)
}
