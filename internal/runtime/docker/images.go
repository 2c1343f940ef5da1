package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/moby/moby/api/pkg/authconfig"
	"github.com/moby/moby/api/types/registry"
	"github.com/moby/moby/client"
	"github.com/moby/moby/client/pkg/versions"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// platformAPI is where images may have several platforms in the engine's store
// and an export can be told which.
const platformAPI = "1.48"

// Image inspects an image by name or ID.
func (r *Runtime) Image(ctx context.Context, ref string) (runtime.Image, error) {
	image, err := r.inspectImage(ctx, ref)
	if err != nil {
		return runtime.Image{}, err
	}
	out := runtime.Image{ID: image.ID, Names: image.RepoTags, Size: image.Size}
	if image.Config != nil {
		out.Labels = image.Config.Labels
	}
	return out, nil
}

func (r *Runtime) inspectImage(ctx context.Context, ref string) (client.ImageInspectResult, error) {
	image, err := r.api.ImageInspect(ctx, ref)
	if err != nil {
		return image, fmt.Errorf("inspect image %q: %w", ref, apiError(ctx, err))
	}
	return image, nil
}

// Images lists the images with the labels, by ID.
func (r *Runtime) Images(ctx context.Context, labels map[string]string) ([]runtime.Image, error) {
	listed, err := r.api.ImageList(ctx, client.ImageListOptions{Filters: labelFilter(labels)})
	if err != nil {
		return nil, fmt.Errorf("list images: %w", apiError(ctx, err))
	}
	images := make([]runtime.Image, 0, len(listed.Items))
	for _, l := range listed.Items {
		image := runtime.Image{ID: l.ID, Labels: l.Labels, Size: l.Size}
		for _, name := range l.RepoTags {
			if name != "<none>:<none>" {
				image.Names = append(image.Names, name)
			}
		}
		images = append(images, image)
	}
	byName(images, func(i runtime.Image) string { return i.ID })
	return images, nil
}

// LoadImage reads a docker or OCI archive and returns the names in it.
func (r *Runtime) LoadImage(ctx context.Context, archive io.Reader) ([]string, error) {
	body, err := r.api.ImageLoad(ctx, archive, client.ImageLoadWithQuiet(true))
	if err != nil {
		return nil, fmt.Errorf("load image: %w", apiError(ctx, err))
	}
	defer func() { _ = body.Close() }()
	var names []string
	err = eachMessage(ctx, body, func(m message) {
		line := strings.TrimSpace(m.Stream)
		if name, ok := strings.CutPrefix(line, "Loaded image: "); ok {
			names = append(names, name)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("load image: %w", err)
	}
	return names, nil
}

// SaveImage writes a docker archive of the image.
func (r *Runtime) SaveImage(ctx context.Context, ref string, w io.Writer) error {
	image, err := r.inspectImage(ctx, ref)
	if err != nil {
		return fmt.Errorf("save image: %w", err)
	}
	var options []client.ImageSaveOption
	// In containerd's store an image may lack the content of other platforms,
	// which an export of all of them would ask for.
	if !versions.LessThan(r.api.ClientVersion(), platformAPI) && image.Os != "" {
		options = append(options, client.ImageSaveWithPlatforms(ocispec.Platform{
			OS: image.Os, Architecture: image.Architecture, Variant: image.Variant,
		}))
	}
	body, err := r.api.ImageSave(ctx, []string{ref}, options...)
	if err != nil {
		return fmt.Errorf("save image %q: %w", ref, apiError(ctx, err))
	}
	defer func() { _ = body.Close() }()
	if _, err := io.Copy(w, body); err != nil {
		return fmt.Errorf("save image %q: %w", ref, err)
	}
	return nil
}

// PullImage fetches ref from its registry, unless it is there.
func (r *Runtime) PullImage(ctx context.Context, ref string, log func(line string)) (runtime.Image, error) {
	image, err := r.Image(ctx, ref)
	if !errors.Is(err, runtime.ErrNotFound) {
		return image, err
	}
	auth, err := credentials(ctx, ref)
	if err != nil {
		return runtime.Image{}, fmt.Errorf("pull image %q: %w", ref, err)
	}
	body, err := r.api.ImagePull(ctx, ref, client.ImagePullOptions{RegistryAuth: auth})
	if err != nil {
		return runtime.Image{}, fmt.Errorf("pull image %q: %w", ref, apiError(ctx, err))
	}
	defer func() { _ = body.Close() }()
	err = eachMessage(ctx, body, func(m message) {
		if m.Progress.Total > 0 || m.Status == "" {
			return // one of many for the same layer
		}
		if m.ID != "" {
			m.Status = m.ID + ": " + m.Status
		}
		log(m.Status)
	})
	if err != nil {
		return runtime.Image{}, fmt.Errorf("pull image %q: %w", ref, err)
	}
	return r.Image(ctx, ref)
}

// credentials are what this user has logged in with at the image's registry, as
// the API wants them; empty where there are none.
func credentials(ctx context.Context, ref string) (string, error) {
	image, err := name.ParseReference(ref)
	if err != nil {
		return "", err
	}
	found, err := authn.Resolve(ctx, authn.DefaultKeychain, image.Context().Registry)
	if err != nil {
		return "", fmt.Errorf("find the credentials for %s: %w", image.Context().RegistryStr(), err)
	}
	if found == authn.Anonymous {
		return "", nil
	}
	auth, err := authn.Authorization(ctx, found)
	if err != nil {
		return "", fmt.Errorf("find the credentials for %s: %w", image.Context().RegistryStr(), err)
	}
	return authconfig.Encode(registry.AuthConfig{
		Username: auth.Username, Password: auth.Password, Auth: auth.Auth,
		IdentityToken: auth.IdentityToken, RegistryToken: auth.RegistryToken, ServerAddress: image.Context().RegistryStr(),
	})
}

// RemoveImage removes the name, and the image with its last name.
func (r *Runtime) RemoveImage(ctx context.Context, ref string) error {
	_, err := r.api.ImageRemove(ctx, ref, client.ImageRemoveOptions{PruneChildren: true})
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove image %q: %w", ref, apiError(ctx, err))
	}
	return nil
}

// message is one of the stream in which long calls report.
type message struct {
	Stream   string `json:"stream"`
	Status   string `json:"status"`
	ID       string `json:"id"`
	Error    string `json:"error"`
	Progress struct {
		Total int64 `json:"total"`
	} `json:"progressDetail"`
	Aux json.RawMessage `json:"aux"`
}

// eachMessage passes on each message of the stream, and returns the error that
// one of them holds.
func eachMessage(ctx context.Context, body io.Reader, f func(message)) error {
	messages := json.NewDecoder(body)
	for {
		var m message
		err := messages.Decode(&m)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("read Docker's answer: %w", err)
		case m.Error != "":
			return errors.New(m.Error)
		}
		f(m)
	}
}
