package stack

import "testing"

func TestLoadReadsAStackThatComesWithSandbox(t *testing.T) {
	s, err := Load("../../stacks/web-app")
	if err != nil {
		t.Fatal(err)
	}
	if s.Spec.Ports.AWS != DefaultPortAWS {
		t.Errorf("port of AWS is %d", s.Spec.Ports.AWS)
	}
}
