package terraform

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

func TestMirror(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{
		"registry.terraform.io/hashicorp/aws/6.34.0/" + platform + "/terraform-provider-aws_v6.34.0_x5": "",
		"registry.terraform.io/hashicorp/random/terraform-provider-random_3.7.2_" + platform + ".zip":   "",
		"registry.terraform.io/hashicorp/null/3.2.4/plan9_mips/terraform-provider-null":                 "",
		"registry.terraform.io/hashicorp/tls/terraform-provider-tls_4.0.0_plan9_mips.zip":               "",
		"registry.terraform.io/hashicorp/local/2.5.0/" + platform + "/terraform-provider-local_v2.5.0":  "",
		"registry.terraform.io/hashicorp/local/2.6.0/" + platform + "/terraform-provider-local_v2.6.0":  "",
		"registry.terraform.io/hashicorp/README":                                                        "",
	})
	have, err := readMirror(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"registry.terraform.io/hashicorp/aws", "registry.terraform.io/hashicorp/local", "registry.terraform.io/hashicorp/random"}
	if got := sortedKeys(have); !slices.Equal(got, want) {
		t.Fatalf("mirror has %v", got)
	}
	addrs, notes := have.usable(map[string][]string{
		"registry.terraform.io/hashicorp/aws":   {"~> 5.0"},
		"registry.terraform.io/hashicorp/local": {"< 2.6", ">= 2.0"},
	})
	if !slices.Equal(addrs, want[1:]) {
		t.Errorf("usable = %v", addrs)
	}
	if len(notes) != 1 || !strings.Contains(notes[0], "hashicorp/aws 6.34.0, but the module wants ~> 5.0") {
		t.Errorf("notes = %v", notes)
	}

	for _, missing := range []string{"", filepath.Join(dir, "none")} {
		if have, err := readMirror(missing); err != nil || len(have) != 0 {
			t.Errorf("readMirror(%q) = %v, %v", missing, have, err)
		}
	}
}

func TestCLIConfig(t *testing.T) {
	golden(t, "cli-mirror.golden.tfrc", string(cliConfig("/cache/it's ${x}", []string{"registry.terraform.io/hashicorp/aws"}, "/cache/plugins")))
	golden(t, "cli-direct.golden.tfrc", string(cliConfig("", nil, "/cache/plugins")))
}

const userLock = `# kept by hand
provider "registry.terraform.io/hashicorp/aws" {
  version     = "6.20.0"
  constraints = ">= 5.0.0"
  hashes = [
    "h1:aaa=",
    "zh:bbb",
  ]
}

provider "registry.terraform.io/hashicorp/random" {
  version = "3.7.2"
  hashes  = ["h1:ccc="]
}
`

func TestSourceLockLeavesOutWhatTheMirrorServes(t *testing.T) {
	fsys := fstest.MapFS{"sub/" + lockName: {Data: []byte(userLock)}}
	lock, dropped, err := sourceLock(fsys, "sub", []string{"registry.terraform.io/hashicorp/aws"})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(dropped, []string{"registry.terraform.io/hashicorp/aws"}) || strings.Contains(string(lock), "6.20.0") ||
		!strings.Contains(string(lock), "3.7.2") {
		t.Errorf("dropped %v, lock:\n%s", dropped, lock)
	}
	if lock, dropped, err := sourceLock(fsys, "other", nil); lock != nil || dropped != nil || err != nil {
		t.Errorf("without a lock file: %q, %v, %v", lock, dropped, err)
	}
	bad := fstest.MapFS{lockName: {Data: []byte("provider {")}}
	if _, _, err := sourceLock(bad, ".", nil); err == nil {
		t.Error("a broken lock file is taken")
	}
}

