// Package image brings images into the engine's store: the platform's, from
// wherever they can be had, and the stack's own, built from its Dockerfiles.
package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/sandbox-stack/sandbox/images"
	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// Mode says where platform images may come from. Whatever the mode, the
// engine's own store is asked first.
type Mode string

// The modes.
const (
	// Auto takes the registry where it can be reached, else the packages.
	Auto Mode = "auto"
	// Packages never asks a registry.
	Packages Mode = "packages"
	// Registry never builds from packages.
	Registry Mode = "registry"
)

// Source is where a platform image comes from.
type Source string

// The sources.
const (
	SourceStore    Source = "store"
	SourceRegistry Source = "registry"
	SourcePackages Source = "packages"
)

// Artifact is a platform image made from packages.
type Artifact struct {
	Name    string
	Version string
	// Ref is the image's reference in an engine. It holds a hash of all that
	// the image is made of: the same reference means the same image.
	Ref string
}

// Builder makes platform images from packages. It is implemented outside, since
// adapters do not import each other.
type Builder interface {
	// Names lists the images that can be made.
	Names() ([]string, error)
	// Plan returns the artifact that Build would make, without making it.
	Plan(name string) (Artifact, error)
	// Build makes the image, or returns the one made earlier.
	Build(ctx context.Context, name string, rep event.Reporter) (Artifact, error)
	// WriteArchive writes what Build returned as a docker or OCI archive.
	WriteArchive(ctx context.Context, a Artifact, w io.Writer) error
}

// Unavailable says that a platform image can be had from nowhere. Its component
// is then off.
type Unavailable struct {
	Name   string
	Reason string
	// Cause is what a source answered, where one was asked.
	Cause error
}

// Error implements error.
func (u *Unavailable) Error() string {
	return fmt.Sprintf("no image for %s: %s", u.Name, u.Reason)
}

// Unwrap returns the cause.
func (u *Unavailable) Unwrap() error { return u.Cause }

// Image is a platform image in the engine's store.
type Image struct {
	Name    string
	Version string
	Source  Source
	Ref     string
	ID      string
}

// Status is what is known of a platform image.
type Status struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
	// Source is where the image is, or where it would come from; empty where
	// it can't be had.
	Source Source `json:"source,omitempty"`
	Ref    string `json:"ref,omitempty"`
	// Present: the image is in the engine's store.
	Present bool `json:"present"`
	// Size in the store, in bytes.
	Size int64 `json:"size,omitempty"`
	// Reason says why the image can't be had.
	Reason string `json:"reason,omitempty"`
}

// Resolver finds platform images. It is safe for concurrent use.
type Resolver struct {
	engine  runtime.Runtime
	mode    Mode
	builder Builder
	pins    map[string]pin
	names   []string // what builder can make
	probe   *probe
}

// NewResolver returns a Resolver. The pinned references are those that come
// with the program; builder may be nil where there are no packages.
func NewResolver(engine runtime.Runtime, mode Mode, builder Builder) (*Resolver, error) {
	locked, err := images.Pins()
	if err != nil {
		return nil, err
	}
	pins, err := parsePins(locked)
	if err != nil {
		return nil, err
	}
	return newResolver(engine, mode, builder, pins, newProbe())
}

func newResolver(engine runtime.Runtime, mode Mode, builder Builder, pins map[string]pin, probe *probe) (*Resolver, error) {
	switch mode {
	case "":
		mode = Auto
	case Auto, Packages, Registry:
	default:
		return nil, fault.New(fault.Invalid, fmt.Sprintf("unknown source of images %q", mode),
			"it is one of auto, packages and registry", "--images auto")
	}
	r := &Resolver{engine: engine, mode: mode, builder: builder, pins: pins, probe: probe}
	if builder != nil {
		var err error
		if r.names, err = builder.Names(); err != nil {
			return nil, fmt.Errorf("list the recipes: %w", err)
		}
	}
	return r, nil
}

// Ensure makes sure that the platform image is in the engine's store. Where it
// can come from nowhere, the error is an *Unavailable.
func (r *Resolver) Ensure(ctx context.Context, name string, rep event.Reporter) (Image, error) {
	found, _, err := r.inStore(ctx, name)
	if err == nil || !errors.Is(err, runtime.ErrNotFound) {
		return found, err
	}
	unreachable := r.registry(ctx, name)
	if unreachable == nil {
		pulled, err := r.pull(ctx, name, rep)
		if err == nil || ctx.Err() != nil {
			return pulled, err
		}
		unreachable = &Unavailable{Name: name, Reason: "the registry does not deliver it", Cause: err}
		rep.Log("registry", err.Error())
	}
	if absent := r.packages(name); absent != nil {
		return Image{}, &Unavailable{
			Name:   name,
			Reason: unreachable.Reason + ", and " + absent.Reason,
			Cause:  unreachable.Cause,
		}
	}
	return r.build(ctx, name, rep)
}

