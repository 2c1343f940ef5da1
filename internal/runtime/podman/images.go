package podman

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// Image inspects an image by name or ID.
func (r *Runtime) Image(ctx context.Context, ref string) (runtime.Image, error) {
	var image struct {
		ID       string            `json:"Id"`
		RepoTags []string          `json:"RepoTags"`
		Labels   map[string]string `json:"Labels"`
		Size     int64             `json:"Size"`
	}
	if err := r.get(ctx, "/images/%s/json", nil, &image, ref); err != nil {
		return runtime.Image{}, fmt.Errorf("inspect image %q: %w", ref, err)
	}
	return runtime.Image{ID: imageID(image.ID), Names: image.RepoTags, Labels: image.Labels, Size: image.Size}, nil
}

// Images lists the images with the labels, by ID.
func (r *Runtime) Images(ctx context.Context, labels map[string]string) ([]runtime.Image, error) {
	params, err := labelFilter(labels, nil)
	if err != nil {
		return nil, err
	}
	var listed []struct {
		ID     string            `json:"Id"`
		Names  []string          `json:"Names"`
		Labels map[string]string `json:"Labels"`
		Size   int64             `json:"Size"`
	}
	if err := r.get(ctx, "/images/json", params, &listed); err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	images := make([]runtime.Image, 0, len(listed))
	for _, l := range listed {
		images = append(images, runtime.Image{ID: imageID(l.ID), Names: l.Names, Labels: l.Labels, Size: l.Size})
	}
	slices.SortFunc(images, func(a, b runtime.Image) int { return strings.Compare(a.ID, b.ID) })
	return images, nil
}

// LoadImage reads a docker or OCI archive and returns the names in it.
func (r *Runtime) LoadImage(ctx context.Context, archive io.Reader) ([]string, error) {
	var loaded struct {
		Names []string `json:"Names"`
	}
	q := request{
		method: http.MethodPost,
		path:   "/images/load",
		body:   archive,
		header: http.Header{"Content-Type": {"application/x-tar"}},
	}
	if err := r.call(ctx, q, &loaded); err != nil {
		return nil, fmt.Errorf("load image: %w", err)
	}
	return loaded.Names, nil
}

// SaveImage writes a docker archive of the image.
func (r *Runtime) SaveImage(ctx context.Context, ref string, w io.Writer) error {
	// The export of an unknown image is reported only after the headers.
	if _, err := r.Image(ctx, ref); err != nil {
		return fmt.Errorf("save image: %w", err)
	}
	params := url.Values{"format": {"docker-archive"}, "compress": {"false"}, "references": {ref}}
	body, err := r.open(ctx, request{method: http.MethodGet, path: "/images/export", params: params})
	if err != nil {
		return fmt.Errorf("save image %q: %w", ref, err)
	}
	defer func() { _ = body.Close() }()
	if _, err := io.Copy(w, body); err != nil {
		return fmt.Errorf("save image %q: %w", ref, err)
	}
	return nil
}

// PullImage fetches ref from its registry.
func (r *Runtime) PullImage(ctx context.Context, ref string, log func(line string)) (runtime.Image, error) {
	params := url.Values{"reference": {ref}, "policy": {"missing"}}
	body, err := r.open(ctx, request{method: http.MethodPost, path: "/images/pull", params: params})
	if err != nil {
		return runtime.Image{}, fmt.Errorf("pull image %q: %w", ref, err)
	}
	defer func() { _ = body.Close() }()
	answers := json.NewDecoder(body)
	var id string
	for {
		var answer struct {
			Stream string `json:"stream"`
			Error  string `json:"error"`
			ID     string `json:"id"`
		}
		if err := answers.Decode(&answer); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return runtime.Image{}, fmt.Errorf("pull image %q: read Podman's answer: %w", ref, err)
		}
		if answer.Error != "" {
			return runtime.Image{}, fmt.Errorf("pull image %q: %s", ref, answer.Error)
		}
		if line := strings.TrimSpace(answer.Stream); line != "" {
			log(line)
		}
		if answer.ID != "" {
			id = answer.ID
		}
	}
	if id == "" {
		return runtime.Image{}, fmt.Errorf("pull image %q: Podman names no image", ref)
	}
	return r.Image(ctx, id)
}

// RemoveImage removes the name, and the image with its last name.
func (r *Runtime) RemoveImage(ctx context.Context, ref string) error {
	if err := r.remove(ctx, "/images/%s", nil, ref); err != nil && !errors.Is(err, runtime.ErrNotFound) {
		return fmt.Errorf("remove image %q: %w", ref, err)
	}
	return nil
}
