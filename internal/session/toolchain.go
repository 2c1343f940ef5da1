package session

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/image"
	"github.com/sandbox-stack/sandbox/internal/steps"
	"github.com/sandbox-stack/sandbox/internal/terraform"
)

// The recipes that Terraform modules need where no registry can be reached.
const (
	providersRecipe = "terraform-provider-aws"
	tofuRecipe      = "opentofu"
)

// ensureToolchain finds the Terraform of this machine, or builds OpenTofu, and
// sees to a mirror with the providers where their registry cannot be reached.
func (s *Session) ensureToolchain(ctx context.Context, rep event.Reporter) (steps.Result, error) {
	var notes []string
	built := false
	tool, err := terraform.Detect(ctx, "auto")
	if err != nil && ctx.Err() == nil {
		// None, or one that does not work: ours does.
		rep.Log("sandbox", err.Error())
		var fresh bool
		var path string
		if path, fresh, err = s.artifact(ctx, tofuRecipe, rep); err == nil {
			built = built || fresh
			if err = s.setRef(refTool, path); err == nil {
				tool, err = terraform.Detect(ctx, path)
			}
		}
	}
	if err != nil {
		return steps.Result{}, err
	}
	notes = append(notes, tool.String())

	mirror := direct
	if s.wantMirror(ctx) {
		var fresh bool
		if mirror, fresh, err = s.artifact(ctx, providersRecipe, rep); err != nil {
			return steps.Result{}, err
		}
		built = built || fresh
		notes = append(notes, "providers from packages")
	}
	if err := s.setRef(refProviders, mirror); err != nil {
		return steps.Result{}, err
	}
	return steps.Result{Done: !built, Note: strings.Join(notes, ", ")}, nil
}

// artifact returns the path of what a recipe gives, and whether it was built
// just now.
func (s *Session) artifact(ctx context.Context, name string, rep event.Reporter) (path string, built bool, err error) {
	a, there, err := s.builder.Cached(name)
	if err != nil || there {
		return a.Path, false, err
	}
	a, err = s.builder.Build(ctx, name, rep)
	return a.Path, true, err
}

// direct is noted in place of a mirror where providers come from their registry.
const direct = "registry"

// wantMirror decides, once for each sandbox, whether providers come from a
// mirror made from packages.
func (s *Session) wantMirror(ctx context.Context) bool {
	switch {
	case s.opt.Images == string(image.Packages):
		return true
	case s.opt.Images == string(image.Registry):
		return false
	case s.ref(refProviders) != "":
		return s.ref(refProviders) != direct
	}
	return !answers(ctx, providerRegistry)
}

// providerRegistry tells where providers are; tests put another in its place.
var providerRegistry = "https://registry.terraform.io/.well-known/terraform.json"

// registryPatience is how long a registry may take to say that it is there.
const registryPatience = 3 * time.Second

// answers reports whether the URL can be had.
func answers(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, registryPatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	return res.Body.Close() == nil && res.StatusCode == http.StatusOK
}
