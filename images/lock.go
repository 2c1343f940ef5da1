package images

import (
	_ "embed"
	"errors"
	"fmt"

	"github.com/google/go-containerregistry/pkg/name"
	"sigs.k8s.io/yaml"
)

// Pin is the registry image of a component.
type Pin struct {
	// Ref is registry/name:tag@sha256:digest, or without the digest where
	// Unverified is set.
	Ref string `json:"ref"`
	// Evidence says how the digest is known.
	Evidence string `json:"evidence,omitempty"`
	// Unverified marks a reference that has no digest and so may move.
	Unverified bool `json:"unverified,omitempty"`
}

//go:embed lock.yaml
var lockFile []byte

// Pins returns the registry image of each component by its name.
func Pins() (map[string]Pin, error) {
	pins := map[string]Pin{}
	if err := yaml.UnmarshalStrict(lockFile, &pins); err != nil {
		return nil, fmt.Errorf("read image pins: %w", err)
	}
	var errs []error
	for component, pin := range pins {
		if err := pin.check(); err != nil {
			errs = append(errs, fmt.Errorf("image pin %s: %w", component, err))
		}
	}
	return pins, errors.Join(errs...)
}

func (p Pin) check() error {
	_, err := name.NewDigest(p.Ref)
	switch {
	case p.Unverified && err == nil:
		return errors.New("is marked unverified but has a digest")
	case p.Unverified:
		_, err := name.NewTag(p.Ref, name.StrictValidation)
		return err
	case err != nil:
		return err
	case p.Evidence == "":
		return errors.New("says nothing about how its digest is known")
	}
	return nil
}
