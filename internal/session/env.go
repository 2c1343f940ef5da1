package session

import (
	"fmt"

	"github.com/sandbox-stack/sandbox/internal/aws"
)

// Var is an environment variable.
type Var struct{ Name, Value string }

// Env returns the environment by which other tools use the named sandbox. It
// needs no engine.
func Env(name string) ([]Var, error) {
	name, err := One(name)
	if err != nil {
		return nil, err
	}
	s, err := recorded(name)
	if err != nil {
		return nil, err
	}
	vars := []Var{
		{"SANDBOX_NAME", s.name},
		{"KUBECONFIG", s.dir.Kubeconfig()},
	}
	if spec := s.stack.Spec.AWS; spec.On() {
		vars = append(
			vars,
			Var{"AWS_ENDPOINT_URL", s.url("aws")},
			Var{"AWS_REGION", spec.Region},
			Var{"AWS_DEFAULT_REGION", spec.Region},
			Var{"AWS_ACCESS_KEY_ID", aws.AccessKey},
			Var{"AWS_SECRET_ACCESS_KEY", aws.SecretKey},
			Var{"AWS_EC2_METADATA_DISABLED", "true"},
		)
	}
	if s.stack.Spec.Observability.On() {
		vars = append(
			vars,
			Var{"PROMETHEUS_URL", s.url("prometheus")},
			Var{"ALERTMANAGER_URL", s.url("alertmanager")},
		)
	}
	return vars, nil
}

func (s *Session) url(key string) string { return fmt.Sprintf("http://127.0.0.1:%d", s.ports[key]) }
