package terraform

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/hashicorp/go-version"
	"github.com/hashicorp/terraform-exec/tfexec"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

// minVersion is the oldest Terraform whose JSON output, override and lock file
// rules this package relies on.
var minVersion = version.Must(version.NewVersion("1.5.0"))

// initJSONVersion is the first version whose init can report in JSON.
var initJSONVersion = version.Must(version.NewVersion("1.9.0"))

// The two programs, and the registries they mean by a provider source without
// a host.
const (
	terraformName = "terraform"
	tofuName      = "tofu"

	terraformHost = "registry.terraform.io"
	tofuHost      = "registry.opentofu.org"
)

// Tool is the Terraform or OpenTofu program of this machine.
type Tool struct {
	Name    string // "terraform" or "tofu"
	Path    string // absolute path
	Version string // such as "1.11.4"

	parsed *version.Version
}

// String returns the tool as people name it.
func (t Tool) String() string { return t.Name + " " + t.Version }

// host is the registry of provider sources without a host.
func (t Tool) host() string {
	if t.Name == tofuName {
		return tofuHost
	}
	return terraformHost
}

// Detect finds the program and asks for its version. want is as Config.Tool.
// A missing or too old program is an Unavailable fault.
func Detect(ctx context.Context, want string) (Tool, error) {
	path, err := find(want)
	if err != nil {
		return Tool{}, err
	}
	dir, err := os.MkdirTemp("", "sandbox-terraform-")
	if err != nil {
		return Tool{}, fmt.Errorf("detect terraform: %w", err)
	}
	defer os.RemoveAll(dir) // an empty temporary folder
	tf, err := tfexec.NewTerraform(dir, path)
	if err != nil {
		return Tool{}, fmt.Errorf("detect terraform: %w", err)
	}
	if err := tf.SetEnv(map[string]string{"PATH": os.Getenv("PATH"), "HOME": dir, "CHECKPOINT_DISABLE": "1"}); err != nil {
		return Tool{}, fmt.Errorf("detect terraform: %w", err)
	}
	v, _, err := tf.Version(ctx, false)
	if ctx.Err() != nil {
		return Tool{}, fmt.Errorf("ask %s for its version: %w", path, ctx.Err())
	}
	if err != nil {
		return Tool{}, fault.Wrap(fault.Unavailable, err, path+" version", "%s does not say its version", path)
	}
	if v.LessThan(minVersion) {
		return Tool{}, fault.New(fault.Unavailable, fmt.Sprintf("%s is version %s", path, v),
			fmt.Sprintf("at least %s is needed", minVersion), "install a newer Terraform or OpenTofu")
	}
	return Tool{Name: toolName(path), Path: path, Version: v.String(), parsed: v}, nil
}

// find resolves Config.Tool to an absolute path without running anything.
func find(want string) (string, error) {
	names := []string{want}
	if want == "" || want == "auto" {
		names = []string{terraformName, tofuName}
	}
	for _, name := range names {
		path, err := exec.LookPath(name)
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fault.Wrap(fault.Unavailable, err, "", "%s cannot be run", name)
		}
		if path, err = filepath.Abs(path); err != nil {
			return "", fmt.Errorf("find %s: %w", name, err)
		}
		return path, nil
	}
	what := fmt.Sprintf("%s is not installed", want)
	if len(names) > 1 {
		what = "neither terraform nor tofu is installed"
	}
	return "", fault.New(fault.Unavailable, what, "no such program on the PATH",
		"sandbox images build opentofu, or install Terraform (developer.hashicorp.com/terraform) or OpenTofu (opentofu.org)")
}

// toolName tells the two programs apart by their file name.
func toolName(path string) string {
	if strings.Contains(filepath.Base(path), tofuName) {
		return tofuName
	}
	return terraformName
}
