package podman

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.podman.io/podman/v6/pkg/bindings"
	"go.podman.io/podman/v6/pkg/errorhandling"

	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// patience is how long a service may take to say that it is there. Tests have
// less.
var patience = 5 * time.Second

// errSilent says that a service takes connections and does not answer.
var errSilent = errors.New("it takes connections and does not answer")

// dial connects to the service behind the socket and returns its version.
func dial(ctx context.Context, socket string) (*bindings.Connection, string, error) {
	asked, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	bound, err := bindings.NewConnection(asked, "unix://"+socket)
	if err != nil {
		if asked.Err() != nil && ctx.Err() == nil {
			err = fmt.Errorf("%w within %s", errSilent, patience)
		}
		return nil, "", err
	}
	conn, err := bindings.GetClient(bound)
	if err != nil {
		return nil, "", err
	}
	return conn, bindings.ServiceVersion(bound).String(), nil
}

// request is one call of the API. Path holds a %s for each of Args, which are
// escaped.
type request struct {
	method string
	path   string
	args   []string
	params url.Values
	body   io.Reader
	header http.Header
}

// open sends the request and returns the answer's body, or the API's error.
// The caller closes the body.
func (r *Runtime) open(ctx context.Context, q request) (io.ReadCloser, error) {
	resp, err := r.conn.DoRequest(ctx, q.body, q.method, q.path, q.params, q.header, q.args...)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, err
	}
	if resp.IsSuccess() || resp.IsRedirection() { // 304 means "so already"
		return resp.Body, nil
	}
	defer func() { _ = resp.Body.Close() }()
	return nil, apiError(resp.Process(nil))
}

// call sends the request and decodes the answer into out, unless out is nil.
func (r *Runtime) call(ctx context.Context, q request, out any) error {
	body, err := r.open(ctx, q)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	if out == nil {
		_, err = io.Copy(io.Discard, body)
		return err
	}
	if err := json.NewDecoder(body).Decode(out); err != nil {
		return fmt.Errorf("read Podman's answer: %w", err)
	}
	return nil
}

func (r *Runtime) get(ctx context.Context, path string, params url.Values, out any, args ...string) error {
	return r.call(ctx, request{method: http.MethodGet, path: path, params: params, args: args}, out)
}

func (r *Runtime) post(ctx context.Context, path string, params url.Values, args ...string) error {
	return r.call(ctx, request{method: http.MethodPost, path: path, params: params, args: args}, nil)
}

func (r *Runtime) remove(ctx context.Context, path string, params url.Values, args ...string) error {
	return r.call(ctx, request{method: http.MethodDelete, path: path, params: params, args: args}, nil)
}

// apiError makes what the API says recognizable: "no such …" is
// runtime.ErrNotFound.
func apiError(err error) error {
	var model *errorhandling.ErrorModel
	if !errors.As(err, &model) {
		return err
	}
	// Some calls answer 500 where the object they depend on is missing; the
	// cause is the same.
	missing := model.Because == "image not known" || model.Because == "no such container" || model.Because == "no such image"
	if model.ResponseCode == http.StatusNotFound || missing {
		return fmt.Errorf("%w: %s", runtime.ErrNotFound, model.Message)
	}
	return err
}

// labelFilter renders labels as the API's filters parameter, with further
// filters added.
func labelFilter(labels map[string]string, more map[string][]string) (url.Values, error) {
	filters := map[string][]string{}
	for key, values := range more {
		filters[key] = values
	}
	for key, value := range labels {
		if value != "" {
			key += "=" + value
		}
		filters["label"] = append(filters["label"], key)
	}
	text, err := json.Marshal(filters)
	if err != nil {
		return nil, fmt.Errorf("render filters: %w", err)
	}
	return url.Values{"filters": {string(text)}}, nil
}

// jsonBody renders v as a request body.
func jsonBody(v any) (io.Reader, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("render the request: %w", err)
	}
	return strings.NewReader(string(text)), nil
}
