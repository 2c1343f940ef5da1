package terraform

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
)

// These tests run the real tool on modules that need no provider, so they need
// neither a registry nor an emulator and take well under a second each.
func needTool(t *testing.T) {
	t.Helper()
	if _, err := find("auto"); err != nil {
		t.Skip("neither terraform nor tofu is installed; these tests run the real tool")
	}
}

const plainModule = `
terraform {
  backend "s3" {
    bucket = "somebody-elses-state"
    key    = "prod"
    region = "eu-west-1"
  }
}
variable "name" { type = string }
variable "count_of" { default = 2 }
resource "terraform_data" "item" {
  count = var.count_of
  input = "${var.name}-${count.index}"
}
output "items" { value = terraform_data.item[*].output }
output "secret" {
  value     = "hunter2"
  sensitive = true
}
`

func named(name string) func(*Config) {
	return func(c *Config) { c.Vars = map[string]any{"name": name} }
}

func apply(t *testing.T, m *Module) Result {
	t.Helper()
	res, err := m.Apply(context.Background(), event.Discard)
	if err != nil {
		t.Fatalf("apply: %v\n%s", err, strings.Join(logOf(err), "\n"))
	}
	return res
}

func logOf(err error) []string {
	var f *fault.Error
	if errors.As(err, &f) {
		return f.Log
	}
	return nil
}

func check(t *testing.T, m *Module) Status {
	t.Helper()
	st, err := m.Check(context.Background())
	if err != nil {
		t.Fatalf("check: %v", err)
	}
	return st
}

func health(t *testing.T, m *Module) event.Health {
	t.Helper()
	all := m.Health(context.Background())
	if len(all) != 1 || all[0].Component != "terraform/infra" {
		t.Fatalf("health = %+v", all)
	}
	return all[0]
}

