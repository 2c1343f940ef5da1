package terraform

import (
	"net/url"
	"os"
	"slices"
	"strings"
)

// passedOn are the variables of the user's environment that the tool gets:
// what it takes to find programs, to write temporary files, and to reach the
// registry through a proxy with its own certificate authority. Everything else
// stays outside, above all AWS_* and TF_*.
var passedOn = []string{
	"PATH", "TMPDIR", "LANG", "LC_ALL", "TZ",
	"SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO",
	"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy",
}

// The credentials that the emulator gets. It takes any.
const (
	fakeKey    = "test"
	fakeSecret = "test"
)

// environment is the whole environment of the tool and of what it starts.
func (m *Module) environment() map[string]string {
	env := map[string]string{}
	noProxy := []string{"127.0.0.1", "localhost", "::1"}
	for _, kv := range m.cfg.Environ {
		k, v, ok := strings.Cut(kv, "=")
		switch {
		case !ok:
		case slices.Contains(passedOn, k):
			env[k] = v
		case strings.EqualFold(k, "NO_PROXY") && v != "":
			noProxy = append(noProxy, v)
		}
	}
	if u, err := url.Parse(m.cfg.Endpoint); err == nil && !slices.Contains(noProxy, u.Hostname()) {
		noProxy = append(noProxy, u.Hostname())
	}
	env["NO_PROXY"] = strings.Join(noProxy, ",")
	env["no_proxy"] = env["NO_PROXY"]

	env["HOME"] = m.paths.home
	env["TF_CLI_CONFIG_FILE"] = m.paths.cliConfig
	env["CHECKPOINT_DISABLE"] = "1"

	env["AWS_ACCESS_KEY_ID"] = fakeKey
	env["AWS_SECRET_ACCESS_KEY"] = fakeSecret
	env["AWS_REGION"] = m.cfg.Region
	env["AWS_DEFAULT_REGION"] = m.cfg.Region
	env["AWS_ENDPOINT_URL"] = m.cfg.Endpoint
	env["AWS_EC2_METADATA_DISABLED"] = "true"
	env["AWS_CONFIG_FILE"] = os.DevNull
	env["AWS_SHARED_CREDENTIALS_FILE"] = os.DevNull
	return env
}