// inStore finds the image in the engine's store, or returns ErrNotFound.
func (r *Resolver) inStore(ctx context.Context, name string) (Image, runtime.Image, error) {
	candidates, err := r.candidates(name)
	if err != nil {
		return Image{}, runtime.Image{}, err
	}
	for _, c := range candidates {
		stored, err := r.engine.Image(ctx, c.Ref)
		if errors.Is(err, runtime.ErrNotFound) {
			continue
		}
		if err != nil {
			return Image{}, runtime.Image{}, fmt.Errorf("look for the image of %s: %w", name, err)
		}
		return Image{Name: name, Version: c.Version, Source: SourceStore, Ref: c.Ref, ID: stored.ID}, stored, nil
	}
	return Image{}, runtime.Image{}, fmt.Errorf("the image of %s: %w", name, runtime.ErrNotFound)
}

// Stored reports whether the image is in the engine's store.
func (r *Resolver) Stored(ctx context.Context, name string) (bool, error) {
	_, _, err := r.inStore(ctx, name)
	if errors.Is(err, runtime.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// candidates lists under which references the mode accepts the image.
func (r *Resolver) candidates(name string) ([]Artifact, error) {
	var list []Artifact
	if p, ok := r.pins[name]; ok && r.mode != Packages {
		list = append(list, Artifact{Name: name, Version: p.version, Ref: p.ref})
	}
	if r.packages(name) == nil {
		planned, err := r.builder.Plan(name)
		if err != nil {
			return nil, fmt.Errorf("plan the image of %s: %w", name, err)
		}
		list = append(list, planned)
	}
	return list, nil
}

// registry returns nil where the image can be asked for at its registry, else
// the reason why not.
func (r *Resolver) registry(ctx context.Context, name string) *Unavailable {
	p, ok := r.pins[name]
	switch {
	case r.mode == Packages:
		return &Unavailable{Name: name, Reason: "registries are not asked (--images packages)"}
	case !ok:
		return &Unavailable{Name: name, Reason: "no registry has it"}
	}
	if err := r.probe.reach(ctx, p.host); err != nil {
		return &Unavailable{Name: name, Reason: "the registry " + p.host + " can't be reached", Cause: err}
	}
	return nil
}

// packages returns nil where the image can be made from packages, else the
// reason why not.
func (r *Resolver) packages(name string) *Unavailable {
	switch {
	case r.mode == Registry:
		return &Unavailable{Name: name, Reason: "packages are not used (--images registry)"}
	case !slices.Contains(r.names, name):
		return &Unavailable{Name: name, Reason: "it has no package source"}
	}
	return nil
}

// List says of every platform image where it is or would come from, by name.
func (r *Resolver) List(ctx context.Context) ([]Status, error) {
	all := slices.Clone(r.names)
	all = slices.AppendSeq(all, maps.Keys(r.pins))
	slices.Sort(all)
	all = slices.Compact(all)
	list := make([]Status, 0, len(all))
	for _, name := range all {
		s, err := r.status(ctx, name)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

func (r *Resolver) status(ctx context.Context, name string) (Status, error) {
	found, stored, err := r.inStore(ctx, name)
	if err == nil {
		return Status{Name: name, Version: found.Version, Source: SourceStore, Ref: found.Ref, Present: true, Size: stored.Size}, nil
	}
	if !errors.Is(err, runtime.ErrNotFound) {
		return Status{}, err
	}
	unreachable := r.registry(ctx, name)
	if err := ctx.Err(); err != nil {
		return Status{}, err
	}
	if unreachable == nil {
		p := r.pins[name]
		return Status{Name: name, Version: p.version, Source: SourceRegistry, Ref: p.ref}, nil
	}
	if absent := r.packages(name); absent != nil {
		return Status{Name: name, Version: r.pins[name].version, Reason: unreachable.Reason + ", and " + absent.Reason}, nil
	}
	planned, err := r.builder.Plan(name)
	if err != nil {
		return Status{}, fmt.Errorf("plan the image of %s: %w", name, err)
	}
	return Status{Name: name, Version: planned.Version, Source: SourcePackages, Ref: planned.Ref}, nil
}