func TestApplyThenNothingToDo(t *testing.T) {
	needTool(t)
	m := module(t, map[string]string{"main.tf": plainModule}, named("a"))
	if st := check(t, m); st.Unchanged || st.Reason != "not applied yet" {
		t.Errorf("check before apply = %+v", st)
	}
	if h := health(t, m); h.State != event.StateWaiting {
		t.Errorf("health before apply = %+v", h)
	}

	rep := &recorder{}
	res, err := m.Apply(context.Background(), rep)
	if err != nil {
		t.Fatal(err)
	}
	if res.Added != 2 || res.Unchanged || res.String() != "2 added, 0 changed, 0 destroyed" {
		t.Errorf("result = %+v", res)
	}
	if !strings.Contains(rep.log(), "terraform_data.item[1]: Creation complete") {
		t.Errorf("log = %s", rep.log())
	}
	last := rep.progress[len(rep.progress)-1]
	if last.Done != 2 || last.Total != 2 || last.Unit != "resources" {
		t.Errorf("last progress = %+v", last)
	}

	if st := check(t, m); !st.Unchanged {
		t.Errorf("check after apply = %+v", st)
	}
	if h := health(t, m); h.State != event.StateOK || h.Reason != "2 resources" || h.Since.IsZero() {
		t.Errorf("health after apply = %+v", h)
	}
	out, err := m.Outputs(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	items, ok := out["items"].Value.([]any)
	if !ok || len(items) != 2 || items[0] != "a-0" || out["items"].Sensitive {
		t.Errorf("items = %+v", out["items"])
	}
	if out["secret"] != (Output{Value: "hunter2", Sensitive: true}) {
		t.Errorf("secret = %+v", out["secret"])
	}
	if res := apply(t, m); !res.Unchanged || res.String() != "no changes" {
		t.Errorf("second apply = %+v", res)
	}
}

func TestSourceIsNeverWrittenAndWorkspaceIsPrivate(t *testing.T) {
	needTool(t)
	m := module(t, map[string]string{"main.tf": plainModule}, named("a"))
	apply(t, m)
	names, err := filepath.Glob(filepath.Join(m.cfg.SourceDir, "{*,.*}"))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(m.cfg.SourceDir)
	if err != nil || len(entries) != 1 {
		t.Errorf("source now holds %v %v (%v)", names, entries, err)
	}
	for file, mode := range map[string]os.FileMode{
		m.paths.dir: os.ModeDir | 0o700, m.paths.state: 0o600, m.paths.outputs: 0o600, m.paths.record: 0o600, m.paths.vars: 0o600,
	} {
		info, err := os.Stat(file)
		if err != nil || info.Mode() != mode {
			t.Errorf("%s: mode %v, error %v, want %v", file, info.Mode(), err, mode)
		}
	}
	if exists(m.paths.plan) {
		t.Error("the saved plan was left behind")
	}
	if err := m.Destroy(); err != nil || exists(m.paths.dir) {
		t.Errorf("destroy: %v, workspace still there: %v", err, exists(m.paths.dir))
	}
}

func TestChangesAreNoticed(t *testing.T) {
	needTool(t)
	m := module(t, map[string]string{"main.tf": plainModule, "extra.txt": "x"}, named("a"))
	apply(t, m)

	m.cfg.Vars = map[string]any{"name": "b"}
	if st := check(t, m); st.Unchanged {
		t.Error("changed variable goes unnoticed")
	}
	if res := apply(t, m); res.Changed != 2 {
		t.Errorf("result of changed variable = %+v", res)
	}

	write(t, m.cfg.SourceDir, map[string]string{"main.tf": strings.Replace(plainModule, "default = 2", "default = 3", 1)})
	if err := os.Remove(filepath.Join(m.cfg.SourceDir, "extra.txt")); err != nil {
		t.Fatal(err)
	}
	if st := check(t, m); st.Unchanged {
		t.Error("changed file goes unnoticed")
	}
	plan, err := m.Plan(context.Background(), event.Discard)
	if err != nil {
		t.Fatal(err)
	}
	want := []Change{{Address: "terraform_data.item[2]", Type: "terraform_data", Action: "create"}}
	if !reflect.DeepEqual(plan.Changes, want) || plan.Added != 1 {
		t.Errorf("plan = %+v", plan)
	}
	if res := apply(t, m); res.Added != 1 {
		t.Errorf("result of changed file = %+v", res)
	}
	if exists(filepath.Join(m.paths.run, "extra.txt")) {
		t.Error("a file that the source no longer has is still in the copy")
	}
	if st := check(t, m); !st.Unchanged {
		t.Errorf("check = %+v", st)
	}
}

func TestRecreatedEmulatorIsFilledAgain(t *testing.T) {
	needTool(t)
	m := module(t, map[string]string{"main.tf": plainModule}, named("a"))
	apply(t, m)
	m.cfg.Generation = "two"
	if st := check(t, m); st.Unchanged || st.Reason != "the emulator was recreated" {
		t.Errorf("check = %+v", st)
	}
	if h := health(t, m); h.State != event.StateFailed || h.Blames != "aws" || !strings.Contains(h.Reason, "2 resources are lost") {
		t.Errorf("health = %+v", h)
	}
	res := apply(t, m)
	if res.Added != 2 || res.Lost != 2 || res.String() != "2 added, 0 changed, 0 destroyed (2 were lost with the emulator)" {
		t.Errorf("result = %+v", res)
	}
	kept, err := filepath.Glob(filepath.Join(m.paths.backups, "*-lost-with-emulator.tfstate"))
	if err != nil || len(kept) != 1 {
		t.Errorf("states set aside: %v (%v)", kept, err)
	}
	if st := check(t, m); !st.Unchanged {
		t.Errorf("check = %+v", st)
	}
}

func TestAbsentEmulatorLosesNothing(t *testing.T) {
	needTool(t)
	m := module(t, map[string]string{"main.tf": plainModule}, named("a"))
	apply(t, m)
	m.cfg.Generation = ""
	if st := check(t, m); st.Unchanged || st.Reason != "the emulator is not there" {
		t.Errorf("check = %+v", st)
	}
	if h := health(t, m); h.State != event.StateStale || h.Blames != "aws" {
		t.Errorf("health = %+v", h)
	}
	_, err := m.Apply(context.Background(), event.Discard)
	if f := asFault(t, err); f.Code != fault.Unavailable {
		t.Errorf("fault = %+v", f)
	}
	m.cfg.Generation = "one"
	if st := check(t, m); !st.Unchanged {
		t.Errorf("check with the emulator back = %+v", st)
	}
}

func TestTornStateIsReplacedByTheLastGoodOne(t *testing.T) {
	needTool(t)
	m := module(t, map[string]string{"main.tf": plainModule}, named("a"))
	apply(t, m)
	apply(t, m) // takes the copy that is restored below
	if err := os.Truncate(m.paths.state, 100); err != nil {
		t.Fatal(err)
	}
	if st := check(t, m); st.Unchanged || st.Reason != "the state is corrupt" {
		t.Errorf("check = %+v", st)
	}
	if h := health(t, m); h.State != event.StateFailed {
		t.Errorf("health = %+v", h)
	}
	rep := &recorder{}
	res, err := m.Apply(context.Background(), rep)
	if err != nil {
		t.Fatal(err)
	}
	if !res.Unchanged {
		t.Errorf("result = %+v: the resources were forgotten", res)
	}
	if log := rep.log(); !strings.Contains(log, "corrupt; backup at "+m.paths.backups) || !strings.Contains(log, "2 resources") {
		t.Errorf("log = %s", log)
	}
}

func TestFailedApplyNamesThePlaceAndResumes(t *testing.T) {
	needTool(t)
	m := module(t, map[string]string{"main.tf": `
resource "terraform_data" "good" {}
resource "terraform_data" "bad" {
  depends_on = [terraform_data.good]
  provisioner "local-exec" {
    command = "echo out of disk >&2; exit 3"
  }
}
`}, func(c *Config) { c.AllowExec = true })
	_, err := m.Apply(context.Background(), event.Discard)
	f := asFault(t, err)
	if !strings.Contains(f.What, "terraform apply of infra failed: terraform_data.bad: local-exec provisioner error") {
		t.Errorf("what = %q", f.What)
	}
	if want := filepath.Join(m.cfg.SourceDir, "main.tf") + ":5:28"; f.Pos != want {
		t.Errorf("pos = %q, want %q", f.Pos, want)
	}
	if !strings.Contains(f.Why, "out of disk") || !strings.Contains(f.Try, "1 of 2 resources are done and kept") || len(f.Log) == 0 {
		t.Errorf("fault = %+v", f)
	}
	if h := health(t, m); h.State != event.StateFailed || !strings.Contains(h.Reason, "terraform_data.bad") {
		t.Errorf("health = %+v", h)
	}
	if st := check(t, m); st.Unchanged || st.Reason != "the last apply failed" {
		t.Errorf("check = %+v", st)
	}
	write(t, m.cfg.SourceDir, map[string]string{"main.tf": "resource \"terraform_data\" \"good\" {}\n"})
	if res := apply(t, m); res.Added != 0 || res.Destroyed != 1 {
		t.Errorf("result after the correction = %+v", res)
	}
}

func TestPlanErrorNamesThePlace(t *testing.T) {
	needTool(t)
	m := module(t, map[string]string{"main.tf": "output \"x\" {\n  value = var.nope\n}\n"})
	_, err := m.Apply(context.Background(), event.Discard)
	f := asFault(t, err)
	if h := health(t, m); h.State != event.StateFailed || !strings.Contains(h.Reason, "undeclared input variable") {
		t.Errorf("health = %+v", h)
	}
	if f.Pos != filepath.Join(m.cfg.SourceDir, "main.tf")+":2:11" || !strings.Contains(f.What, "Reference to undeclared input variable") {
		t.Errorf("fault = %+v", f)
	}
}

func TestInterruptFinishesCleanlyAndResumes(t *testing.T) {
	needTool(t)
	gate := filepath.Join(t.TempDir(), "gate")
	m := module(t, map[string]string{"main.tf": `
variable "gate" {}
resource "terraform_data" "first" {}
resource "terraform_data" "slow" {
  depends_on = [terraform_data.first]
  provisioner "local-exec" {
    command = "until test -e ${var.gate}; do sleep 0.05; done"
  }
}
`}, func(c *Config) { c.AllowExec, c.Vars = true, map[string]any{"gate": gate} })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	rep := &recorder{onLine: func(line string) {
		if strings.Contains(line, "terraform_data.slow: Provisioning") {
			cancel()
		}
	}}
	_, err := m.Apply(ctx, rep)
	f := asFault(t, err)
	if f.Code != fault.Interrupted || !errors.Is(err, context.Canceled) || f.Why != "1 of 2 resources are done and kept" {
		t.Errorf("fault = %+v", f)
	}
	if st := check(t, m); st.Reason != "the last apply was interrupted" {
		t.Errorf("check = %+v", st)
	}
	if h := health(t, m); h.State != event.StateWorking {
		t.Errorf("health = %+v", h)
	}
	write(t, filepath.Dir(gate), map[string]string{"gate": ""})
	rep = &recorder{}
	res, err := m.Apply(context.Background(), rep)
	if err != nil {
		t.Fatal(err)
	}
	// The resource that was being created is tainted, and so replaced.
	if res.Added != 1 || !strings.Contains(rep.log(), "was interrupted: continuing") {
		t.Errorf("result = %+v, log %s", res, rep.log())
	}
}

func TestLocalModulesBesideTheRootAreCopied(t *testing.T) {
	needTool(t)
	m := module(t, map[string]string{
		"live/main.tf":     "module \"part\" {\n  source = \"../parts/one\"\n}\noutput \"v\" { value = module.part.v }\n",
		"parts/one/one.tf": "module \"two\" {\n  source = \"../two\"\n}\noutput \"v\" { value = module.two.v }\n",
		"parts/two/two.tf": "output \"v\" { value = file(\"${path.module}/v.txt\") }\n",
		"parts/two/v.txt":  "deep",
		"unrelated/huge":   "not part of the module",
	}, func(c *Config) { c.Root, c.SourceDir = c.SourceDir, filepath.Join(c.SourceDir, "live") })
	apply(t, m)
	out, err := m.Outputs(context.Background())
	if err != nil || out["v"].Value != "deep" {
		t.Errorf("outputs = %+v (%v)", out, err)
	}
	if exists(filepath.Join(m.paths.tree, "unrelated")) {
		t.Error("a folder that no module is in was copied")
	}
	if st := check(t, m); !st.Unchanged {
		t.Errorf("check = %+v", st)
	}
	write(t, m.cfg.Root, map[string]string{"parts/two/v.txt": "changed"})
	if st := check(t, m); st.Unchanged {
		t.Error("a change in a module beside the root goes unnoticed")
	}
}

func TestCloudBackendIsOverridden(t *testing.T) {
	needTool(t)
	m := module(t, map[string]string{"main.tf": "terraform {\n  cloud {\n    organization = \"acme\"\n    workspaces { name = \"prod\" }\n  }\n}\nresource \"terraform_data\" \"x\" {}\n"})
	if res := apply(t, m); res.Added != 1 || !exists(m.paths.state) {
		t.Errorf("result = %+v, local state: %v", res, exists(m.paths.state))
	}
}
