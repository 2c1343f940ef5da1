package terraform

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

func TestInspect(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"main.tf":      "variable \"must\" {}\nvariable \"may\" { default = null }\noutput \"url\" { value = 1 }\n",
		"more.tf.json": `{"variable": {"json": {"type": "string"}}, "output": {"arn": {"value": "x"}}}`,
		"ignored.txt":  "not {{ hcl",
	})
	d, err := Inspect(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !d.Variables["must"] || d.Variables["may"] || !d.Variables["json"] || len(d.Variables) != 3 {
		t.Errorf("variables = %v", d.Variables)
	}
	if !slices.Equal(d.Outputs, []string{"arn", "url"}) {
		t.Errorf("outputs = %v", d.Outputs)
	}
}

func TestValidateRefusals(t *testing.T) {
	cases := []struct {
		name    string
		files   map[string]string
		change  func(*Config)
		pos     string // "file:line:col" below the source, "" for none
		message string // part of what and why
	}{
		{
			name: "syntax error", files: map[string]string{"main.tf": "resource \"a\" \"b\" {\n  x = \n}\n"},
			pos: "main.tf:2:7", message: "Invalid expression",
		},
		{
			name: "syntax error in a child", files: map[string]string{"main.tf": "module \"c\" {\n  source = \"./c\"\n}\n", "c/c.tf": "}"},
			pos: "c/c.tf:1:1", message: "Argument or block definition required",
		},
		{name: "no configuration", files: map[string]string{"readme.md": ""}, message: "not a Terraform module"},
		{
			name: "unknown provider", files: map[string]string{"main.tf": "terraform {\n  required_providers {\n    google = {\n      source = \"hashicorp/google\"\n    }\n  }\n}\n"},
			pos: "main.tf:3:5", message: "provider hashicorp/google is not allowed",
		},
		{
			name: "unknown provider by implication", files: map[string]string{"main.tf": "\nresource \"google_storage_bucket\" \"b\" {}\n"},
			pos: "main.tf:2:1", message: "provider hashicorp/google is not allowed",
		},
		{
			name: "look-alike of an allowed provider", files: map[string]string{"main.tf": "terraform {\n  required_providers {\n    aws = { source = \"evil.example/hashicorp/aws\" }\n  }\n}\n"},
			pos: "main.tf:3:5", message: "provider evil.example/hashicorp/aws is not allowed",
		},
		{
			name: "provisioner", files: map[string]string{"main.tf": "resource \"terraform_data\" \"x\" {\n  provisioner \"local-exec\" {\n    command = \"id\"\n  }\n}\n"},
			pos: "main.tf:2:3", message: "terraform_data.x has a local-exec provisioner",
		},
		{
			name: "provisioner in JSON", files: map[string]string{"main.tf.json": `{"resource": {"terraform_data": {"x": {"provisioner": [{"remote-exec": {}}]}}}}`},
			pos: "main.tf.json:1:72", message: "remote-exec provisioner",
		},
		{
			name: "external program", files: map[string]string{"main.tf": "data \"external\" \"x\" {\n  program = [\"id\"]\n}\n"},
			pos: "main.tf:1:1", message: "data.external.x runs a program",
		},
		{
			name: "state from elsewhere", files: map[string]string{"main.tf": "data \"terraform_remote_state\" \"x\" {\n  backend = \"http\"\n}\n"},
			pos: "main.tf:1:1", message: "reads a state outside of the sandbox",
		},
		{
			name: "state encryption", files: map[string]string{"main.tf": "terraform {\n  encryption {}\n}\n"},
			pos: "main.tf:2:3", message: "state encryption",
		},
		{
			name: "later override", files: map[string]string{"main.tf": "", "zzzzz_override.tf": "provider \"aws\" {}\n"},
			message: "zzzzz_override.tf would override the sandbox's own settings",
		},
		{
			name: "our own file name", files: map[string]string{"main.tf": "", "zzzz_sandbox_override.tf": ""},
			message: "files of this name are the sandbox's own",
		},
		{
			name: "module outside", files: map[string]string{"main.tf": "module \"up\" {\n  source = \"../../elsewhere\"\n}\n"},
			pos: "main.tf:2:3", message: "module up leaves the stack's folder",
		},
		{
			name: "module missing", files: map[string]string{"main.tf": "module \"up\" {\n  source = \"./elsewhere\"\n}\n"},
			pos: "main.tf:2:3", message: "module up does not exist",
		},
		{
			name: "unknown variable", files: map[string]string{"main.tf": "variable \"name\" {}\n"},
			change:  func(c *Config) { c.Vars = map[string]any{"nmae": 1} },
			message: "no variable \"nmae\" declared are: name",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			change := c.change
			if change == nil {
				change = func(*Config) {}
			}
			m := module(t, c.files, change)
			f := asFault(t, m.Validate(context.Background()))
			if f.Code != fault.Invalid {
				t.Errorf("code = %s", f.Code)
			}
			if text := f.What + " " + f.Why; !strings.Contains(text, c.message) {
				t.Errorf("text = %q, want %q", text, c.message)
			}
			want := ""
			if c.pos != "" {
				want = filepath.Join(m.cfg.SourceDir, c.pos)
			}
			if f.Pos != want {
				t.Errorf("pos = %q, want %q", f.Pos, want)
			}
			if exists(m.paths.dir) {
				t.Error("a workspace was created")
			}
		})
	}
}

func TestValidateAllowsOnRequest(t *testing.T) {
	files := map[string]string{"main.tf": `
terraform {
  required_providers {
    utils = { source = "registry.terraform.io/CloudPosse/utils" }
  }
}
resource "terraform_data" "x" {
  provisioner "local-exec" {
    command = "id"
  }
}
data "terraform_remote_state" "s" {
  backend = "s3"
}
resource "random_pet" "p" {}
`, "override.tf": "provider \"aws\" {}\n"}
	m := module(t, files, func(c *Config) { c.AllowExec, c.AllowProviders = true, []string{"cloudposse/utils"} })
	if err := m.Validate(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestNewRefusesASourceOutsideOfTheRoot(t *testing.T) {
	dir := t.TempDir()
	_, err := New(Config{Name: "x", Root: filepath.Join(dir, "stack"), SourceDir: dir, Workspace: dir, CacheDir: dir, Endpoint: "http://127.0.0.1:1"})
	if f := asFault(t, err); f.Code != fault.Invalid || !strings.Contains(f.What, "leaves the stack's folder") {
		t.Errorf("fault = %+v", f)
	}
}

func TestOpenTofuFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"main.tf": "output \"old\" { value = 1 }\n", "main.tofu": "output \"new\" { value = 1 }\n",
		"only.tofu": "output \"more\" { value = 1 }\n", "dyn.tf": "module \"d\" {\n  source = \"./${var.x}\"\n}\n",
	})
	show := func(s string) string { return s }
	if _, err := scanFolder(os.DirFS(dir), ".", tofuName, show); err == nil || asFault(t, err).Pos != "dyn.tf:2:3" {
		t.Errorf("a source that is not constant: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, "dyn.tf")); err != nil {
		t.Fatal(err)
	}
	f, err := scanFolder(os.DirFS(dir), ".", tofuName, show)
	if err != nil || !slices.Equal(sortedKeys(f.outputs), []string{"more", "new"}) {
		t.Errorf("tofu reads %v (%v)", f, err)
	}
	f, err = scanFolder(os.DirFS(dir), ".", terraformName, show)
	if err != nil || !slices.Equal(sortedKeys(f.outputs), []string{"old"}) {
		t.Errorf("terraform reads %v (%v)", f, err)
	}
}
