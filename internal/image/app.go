package image

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/buildcontext"
)

// LabelBuild is the label that holds the hash of all that an image of a stack
// was built from.
const LabelBuild = "sandbox.build"

const (
	// buildVersion is part of every hash; it changes when the way of building
	// changes what comes out.
	buildVersion = "1"
	// tagLength is how much of the hash the tag holds.
	tagLength = 12
)

// AppBuild describes an image of a stack's own.
type AppBuild struct {
	Stack   string // the sandbox's name
	Name    string // the image's name in the stack
	Context string // directory
	// Dockerfile is a path; relative ones are below Context. Empty means
	// "Dockerfile".
	Dockerfile string
	Target     string // stage; empty means the last one
	Args       map[string]string
	Labels     map[string]string
	// BaseRef is the platform image that stands in for the Dockerfile's base
	// image, which the build argument BaseArg names; empty leaves it alone.
	BaseRef string
	// BaseArg defaults to BASE_IMAGE.
	BaseArg string
	// CPUShares is the weight of the build, as in runtime.BuildSpec. What comes
	// out does not depend on it.
	CPUShares uint64
}

// Built is an image of the stack's own in the engine's store.
type Built struct {
	Ref     string // localhost/sandbox/STACK/NAME:HASH
	ID      string
	Changed bool // it was built just now
}

// Build makes sure that the image is in the engine's store. It is built unless
// one that was built from the same files, arguments and base image is there.
func Build(ctx context.Context, engine runtime.Runtime, b AppBuild, rep event.Reporter) (Built, error) {
	files, err := buildcontext.Open(b.Context, b.Dockerfile)
	if err != nil {
		return Built{}, fault.Wrap(fault.Invalid, err, "check the image's context and dockerfile in the stack file",
			"image %s can't be built", b.Name)
	}
	hash, err := b.hash(ctx, engine, files)
	if err != nil {
		return Built{}, err
	}
	ref := "localhost/sandbox/" + b.Stack + "/" + b.Name + ":" + hash[:tagLength]
	found, err := engine.Image(ctx, ref)
	switch {
	case err == nil && found.Labels[LabelBuild] == hash:
		return Built{Ref: ref, ID: found.ID}, nil
	case err != nil && !errors.Is(err, runtime.ErrNotFound):
		return Built{}, fmt.Errorf("look for image %s: %w", ref, err)
	}
	labels := maps.Clone(b.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[LabelBuild] = hash
	spec := runtime.BuildSpec{
		Context: b.Context, Dockerfile: b.Dockerfile, Tag: ref, Target: b.Target, Args: b.args(), Labels: labels,
		CPUShares: b.CPUShares,
	}
	if err := trustHost(&spec); err != nil {
		return Built{}, fmt.Errorf("build image %s: %w", b.Name, err)
	}
	log := newBuildLog(rep)
	stop := report(ctx, rep, log.progress)
	image, err := engine.BuildImage(ctx, spec, log.line)
	stop()
	if err != nil {
		return Built{}, b.failed(ctx, err, log)
	}
	return Built{Ref: ref, ID: image.ID, Changed: true}, nil
}

// args are the build arguments with the base image among them.
func (b AppBuild) args() map[string]string {
	args := map[string]string{}
	maps.Copy(args, b.Args)
	if b.BaseRef != "" {
		args[cmp.Or(b.BaseArg, "BASE_IMAGE")] = b.BaseRef
	}
	return args
}

// hash covers what the image is built from. The base image counts by its ID:
// what a reference stands for can change.
func (b AppBuild) hash(ctx context.Context, engine runtime.Runtime, files *buildcontext.Context) (string, error) {
	content, err := files.Hash()
	if err != nil {
		return "", fault.Wrap(fault.Failed, err, "check that the files of the build context can be read",
			"image %s can't be built", b.Name)
	}
	baseID := ""
	if b.BaseRef != "" {
		base, err := engine.Image(ctx, b.BaseRef)
		if err != nil {
			return "", fmt.Errorf("look for the base image of %s: %w", b.Name, err)
		}
		baseID = base.ID
	}
	text, err := json.Marshal([]any{buildVersion, content, b.Target, b.args(), baseID}) // maps are sorted
	if err != nil {
		return "", fmt.Errorf("hash image %s: %w", b.Name, err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// failed explains a failed build by the end of its output.
func (b AppBuild) failed(ctx context.Context, err error, log *buildLog) error {
	if ctx.Err() != nil {
		return fmt.Errorf("build image %s: %w", b.Name, err)
	}
	dockerfile := cmp.Or(b.Dockerfile, "Dockerfile")
	if !filepath.IsAbs(dockerfile) {
		dockerfile = filepath.Join(b.Context, dockerfile)
	}
	return &fault.Error{
		Code:  fault.Failed,
		What:  fmt.Sprintf("image %s could not be built", b.Name),
		Why:   log.why(),
		Try:   "correct " + dockerfile + " or what it copies, then run sandbox up again; what is up stays up",
		Log:   log.last(),
		Cause: err,
	}
}
