package observe

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/charmbracelet/x/exp/golden"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

const userRouting = `
global: {resolve_timeout: 10m}
templates: ["templates/*.tmpl"]
route:
  receiver: team
  group_by: [alertname]
  routes:
    - {receiver: nobody, matchers: [severity="info"], group_wait: 1m}
    - {receiver: pager, matchers: [severity="critical"], group_interval: 2m, continue: true}
inhibit_rules:
  - {source_matchers: [severity="critical"], target_matchers: [severity="warning"]}
receivers:
  - name: nobody
  - name: team
    email_configs: [{to: team@example.com, send_resolved: true}]
  - name: pager
    webhook_configs: [{url: "http://pager.example.com/"}]
`

// userConfig writes a configuration with a template beside it.
func userConfig(t *testing.T, text string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "templates"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "templates", "mail.tmpl"), []byte(`{{ define "x" }}x{{ end }}`), 0o600))
	path := filepath.Join(dir, "alertmanager.yml")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

func TestAlertmanagerConfig(t *testing.T) {
	drill := &DrillReceiver{URL: "http://drill:9099/notify", Compress: 20}
	for name, cfg := range map[string]AlertmanagerConfig{
		"quiet":           {},
		"drill":           {Drill: drill},
		"user":            {Config: userConfig(t, userRouting)},
		"user and drill":  {Config: userConfig(t, userRouting), Drill: drill},
		"as it is":        {Config: userConfig(t, userRouting), Drill: &DrillReceiver{URL: drill.URL, Compress: 1}},
		"no time of root": {Config: userConfig(t, "route: {receiver: a}\nreceivers: [{name: a, slack_configs: [{channel: x}]}]\n"), Drill: drill},
	} {
		t.Run(name, func(t *testing.T) {
			files, err := NewAlertmanager(nil, cfg).files()
			require.NoError(t, err)
			golden.RequireEqual(t, files[amFile])
			if cfg.Config != "" && name != "no time of root" {
				assert.Contains(t, string(files["templates/01-mail.tmpl"]), "define")
			}
		})
	}
}

func TestAlertmanagerConfigThatIsWrong(t *testing.T) {
	for name, text := range map[string]string{
		"no YAML":          "route: [",
		"foreign template": "templates: [../x.tmpl]\nroute: {receiver: a}\nreceivers: [{name: a}]\n",
		"no route":         "receivers: [{name: a}]\n",
		"a wrong time":     "route: {receiver: a, group_wait: soon}\nreceivers: [{name: a}]\n",
	} {
		cfg := AlertmanagerConfig{Config: userConfig(t, text), Drill: &DrillReceiver{URL: "http://drill", Compress: 20}}
		_, err := NewAlertmanager(nil, cfg).files()
		assert.Equal(t, fault.Invalid, fault.CodeOf(err), "%s: %v", name, err)
	}
	_, err := NewAlertmanager(nil, AlertmanagerConfig{Config: filepath.Join(t.TempDir(), "none")}).files()
	assert.Equal(t, fault.Invalid, fault.CodeOf(err))
}

func TestNotifying(t *testing.T) {
	names, err := NewAlertmanager(nil, AlertmanagerConfig{Config: userConfig(t, userRouting)}).Notifying()
	require.NoError(t, err)
	assert.Equal(t, []string{"pager", "team"}, names)
	names, err = NewAlertmanager(nil, AlertmanagerConfig{}).Notifying()
	require.NoError(t, err)
	assert.Equal(t, []string{noReceiver}, names)
}

func TestRouteTimes(t *testing.T) {
	wait, interval, err := NewAlertmanager(nil, AlertmanagerConfig{Config: userConfig(t, userRouting)}).RouteTimes()
	require.NoError(t, err)
	assert.Equal(t, []time.Duration{time.Minute, 5 * time.Minute}, []time.Duration{wait, interval}, "the longest of all routes, and Alertmanager's own defaults")
	wait, interval, err = NewAlertmanager(nil, AlertmanagerConfig{}).RouteTimes()
	require.NoError(t, err)
	assert.Equal(t, []time.Duration{0, time.Second}, []time.Duration{wait, interval})
}
