package packages

import (
	"context"
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// WriteArchive streams an image artifact as the archive that `podman load`,
// `docker load` and `ctr images import` read, under the artifact's reference.
func (b *Builder) WriteArchive(ctx context.Context, a Artifact, w io.Writer) error {
	if a.Kind != KindImage {
		return fmt.Errorf("archive %s: it is a %s, not an image", a.Name, a.Kind)
	}
	image, err := a.image()
	if err != nil {
		return err
	}
	tag, err := name.NewTag(a.Ref)
	if err != nil {
		return fmt.Errorf("archive %s: %w", a.Name, err)
	}
	if err := tarball.Write(tag, image, contextWriter{ctx, w}); err != nil {
		return fmt.Errorf("archive %s: %w", a.Name, err)
	}
	return nil
}

// contextWriter fails as soon as its context is done.
type contextWriter struct {
	ctx context.Context
	w   io.Writer
}

func (c contextWriter) Write(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	return c.w.Write(p)
}
