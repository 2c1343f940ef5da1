package terraform

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite golden files")

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; run with -update if that is right. Got:\n%s", name, got)
	}
}

var testSchema = &providerInfo{
	Address: "registry.terraform.io/hashicorp/aws", Version: "6.34.0",
	Endpoints: []string{"iam", "s3", "sqs"},
	Arguments: []string{
		"access_key", "secret_key", "token", "profile", "region", "max_retries", "s3_use_path_style", "skip_credentials_validation",
		"skip_metadata_api_check", "skip_requesting_account_id", "allowed_account_ids", "http_proxy",
	},
}

const leakyTree = `
terraform {
  required_providers {
    aws    = { source = "hashicorp/aws", version = ">= 5.0" }
    amz    = { source = "registry.terraform.io/hashicorp/aws" }
    random = { source = "hashicorp/random" }
  }
  backend "s3" {}
}
provider "aws" {
  region  = "eu-west-1"
  profile = "production"
}
provider "aws" {
  alias = "nowhere"
}
provider "amz" {
  alias = "west"
  endpoints {
    s3 = "https://s3.amazonaws.com"
  }
}
provider "random" {}
module "child" {
  source = "./child"
}
module "quiet" {
  source = "./quiet"
}
`

func TestOverridesCoverEveryConfiguration(t *testing.T) {
	m := module(t, map[string]string{
		"main.tf":        leakyTree,
		"child/child.tf": "provider \"aws\" {\n  alias  = \"own\"\n  region = \"us-west-2\"\n}\nresource \"aws_s3_bucket\" \"b\" {\n  provider = aws.own\n}\n",
		"quiet/quiet.tf": "resource \"aws_s3_bucket\" \"b\" {}\n",
	})
	m.paths.state = "/state/terraform.tfstate"
	src, err := m.readSource("terraform")
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	got := map[string]*override{}
	for i, f := range src.folders {
		got[f.dir] = m.overrideFor(f, i == 0, testSchema)
	}
	data, err := json.MarshalIndent(got, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "override.golden.json", string(data)+"\n")
}

func TestOverrideNames(t *testing.T) {
	cases := []struct {
		name, source string
		want         []string
	}{
		{"implied by a resource", "resource \"aws_s3_bucket\" \"b\" {}\n", []string{"aws."}},
		{"used by a child only", "module \"c\" {\n  source = \"./c\"\n}\n", []string{"aws."}},
		{"under another name", "terraform {\n  required_providers {\n    amz = { source = \"hashicorp/aws\" }\n  }\n}\nresource \"amz_x\" \"x\" {}\n", []string{"amz."}},
		{
			"under another name and implied", "terraform {\n  required_providers {\n    amz = { source = \"hashicorp/aws\" }\n  }\n}\nresource \"aws_x\" \"x\" {}\n",
			[]string{"amz.", "aws."},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := module(t, map[string]string{"main.tf": c.source, "c/c.tf": "resource \"aws_s3_bucket\" \"b\" {}\n"})
			src, err := m.readSource("terraform")
			if err != nil {
				t.Fatal(err)
			}
			defer src.Close()
			if !usesAWS(src.folders) {
				t.Error("the use of AWS goes unseen")
			}
			var names []string
			for _, p := range src.folders[0].awsConfigurations(true) {
				names = append(names, p.name+"."+p.alias)
			}
			if strings.Join(names, " ") != strings.Join(c.want, " ") {
				t.Errorf("configurations = %v, want %v", names, c.want)
			}
		})
	}
}

func TestModuleWithoutAWSGetsTheBackendOnly(t *testing.T) {
	m := module(t, map[string]string{"main.tf": "resource \"terraform_data\" \"x\" {}\n"})
	src, err := m.readSource("terraform")
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	if usesAWS(src.folders) {
		t.Error("the module is said to use AWS")
	}
	if o := m.overrideFor(src.folders[0], true, nil); o == nil || o.Provider != nil || o.Terraform["backend"] == nil {
		t.Errorf("override = %+v", o)
	}
	if o := m.overrideFor(src.folders[0], false, nil); o != nil {
		t.Errorf("override of a child = %+v", o)
	}
}

func TestEnvironmentIsAllowListed(t *testing.T) {
	m := module(t, map[string]string{"main.tf": ""}, func(c *Config) {
		c.Endpoint, c.Region = "http://emulator.test:4566", "eu-north-1"
		c.Environ = []string{
			"PATH=/bin", "HOME=/home/user", "AWS_ACCESS_KEY_ID=AKIAREAL", "AWS_SESSION_TOKEN=real", "AWS_PROFILE=prod",
			"AWS_ENDPOINT_URL_S3=https://s3.amazonaws.com", "TF_VAR_name=x", "TF_CLI_ARGS=-destroy", "TF_TOKEN_app_terraform_io=secret",
			"KUBECONFIG=/home/user/.kube/config", "SSH_AUTH_SOCK=/run/agent", "HTTPS_PROXY=http://proxy.test:3128", "no_proxy=corp.test",
			"SSL_CERT_FILE=/etc/ca.pem", "broken",
		}
	})
	want := map[string]string{
		"PATH": "/bin", "HTTPS_PROXY": "http://proxy.test:3128", "SSL_CERT_FILE": "/etc/ca.pem",
		"NO_PROXY": "127.0.0.1,localhost,::1,corp.test,emulator.test", "no_proxy": "127.0.0.1,localhost,::1,corp.test,emulator.test",
		"HOME": m.paths.home, "TF_CLI_CONFIG_FILE": m.paths.cliConfig, "CHECKPOINT_DISABLE": "1",
		"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "eu-north-1", "AWS_DEFAULT_REGION": "eu-north-1",
		"AWS_ENDPOINT_URL": "http://emulator.test:4566", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	}
	got := m.environment()
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s = %q, want %q", k, got[k], v)
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok {
			t.Errorf("%s=%s gets through", k, got[k])
		}
	}
}
