package docker

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/client"

	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/buildcontext"
)

// BuildImage builds an image from a Dockerfile with BuildKit, which every
// supported daemon has. It needs no session of its own: the context is sent as
// an archive, and files to mount come from an image made for the purpose.
//
// BuildKit gives RUN steps no CPU weight, so CPUShares has no effect.
func (r *Runtime) BuildImage(ctx context.Context, spec runtime.BuildSpec, log func(line string)) (_ runtime.Image, err error) {
	files, err := buildcontext.Open(spec.Context, spec.Dockerfile)
	if err != nil {
		return runtime.Image{}, fmt.Errorf("build image %q: %w", spec.Tag, err)
	}
	var mounts *mounts
	rewrite := func(dockerfile string) string { return dockerfile }
	if len(spec.Volumes) > 0 {
		if mounts, err = r.makeMounts(ctx, spec); err != nil {
			return runtime.Image{}, fmt.Errorf("build image %q: %w", spec.Tag, err)
		}
		defer func() {
			if removeErr := r.RemoveImage(context.WithoutCancel(ctx), mounts.image); err == nil {
				err = removeErr
			}
		}()
		rewrite = mounts.rewrite
	}
	files.Rewrite = rewrite
	args := make(map[string]*string, len(spec.Args))
	for key, value := range spec.Args {
		args[key] = &value
	}
	options := client.ImageBuildOptions{
		Tags: []string{spec.Tag}, Dockerfile: files.Dockerfile, Target: spec.Target, BuildArgs: args, Labels: spec.Labels,
	}
	clean := func(line string) { log(mounts.hide(line)) }
	err = r.buildPulling(ctx, files.WriteTar, options, clean)
	if errors.Is(err, errSyntax) {
		log(err.Error() + ": going on with the builder's own")
		files.Rewrite = func(dockerfile string) string { return rewrite(withoutSyntax(dockerfile)) }
		err = r.buildPulling(ctx, files.WriteTar, options, clean)
	}
	if err != nil {
		return runtime.Image{}, fmt.Errorf("build image %q: %w", spec.Tag, err)
	}
	return r.Image(ctx, spec.Tag)
}

// errSyntax says that the image that a Dockerfile names as its syntax, which is
// a program that reads it, can't be had. Podman passes over that line.
var errSyntax = errors.New("the image of the Dockerfile's syntax can't be had")

// buildPulling builds, and pulls the images that the builder can't get by
// itself for want of a session. It finds them one after the other.
func (r *Runtime) buildPulling(ctx context.Context, write func(io.Writer) error, options client.ImageBuildOptions, log func(string)) error {
	pulled := map[string]bool{}
	for {
		lacks, err := r.build(ctx, write, options, log)
		if err == nil || ctx.Err() != nil {
			return err
		}
		more := false
		for _, ref := range lacks.unpulled {
			if pulled[ref] {
				continue
			}
			if _, err := r.PullImage(ctx, ref, log); err != nil {
				if ref == lacks.syntax {
					return fmt.Errorf("%w: %w", errSyntax, err)
				}
				return err
			}
			pulled[ref], more = true, true
		}
		switch {
		case more:
		case lacks.syntax != "":
			return fmt.Errorf("%w: %w", errSyntax, err)
		default:
			return err
		}
	}
}

// build sends the archive that write writes, and passes on what the builder
// says. It returns the images that the builder could not get.
func (r *Runtime) build(ctx context.Context, write func(io.Writer) error, options client.ImageBuildOptions, log func(string)) (lacks, error) {
	options.Version = build.BuilderBuildKit
	options.Remove, options.ForceRemove = true, true
	reader, writer := io.Pipe()
	written := make(chan error, 1)
	go func() {
		// The builder knows a tar archive by its first kilobyte, which long names
		// and exact times do not fit into. A compressed one it always knows.
		packed, err := gzip.NewWriterLevel(writer, gzip.NoCompression)
		if err == nil {
			err = errors.Join(write(packed), packed.Close())
		}
		writer.CloseWithError(err)
		written <- err
	}()
	defer func() { _ = reader.Close() }() // ends the writer, whatever the daemon has read
	result, err := r.api.ImageBuild(ctx, reader, options)
	if err != nil {
		_ = reader.Close()
		if writeErr := <-written; writeErr != nil && ctx.Err() == nil && !isClosed(writeErr) {
			return lacks{}, writeErr
		}
		return lacks{}, apiError(ctx, err)
	}
	defer func() { _ = result.Body.Close() }()
	return follow(ctx, result.Body, log)
}

// follow passes on what the builder's stream of messages says.
func follow(ctx context.Context, body io.Reader, log func(string)) (lacks, error) {
	progress := newProgress(log)
	err := eachMessage(ctx, body, func(m message) {
		if m.ID != "moby.buildkit.trace" {
			return
		}
		var trace []byte
		err := json.Unmarshal(m.Aux, &trace)
		if err == nil {
			err = progress.take(trace)
		}
		if err != nil {
			log("unreadable progress of the builder: " + err.Error())
		}
	})
	return progress.lacks, err
}