func TestReadLock(t *testing.T) {
	m := module(t, map[string]string{"main.tf": ""})
	if list, err := m.readLock(); list != nil || err != nil {
		t.Errorf("without a lock file: %v, %v", list, err)
	}
	write(t, m.paths.run, map[string]string{lockName: userLock})
	list, err := m.readLock()
	if err != nil || len(list) != 2 {
		t.Fatalf("list = %v, %v", list, err)
	}
	if l := list[0]; l.Address != "registry.terraform.io/hashicorp/aws" || l.Version != "6.20.0" || !slices.Equal(l.Hashes, []string{"h1:aaa=", "zh:bbb"}) {
		t.Errorf("first = %+v", l)
	}
	if m.installed(list) {
		t.Error("providers that are not there count as installed")
	}
	for _, l := range list {
		write(t, m.paths.run, map[string]string{filepath.Join(".terraform/providers", l.Address, l.Version, platform, "bin"): ""})
	}
	if !m.installed(list) {
		t.Error("providers that are there do not count as installed")
	}
}

func TestParseSchema(t *testing.T) {
	const addr = "registry.terraform.io/hashicorp/aws"
	out := `{"format_version":"1.0","provider_schemas":{
	  "registry.terraform.io/a/first":{"provider":{"version":0,"block":{"attributes":{"x":{"deep":[{},[1,2]]}}}},"resource_schemas":{"r":{}}},
	  "` + addr + `":{"provider":{"version":0,"block":{"attributes":{"region":{},"access_key":{}},
	    "block_types":{"assume_role":{"block":{}},"endpoints":{"nesting_mode":"set","block":{"attributes":{"sqs":{},"s3":{}}}}}}},
	    "resource_schemas":{"aws_x":{"version":0}}}}}`
	info, err := parseSchema(strings.NewReader(out), addr)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(info.Endpoints, []string{"s3", "sqs"}) || !slices.Equal(info.Arguments, []string{"access_key", "region"}) {
		t.Errorf("info = %+v", info)
	}
	for name, broken := range map[string]string{
		"cut off": out[:200], "not there": `{"provider_schemas":{}}`, "no object": `[]`, "empty": "",
		"no endpoints": `{"provider_schemas":{"` + addr + `":{"provider":{"block":{}}}}}`,
	} {
		if info, err := parseSchema(strings.NewReader(broken), addr); err == nil {
			t.Errorf("%s: %+v", name, info)
		}
	}
}

func TestSchemaKeyTellsBuildsApart(t *testing.T) {
	a := locked{Address: "x/y/aws", Version: "6.0.0", Hashes: []string{"h1:a"}}
	b := a
	b.Hashes = []string{"h1:b"}
	if schemaKey(a) == schemaKey(b) {
		t.Error("two builds of one version share their endpoints")
	}
}

func TestProviderSource(t *testing.T) {
	for in, want := range map[string]string{
		"aws": "hashicorp/aws", "Hashicorp/AWS": "hashicorp/aws", "registry.terraform.io/hashicorp/aws": "hashicorp/aws",
		"registry.opentofu.org/hashicorp/aws": "hashicorp/aws", "example.com/x/y": "example.com/x/y",
		"terraform": builtinSource, "terraform.io/builtin/terraform": builtinSource,
	} {
		if got := providerSource(in); got != want {
			t.Errorf("providerSource(%q) = %q, want %q", in, got, want)
		}
	}
}

// A provider that was rebuilt in the mirror must not fail on its old checksum.
func TestInitSelectsMirroredProvidersAnew(t *testing.T) {
	m := module(t, map[string]string{"main.tf": ""})
	if err := m.unlockCopy([]string{"registry.terraform.io/hashicorp/aws"}); err != nil {
		t.Errorf("without a lock file: %v", err)
	}
	write(t, m.paths.run, map[string]string{lockName: userLock})
	if err := m.unlockCopy([]string{"registry.terraform.io/hashicorp/aws"}); err != nil {
		t.Fatal(err)
	}
	if list, err := m.readLock(); err != nil || len(list) != 1 || list[0].Version != "3.7.2" {
		t.Errorf("lock = %+v, %v", list, err)
	}
}
