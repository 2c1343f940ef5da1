package release

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sandbox-stack/sandbox/internal/event"
)

const kubeconfig = `apiVersion: v1
kind: Config
current-context: one
contexts:
- {name: one, context: {cluster: c, user: u}}
- {name: two, context: {cluster: d, user: u, namespace: other}}
clusters:
- {name: c, cluster: {server: https://127.0.0.1:1}}
- {name: d, cluster: {server: https://127.0.0.1:2}}
users: [{name: u, user: {token: t}}]
`

func TestObjectsWithoutANamespaceGoToTheReleases(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(path, []byte(kubeconfig), 0o600))
	for context, server := range map[string]string{"": "https://127.0.0.1:1", "two": "https://127.0.0.1:2"} {
		c, err := connect(path, context)
		require.NoError(t, err)
		hc, err := c.helm("production", event.Discard)
		require.NoError(t, err)

		getter, ok := hc.RESTClientGetter.(*getter)
		require.True(t, ok)
		namespace, _, err := getter.ToRawKubeConfigLoader().Namespace()
		require.NoError(t, err)
		assert.Equal(t, "production", namespace)
		rest, err := getter.ToRESTConfig()
		require.NoError(t, err)
		assert.Equal(t, server, rest.Host)
	}
}

func TestConnectNeedsAKubeconfig(t *testing.T) {
	_, err := connect(filepath.Join(t.TempDir(), "none"), "")
	require.ErrorContains(t, err, "read kubeconfig")
}

func TestWarningsGoToTheReporter(t *testing.T) {
	var heard listener
	warnings{&heard}.HandleWarningHeader(299, "-", "spec.x is deprecated")
	warnings{&heard}.HandleWarningHeader(199, "-", "not for people")
	assert.Equal(t, []string{"kubernetes: warning: spec.x is deprecated"}, heard.lines)

	log := debugLog(&heard)
	log("creating %d resource(s)", 2)
	assert.Contains(t, heard.text(), "helm: creating 2 resource(s)")

	_, err := hookOutput(&heard)("ns", "pod", "main").Write([]byte("one\r\ntwo"))
	require.NoError(t, err)
	assert.Contains(t, heard.text(), "hook pod/main: one\nhook pod/main: two")
}
