package podman

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/buildah"
	"github.com/sandbox-stack/sandbox/internal/runtime/buildcontext"
	"github.com/sandbox-stack/sandbox/internal/runtime/child"
)

// buildStop bounds how long a canceled build may take to clean up.
const buildStop = 10 * time.Second

// BuildImage builds an image from a Dockerfile. It runs the podman command:
// before 4.4 the API knows no mounts for RUN steps.
func (r *Runtime) BuildImage(ctx context.Context, spec runtime.BuildSpec, log func(line string)) (runtime.Image, error) {
	files, err := buildcontext.Open(spec.Context, spec.Dockerfile)
	if err != nil {
		return runtime.Image{}, fmt.Errorf("build image %q: %w", spec.Tag, err)
	}
	// A build is rarely what everything waits for, but takes all the CPU it can
	// get: let what starts at the same time go first.
	cmd := exec.Command("nice", append([]string{"-n", "10", r.binary}, r.buildArgs(spec, files.IgnoreFile)...)...)
	cmd.Env = localEnv(os.Environ())
	if err := child.Lines(ctx, cmd, buildStop, log); err != nil {
		return runtime.Image{}, fmt.Errorf("build image %q: %w", spec.Tag, err)
	}
	return r.Image(ctx, spec.Tag)
}

// buildArgs are the arguments of the podman command.
func (r *Runtime) buildArgs(spec runtime.BuildSpec, ignoreFile string) []string {
	var args []string
	if r.chosen {
		args = append(args, "--url", "unix://"+r.socket)
	}
	return append(append(args, "build", "--pull=missing", "--layers"), buildah.Flags(spec, ignoreFile)...)
}
