package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/sandbox-stack/sandbox/images"
	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/image"
	"github.com/sandbox-stack/sandbox/internal/packages"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/detect"
	"github.com/sandbox-stack/sandbox/internal/steps"
)

// Images lists the platform images and where each comes from.
func Images(ctx context.Context, mode string) ([]image.Status, error) {
	var list []image.Status
	err := withEngine(ctx, detect.Choice{}, func(engine runtime.Runtime) error {
		_, resolver, err := newResolver(engine, mode)
		if err != nil {
			return err
		}
		list, err = resolver.List(ctx)
		return err
	})
	return list, err
}

// Recipes returns the names of what can be built from packages.
func Recipes() []string {
	list, err := packages.Recipes(images.FS)
	if err != nil {
		return nil
	}
	names := make([]string, len(list))
	for i, r := range list {
		names[i] = r.Name
	}
	return names
}

// Built is a component that was built from packages.
type Built struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Kind    string `json:"kind"`
	Path    string `json:"path"`          // an OCI layout, a folder or an executable
	Ref     string `json:"ref,omitempty"` // of an image
}

// BuildImages builds the named components from packages, or all of them, and
// returns where they are. It needs no engine.
func BuildImages(ctx context.Context, names []string, sink event.Sink) ([]Built, error) {
	builder, err := newBuilder()
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		names = Recipes()
	}
	slices.Sort(names)
	names = slices.Compact(names)
	for _, name := range names {
		if known := Recipes(); !slices.Contains(known, name) {
			return nil, fault.New(fault.Invalid, fmt.Sprintf("no platform image %q", name),
				"these can be built from packages: "+strings.Join(known, ", "), "sandbox images list")
		}
	}
	var list []steps.Step
	for _, name := range names {
		list = append(list, steps.Step{ID: name, Title: "image " + name, Apply: func(ctx context.Context, rep event.Reporter) (steps.Result, error) {
			if a, there, err := builder.Cached(name); err != nil || there {
				return steps.Result{Done: true, Note: a.Version}, err
			}
			a, err := builder.Build(ctx, name, rep)
			return steps.Result{Note: a.Version}, err
		}})
	}
	began := time.Now()
	log := event.NewLog(newRun(), nil, sink)
	log.Emit(event.PlanReady{Stack: "platform images", Command: "images build", Steps: steps.Plan(list)})
	runErr := run(ctx, list, log.Emit)
	log.Emit(event.RunFinished{OK: runErr == nil, Error: steps.Problem(runErr), Elapsed: time.Since(began)})
	if err := errors.Join(runErr, log.Close()); err != nil {
		return nil, err
	}
	var built []Built
	for _, name := range names {
		a, err := builder.Plan(name)
		if err != nil {
			return nil, err
		}
		built = append(built, Built{Name: a.Name, Version: a.Version, Kind: string(a.Kind), Path: a.Path, Ref: a.Ref})
	}
	return built, nil
}

// PruneImages removes from the cache of builds what none has used for that long,
// and returns how many folders that were. What this version builds stays.
func PruneImages(ctx context.Context, unused time.Duration) (int, error) {
	builder, err := newBuilder()
	if err != nil {
		return 0, err
	}
	removed, err := builder.Expire(ctx, time.Now().Add(-unused))
	if err != nil && ctx.Err() == nil {
		err = fault.Wrap(fault.Failed, err, "check that the cache can be written", "the cache could not be cleaned")
	}
	return removed, err
}

// recipes lets the resolver build from packages, of which it knows nothing.
type recipes struct{ builder *packages.Builder }

var _ image.Builder = recipes{}

// Names lists the components that are images; there are others, such as
// Terraform providers.
func (r recipes) Names() ([]string, error) {
	list, err := r.builder.Recipes()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, recipe := range list {
		if recipe.Kind == packages.KindImage {
			names = append(names, recipe.Name)
		}
	}
	return names, nil
}

func (r recipes) Plan(name string) (image.Artifact, error) {
	a, err := r.builder.Plan(name)
	return image.Artifact{Name: a.Name, Version: a.Version, Ref: a.Ref}, err
}

func (r recipes) Build(ctx context.Context, name string, rep event.Reporter) (image.Artifact, error) {
	a, err := r.builder.Build(ctx, name, rep)
	return image.Artifact{Name: a.Name, Version: a.Version, Ref: a.Ref}, err
}

func (r recipes) WriteArchive(ctx context.Context, a image.Artifact, w io.Writer) error {
	built, there, err := r.builder.Cached(a.Name)
	if err != nil {
		return err
	}
	if !there {
		return fmt.Errorf("image %s is not in the cache", a.Name)
	}
	return r.builder.WriteArchive(ctx, built, w)
}
