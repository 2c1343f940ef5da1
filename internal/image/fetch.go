package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// heartbeat is how often long work says that it goes on.
const heartbeat = 2 * time.Second

// pull fetches the image from its registry.
func (r *Resolver) pull(ctx context.Context, name string, rep event.Reporter) (Image, error) {
	p := r.pins[name]
	if !p.verified {
		rep.Log("sandbox", p.ref+" is pinned to no digest")
	}
	stop := report(ctx, rep, func(elapsed time.Duration) event.Progress {
		return event.Progress{Text: fmt.Sprintf("pulling %s (%s)", p.ref, elapsed)}
	})
	defer stop()
	pulled, err := r.engine.PullImage(ctx, p.ref, func(line string) { rep.Log("registry", line) })
	if err != nil {
		return Image{}, err
	}
	return Image{Name: name, Version: p.version, Source: SourceRegistry, Ref: p.ref, ID: pulled.ID}, nil
}

// build makes the image from packages and loads it into the engine.
func (r *Resolver) build(ctx context.Context, name string, rep event.Reporter) (Image, error) {
	built, err := r.builder.Build(ctx, name, rep)
	if err != nil {
		return Image{}, err
	}
	if err := r.load(ctx, built, rep); err != nil {
		return Image{}, fmt.Errorf("load the image of %s: %w", name, err)
	}
	stored, err := r.engine.Image(ctx, built.Ref)
	if err != nil {
		return Image{}, fmt.Errorf("load the image of %s: %w", name, err)
	}
	return Image{Name: name, Version: built.Version, Source: SourcePackages, Ref: built.Ref, ID: stored.ID}, nil
}

// load streams the artifact into the engine; it is never held in memory.
func (r *Resolver) load(ctx context.Context, a Artifact, rep event.Reporter) error {
	var sent atomic.Int64
	stop := report(ctx, rep, func(time.Duration) event.Progress {
		return event.Progress{Text: "loading " + a.Ref, Done: sent.Load(), Unit: "bytes"}
	})
	defer stop()
	reader, writer := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := r.builder.WriteArchive(ctx, a, &countingWriter{writer, &sent})
		_ = writer.CloseWithError(err) // always nil
		written <- err
	}()
	_, err := r.engine.LoadImage(ctx, reader)
	_ = reader.CloseWithError(errEngineDone) // always nil; frees the writer
	if writeErr := <-written; writeErr != nil && !errors.Is(writeErr, errEngineDone) {
		return errors.Join(writeErr, err)
	}
	return err
}

// errEngineDone ends an archive's writer when the engine reads no further.
var errEngineDone = errors.New("the engine has read enough")

// countingWriter counts what goes through it.
type countingWriter struct {
	w io.Writer
	n *atomic.Int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n.Add(int64(n))
	return n, err
}

// report sends what progress returns at once and again at every heartbeat,
// until the returned function is called. Elapsed is in whole seconds.
func report(ctx context.Context, rep event.Reporter, progress func(elapsed time.Duration) event.Progress) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	began := time.Now()
	rep.Progress(progress(0))
	done := make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(heartbeat)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				rep.Progress(progress(time.Since(began).Truncate(time.Second)))
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}
