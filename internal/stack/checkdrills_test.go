package stack

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const drillRules = `groups:
  - name: web
    rules:
      - {alert: WebDown, expr: 'up{job="web"} == 0', for: 2m}
      - {alert: WebSlow, expr: "rate(seconds_total[5m]) > 1", for: 11s}
      - {alert: WebGone, expr: "absent(up)"}
`

const drillSpec = `spec:
  aws: {}
  observability: {rules: [rules/alerts.yaml], tests: [tests/alerts.yaml], alertmanager: am/alertmanager.yml}
  terraform: [{name: infra, dir: tf}]
  releases: [{name: web, chart: chart}]
`

// withDrills adds drills to the files of a stack that has everything they need.
func withDrills(drills string) map[string]string {
	files := with(drillSpec + "  drills:\n" + drills)
	files["rules/alerts.yaml"] = drillRules
	files["tests/alerts.yaml"] = "rule_files: [../rules/*.yaml]\ntests: []\n"
	files["tf/main.tf"] = "output \"a\" { value = 1 }\n"
	files["am/alertmanager.yml"] = `route:
  receiver: team
  routes: [{matchers: [severity="page"], routes: [{receiver: pager}]}]
receivers: [{name: team}, {name: pager}]
templates: [templates/*.tmpl]
time_intervals: []
`
	files["am/templates/a.tmpl"] = ""
	return files
}

func TestDrillsAreAccepted(t *testing.T) {
	for name, inject := range map[string]string{
		"crash":        "{crash: {selector: 'app=web,tier in (a, b),!old'}}",
		"kill":         "{kill: {selector: app=web, count: 1}}",
		"scale":        "{scale: {workload: deployment/web}}",
		"memory":       "{memory: {selector: app=web}}",
		"cpu":          "{cpu: {selector: app=web}}",
		"pause":        "{pause: {component: observe/exporter}}",
		"stop":         "{stop: {component: aws}}",
		"cut":          "{cut: {component: cluster}}",
		"cut pods":     "{cut: {selector: app=web, namespace: web}}",
		"delay":        "{delay: {component: aws, latency: 1ms}}",
		"http":         "{http: {service: web, namespace: web}}",
		"terraform":    "{terraform: {resource: aws_sqs_queue.orders}}",
		"exec":         "{exec: {component: release/web, run: [a], undo: [b]}}",
		"exec in part": "{exec: {component: release/web/deployment/web, run: [a], undo: [b]}}",
		"exec in aws":  "{exec: {component: aws, run: [a], undo: [b]}}",
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Load(write(t, withDrills("    - {alert: WebDown, receiver: pager, inject: "+inject+"}\n")))
			require.NoError(t, err)
			require.Len(t, s.Spec.Drills, 1)
			d := s.Spec.Drills[0]
			assert.Equal(t, Duration(DefaultWithin), d.Within)
			if d.Inject.Terraform != nil {
				assert.Equal(t, "infra", d.Inject.Terraform.Module)
			}
		})
	}
}

// within may be as short as the rule needs: a scrape, an evaluation, and for.
func TestWithinIsLongEnough(t *testing.T) {
	for _, c := range []struct {
		alert, compress string
		shortest        time.Duration
	}{
		{"WebDown", "", 17 * time.Second},
		{"WebDown", ", compress: 4", 37 * time.Second},
		{"WebDown", ", compress: 1", 130 * time.Second},
		{"WebSlow", "", 17 * time.Second},              // 10s, and not 11s / 20
		{"WebSlow", ", compress: 1", 25 * time.Second}, // 11s end with the third evaluation
		{"WebGone", "", 7 * time.Second},
	} {
		drill := func(within time.Duration) string {
			return "    - {alert: " + c.alert + c.compress + ", within: " + within.String() + ", inject: {kill: {selector: a}}}\n"
		}
		_, err := Load(write(t, withDrills(drill(c.shortest))))
		assert.NoError(t, err, "%+v", c)
		_, err = Load(write(t, withDrills(drill(c.shortest-time.Second))))
		wantProblem(t, err, "stack.yaml:", "too short", c.alert+" can fire after "+words(c.shortest)+" at the earliest")
	}
}

// The soonest of several rules of one name counts.
func TestWithinFitsTheSoonestRule(t *testing.T) {
	files := withDrills("    - {alert: WebDown, within: 7s, inject: {kill: {selector: a}}}\n")
	files["rules/alerts.yaml"] = drillRules + "      - {alert: WebDown, expr: up == 0}\n"
	_, err := Load(write(t, files))
	assert.NoError(t, err)
}

func TestDrillsOfARuleFileThatCannotBeReadAreNotUnknown(t *testing.T) {
	files := withDrills("    - {alert: WebDown, inject: {kill: {selector: a}}}\n")
	files["rules/alerts.yaml"] = "groups: 3\n"
	_, err := Load(write(t, files))
	wantProblem(t, err, "rules/alerts.yaml:1")
	for _, p := range AllProblems(err) {
		assert.NotContains(t, p.What, "unknown alert")
	}
}

// Rule files and templates that links lead to are outside as well.
func TestLinksOfTestsAndTemplatesStayInTheStack(t *testing.T) {
	outside := write(t, map[string]string{"alerts.yaml": drillRules})
	dir := write(t, withDrills("    - {alert: WebDown, inject: {kill: {selector: a}}}\n"))
	for link, message := range map[string]string{
		"rules/linked.yaml":        "tests/alerts.yaml:1:14: \"../rules/*.yaml\" leads outside",
		"am/templates/linked.tmpl": "am/alertmanager.yml:5:13: \"templates/*.tmpl\" leads outside",
	} {
		link = filepath.Join(dir, filepath.FromSlash(link))
		require.NoError(t, os.Symlink(filepath.Join(outside, "alerts.yaml"), link))
		_, err := Load(dir)
		wantProblem(t, err, message)
		require.NoError(t, os.Remove(link))
	}
	_, err := Load(dir)
	assert.NoError(t, err)
}

func TestTheFixtureOfDrillsIsValid(t *testing.T) {
	s, err := Load("../../fixtures/drills")
	require.NoError(t, err)
	assert.NotEmpty(t, s.Spec.Drills)
}

func TestFaultKindsAreThoseOfTheFormat(t *testing.T) {
	assert.Equal(t, []string{"crash", "kill", "scale", "memory", "cpu", "pause", "stop", "cut", "delay", "http", "terraform", "exec"}, faultKinds())
	all := Inject{
		&CrashFault{}, &KillFault{}, &ScaleFault{}, &MemoryFault{}, &CPUFault{}, &ContainerFault{}, &ContainerFault{},
		&CutFault{}, &DelayFault{}, &HTTPFault{}, &TerraformFault{}, &ExecFault{},
	}
	assert.Equal(t, faultKinds(), all.Kinds())
	assert.Empty(t, Inject{}.Kinds())
}
