package podman

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/buildcontext"
)

// BuildImage builds an image from a Dockerfile. The context is streamed to the
// engine, never held in memory.
func (r *Runtime) BuildImage(ctx context.Context, spec runtime.BuildSpec, log func(line string)) (runtime.Image, error) {
	image, err := r.build(ctx, spec, log)
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return runtime.Image{}, fmt.Errorf("build image %q: %w", spec.Tag, err)
	}
	return image, nil
}

func (r *Runtime) build(ctx context.Context, spec runtime.BuildSpec, log func(line string)) (runtime.Image, error) {
	files, err := buildcontext.Open(spec.Context, spec.Dockerfile)
	if err != nil {
		return runtime.Image{}, err
	}
	params, err := buildParams(spec, files.Dockerfile)
	if err != nil {
		return runtime.Image{}, err
	}
	reader, writer := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := files.WriteTar(writer)
		written <- err
		_ = writer.CloseWithError(err) // always nil
	}()
	body, err := r.open(ctx, request{
		method: http.MethodPost,
		path:   "/build",
		params: params,
		body:   reader,
		header: http.Header{"Content-Type": {"application/x-tar"}},
	})
	// Podman has read all it wants by the time it answers; this frees a
	// writer that had more.
	_ = reader.Close()
	if writeErr := <-written; writeErr != nil && !errors.Is(writeErr, io.ErrClosedPipe) {
		err = errors.Join(writeErr, err)
	}
	if err != nil {
		if body != nil {
			_ = body.Close()
		}
		return runtime.Image{}, err
	}
	defer func() { _ = body.Close() }()
	if err := readBuild(body, log); err != nil {
		return runtime.Image{}, err
	}
	return r.Image(ctx, spec.Tag)
}

// buildParams renders the spec as the API's parameters.
func buildParams(spec runtime.BuildSpec, dockerfile string) (url.Values, error) {
	params := url.Values{
		"t":          {spec.Tag},
		"layers":     {"true"},
		"rm":         {"true"},
		"forcerm":    {"true"},
		"pullpolicy": {"missing"},
		// The format that has HEALTHCHECK.
		"outputformat": {"application/vnd.docker.distribution.manifest.v2+json"},
	}
	for key, value := range map[string]any{
		"dockerfile": []string{dockerfile},
		"buildargs":  spec.Args,
		"labels":     labelList(spec.Labels),
	} {
		text, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("render %s: %w", key, err)
		}
		params.Set(key, string(text))
	}
	if spec.Target != "" {
		params.Set("target", spec.Target)
	}
	for _, volume := range spec.Volumes {
		params.Add("volume", volume)
	}
	return params, nil
}

func labelList(labels map[string]string) []string {
	list := make([]string, 0, len(labels))
	for key, value := range labels {
		list = append(list, key+"="+value)
	}
	return list
}

// readBuild passes the builder's output on, line by line, and returns its
// error.
func readBuild(r io.Reader, log func(line string)) error {
	lines, feed := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		reader := bufio.NewReader(lines)
		for {
			line, err := reader.ReadString('\n')
			if line = strings.TrimRight(line, "\r\n"); line != "" {
				log(line)
			}
			if err != nil {
				return // the end of the pipe
			}
		}
	}()
	err := decodeBuild(r, feed)
	_ = feed.Close() // always nil
	<-done
	return err
}

func decodeBuild(r io.Reader, w io.Writer) error {
	answers := json.NewDecoder(r)
	for {
		var answer struct {
			Stream string `json:"stream"`
			Error  string `json:"error"`
		}
		if err := answers.Decode(&answer); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read Podman's answer: %w", err)
		}
		if answer.Error != "" {
			return errors.New(strings.TrimSpace(answer.Error))
		}
		if _, err := io.WriteString(w, answer.Stream); err != nil {
			return fmt.Errorf("pass the output on: %w", err)
		}
	}
}
