package images_test

import (
	"bufio"
	"bytes"
	"io/fs"
	"path"
	"regexp"
	"strings"
	"testing"

	"github.com/sandbox-stack/sandbox/images"
	"github.com/sandbox-stack/sandbox/internal/packages"
)

func TestRecipesAreValid(t *testing.T) {
	recipes, err := packages.Recipes(images.FS)
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]packages.Kind{}
	for _, r := range recipes {
		have[r.Name] = r.Kind
	}
	want := map[string]packages.Kind{
		"node": packages.KindImage, "localstack": packages.KindImage, "prometheus": packages.KindImage,
		"alertmanager": packages.KindImage, "nodejs": packages.KindImage, "kube-state-metrics": packages.KindImage,
		"terraform-provider-aws": packages.KindTree, "opentofu": packages.KindTool,
	}
	for name, kind := range want {
		if have[name] != kind {
			t.Errorf("recipe %q has kind %q, want %q", name, have[name], kind)
		}
	}
}

var pinned = regexp.MustCompile(`^[a-z0-9-]+==[0-9][0-9a-z.]* \\$`)

// Every Python package must be pinned and hashed, and its index stays the
// user's choice.
func TestPythonLockFiles(t *testing.T) {
	recipes, err := packages.Recipes(images.FS)
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, r := range recipes {
		if r.Python == nil {
			continue
		}
		checked++
		file := path.Join(r.Name, r.Python.Requirements)
		data, err := fs.ReadFile(images.FS, file)
		if err != nil {
			t.Fatal(err)
		}
		hashed := true
		for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
			line := lines.Text()
			switch {
			case strings.HasPrefix(line, "#"), line == "":
			case strings.HasPrefix(line, "    --hash=sha256:"):
				hashed = true
			case !pinned.MatchString(line):
				t.Errorf("%s: %q is not name==version", file, line)
			case !hashed:
				t.Errorf("%s: the package before %q has no hash", file, line)
			default:
				hashed = false
			}
		}
		if !hashed {
			t.Errorf("%s: the last package has no hash", file)
		}
	}
	if checked == 0 {
		t.Error("no recipe has Python packages, so nothing was checked")
	}
}

// Terraform and OpenTofu each look below their own registry's name.
func TestProviderMirrorServesBothTools(t *testing.T) {
	recipe, err := packages.LoadRecipe(images.FS, "terraform-provider-aws")
	if err != nil {
		t.Fatal(err)
	}
	name := "/hashicorp/aws/" + recipe.Version + "/linux_{arch}/terraform-provider-aws_v" + recipe.Version + "_x5"
	for _, registry := range []string{"registry.terraform.io", "registry.opentofu.org"} {
		found := false
		for _, f := range recipe.Files {
			found = found || f.To == registry+name
		}
		if !found {
			t.Errorf("no file %s%s", registry, name)
		}
	}
	if flags := recipe.Go[0].LDFlags; !strings.Contains(flags, "ProviderVersion="+recipe.Version) {
		t.Errorf("the provider would not report version %s: %s", recipe.Version, flags)
	}
}
