package podman

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/buildcontext"
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
	if err := runLines(ctx, cmd, log); err != nil {
		return runtime.Image{}, fmt.Errorf("build image %q: %w", spec.Tag, err)
	}
	return r.Image(ctx, spec.Tag)
}

// buildArgs renders the spec as the arguments of the podman command. The file
// with the ignore rules is named, since Podman has rules of its own for finding
// it.
func (r *Runtime) buildArgs(spec runtime.BuildSpec, ignoreFile string) []string {
	var args []string
	if r.chosen {
		args = append(args, "--url", "unix://"+r.socket)
	}
	args = append(args, "build", "--tag", spec.Tag, "--layers", "--force-rm", "--pull=missing",
		"--format=docker") // the OCI format has no HEALTHCHECK
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

// runLines runs the command to its end and passes each line of its output to
// log. When ctx ends first, the command is asked to end, and killed when it
// does not.
func runLines(ctx context.Context, cmd *exec.Cmd, log func(line string)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	output, feed, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("open a pipe: %w", err)
	}
	cmd.Stdout, cmd.Stderr = feed, feed
	child, err := startChild(cmd)
	_ = feed.Close() // the child has a descriptor of its own
	if err != nil {
		return errors.Join(err, output.Close())
	}
	copied := make(chan error, 1)
	go func() { copied <- eachLine(output, log) }()

	select {
	case <-child.done:
	case <-ctx.Done():
		if err := child.stop(buildStop); err != nil {
			return errors.Join(ctx.Err(), err)
		}
		// A process that the child left behind may hold the pipe.
		return errors.Join(ctx.Err(), output.Close())
	}
	err = <-copied
	if closeErr := output.Close(); err == nil {
		err = closeErr
	}
	if child.err != nil {
		return child.err
	}
	if err != nil {
		return fmt.Errorf("read the output: %w", err)
	}
	return nil
}

// eachLine passes each non-empty line of r to log.
func eachLine(r io.Reader, log func(line string)) error {
	reader := bufio.NewReader(r)
	for {
		line, err := reader.ReadString('\n')
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			log(line)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
