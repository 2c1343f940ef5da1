package stack

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func testSources() Sources {
	return Sources{
		Output: func(module, output string) (any, error) { return module + "/" + output, nil },
		Image:  func(string) (ImageRef, error) { return ImageRef{Repository: "localhost/web", Tag: "abc"}, nil },
	}
}

func TestReleaseValuesLaterOnesWin(t *testing.T) {
	dir := write(t, map[string]string{
		"a.yaml": "image: {repository: a, tag: a}\nkeep: a\nb: {k: 1, l: 1}\n",
		"b.yaml": "b: {l: 2, m: 2}\n",
	})
	s := &Stack{Dir: dir}
	got, err := s.ReleaseValues(Release{
		Name:        "app",
		ValuesFiles: []string{"a.yaml", "b.yaml"},
		Values:      Values{"b": map[string]any{"m": int64(3)}},
		ValuesFrom: []ValueFrom{
			{Image: "web", Path: "image"},
			{Image: "web", Field: FieldRef, Path: "ref"},
			{Image: "web", Field: FieldRepository, Path: "one.repository"},
			{Image: "web", Field: FieldTag, Path: "one.tag"},
			{Terraform: "infra", Output: "queue_url", Path: "config.queueUrl"},
		},
	}, testSources())
	if err != nil {
		t.Fatal(err)
	}
	want := `{"b":{"k":1,"l":2,"m":3},"config":{"queueUrl":"infra/queue_url"},` +
		`"image":{"pullPolicy":"IfNotPresent","repository":"localhost/web","tag":"abc"},"keep":"a",` +
		`"one":{"repository":"localhost/web","tag":"abc"},"ref":"localhost/web:abc"}`
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

func TestReleaseValuesLeaveTheStackAlone(t *testing.T) {
	release := Release{Values: Values{"image": map[string]any{"tag": "old"}}, ValuesFrom: []ValueFrom{{Image: "web", Path: "image"}}}
	if _, err := (&Stack{}).ReleaseValues(release, testSources()); err != nil {
		t.Fatal(err)
	}
	if want := (Values{"image": map[string]any{"tag": "old"}}); !reflect.DeepEqual(release.Values, want) {
		t.Errorf("the stack's values became %v", release.Values)
	}
}

func TestReleaseValuesNameTheSourceThatFails(t *testing.T) {
	gone := errors.New("gone")
	from := Sources{Output: func(string, string) (any, error) { return nil, gone }}
	_, err := (&Stack{}).ReleaseValues(Release{Name: "app", ValuesFrom: []ValueFrom{{Terraform: "infra", Output: "url", Path: "x"}}}, from)
	if !errors.Is(err, gone) || !strings.Contains(err.Error(), "output url of terraform/infra") {
		t.Errorf("got %v", err)
	}
}

func TestSetValueRefusesWhatIsInTheWay(t *testing.T) {
	err := SetValue(map[string]any{"a": map[string]any{"b": "text"}}, "a.b.c", 1)
	if err == nil || !strings.Contains(err.Error(), "a.b is a string") {
		t.Errorf("got %v", err)
	}
}

func TestDurationKeepsItsUnits(t *testing.T) {
	var d Duration
	if err := json.Unmarshal([]byte(`"90s"`), &d); err != nil {
		t.Fatal(err)
	}
	if text, err := json.Marshal(d); err != nil || string(text) != `"1m30s"` {
		t.Errorf("got %s, %v", text, err)
	}
	if err := json.Unmarshal([]byte(`"soon"`), &d); err == nil {
		t.Error("a wrong duration was accepted")
	}
}

func TestComponentsDependOnWhatTheyUse(t *testing.T) {
	s, err := Load("../../stacks/web-app")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string][]string{}
	for _, c := range s.Components() {
		got[c.ID] = c.DependsOn
	}
	want := map[string][]string{
		"image/web-app":   nil,
		"terraform/infra": nil,
		"release/web-app": {"image/web-app", "terraform/infra"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestParseRulesReadsTheStacksRules(t *testing.T) {
	groups, err := ParseRules("../../stacks/web-app/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var alerts []string
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			alerts = append(alerts, r.Alert)
		}
	}
	want := "PodCrashLooping HighMemoryUsage HighCPUUsage EmulatorDown ClusterAPIDown TerraformDrift WebAppDown WebAppReplicasMissing OrdersFailing OrdersDependencyDown SlowRequests OrdersBacklog"
	if got := strings.Join(alerts, " "); got != want {
		t.Errorf("got %s", got)
	}
}

func TestPositionFallsBackToWhatIsAround(t *testing.T) {
	s, err := Load(write(t, map[string]string{FileName: header + "spec:\n  ports: {aws: 5000}\n"}))
	if err != nil {
		t.Fatal(err)
	}
	for want, keys := range map[string][]any{
		":5:16": {"spec", "ports", "aws"},
		":5:10": {"spec", "ports", "grafana"},
		":5:3":  {"spec", "releases", 0, "name"},
	} {
		if got := s.Position(keys...); !strings.HasSuffix(got, want) {
			t.Errorf("%v is at %s, not %s", keys, got, want)
		}
	}
}
