package images

import (
	"strings"
	"testing"
)

func TestPins(t *testing.T) {
	pins, err := Pins()
	if err != nil {
		t.Fatal(err)
	}
	for _, component := range []string{"node", "localstack", "prometheus", "alertmanager", "grafana", "nodejs", "kube-state-metrics"} {
		pin, ok := pins[component]
		if !ok {
			t.Errorf("no pin for %s", component)
		}
		if !pin.Unverified && !strings.Contains(pin.Ref, "@sha256:") {
			t.Errorf("%s: %s has no digest", component, pin.Ref)
		}
	}
}

func TestPinCheck(t *testing.T) {
	digest := "@sha256:" + strings.Repeat("a", 64)
	tests := map[string]struct {
		pin Pin
		ok  bool
	}{
		"digest and evidence":    {Pin{Ref: "docker.io/a/b:1" + digest, Evidence: "seen"}, true},
		"digest, no evidence":    {Pin{Ref: "docker.io/a/b:1" + digest}, false},
		"no digest":              {Pin{Ref: "docker.io/a/b:1", Evidence: "seen"}, false},
		"no digest, said so":     {Pin{Ref: "docker.io/a/b:1", Unverified: true}, true},
		"digest, yet unverified": {Pin{Ref: "docker.io/a/b:1" + digest, Unverified: true}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if err := test.pin.check(); (err == nil) != test.ok {
				t.Errorf("check = %v, want ok %t", err, test.ok)
			}
		})
	}
}
