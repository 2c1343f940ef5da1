package receiver

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// webhook is a payload as Alertmanager 0.28 sends it.
const webhook = `{
  "receiver": "team\\.a", "status": "firing", "version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0,
  "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://alertmanager:9093",
  "alerts": [{
    "status": "firing", "labels": {"alertname": "WebAppDown", "severity": "critical"},
    "annotations": {"summary": "No replica"}, "startsAt": "2026-11-24T10:00:00.5Z", "endsAt": "0001-01-01T00:00:00Z",
    "generatorURL": "http://127.0.0.1:9090/graph", "fingerprint": "c0ffee"
  }]
}`

func post(t *testing.T, url, body string) (status int, answer string) {
	t.Helper()
	resp, err := http.Post(url, "application/json", strings.NewReader(body))
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(text)
}

func TestWhatIsSentIsHandedOut(t *testing.T) {
	var log bytes.Buffer
	s := NewServer(&log)
	at := time.Date(2026, 11, 24, 10, 0, 1, 0, time.UTC)
	s.now = func() time.Time { return at }
	srv := httptest.NewServer(s.Handler())
	defer srv.Close()

	empty, err := Fetch(t.Context(), srv.URL)
	require.NoError(t, err)
	assert.Empty(t, empty)

	for _, name := range []string{"team%20a", "team%2Fb"} {
		status, answer := post(t, srv.URL+"/notify/"+name, webhook)
		require.Equal(t, http.StatusOK, status, answer)
	}
	list, err := Fetch(t.Context(), srv.URL+"/")
	require.NoError(t, err)
	require.Len(t, list, 2)
	assert.Equal(t, "team/b", list[1].Receiver)
	assert.Equal(t, Notification{
		Receiver: "team a", ReceivedAt: at, Status: "firing",
		Alerts: []Alert{{
			Status: "firing", Labels: map[string]string{"alertname": "WebAppDown", "severity": "critical"},
			Annotations: map[string]string{"summary": "No replica"}, StartsAt: time.Date(2026, 11, 24, 10, 0, 0, 5e8, time.UTC),
			Fingerprint: "c0ffee",
		}},
	}, list[0])
	assert.Equal(t, "notification for team a: WebAppDown firing\nnotification for team/b: WebAppDown firing\n", log.String())
}

func TestWhatIsNoNotificationIsRefused(t *testing.T) {
	var log bytes.Buffer
	srv := httptest.NewServer(NewServer(&log).Handler())
	defer srv.Close()
	for name, c := range map[string]struct {
		body   string
		status int
		why    string
	}{
		"no JSON":         {"hello\nworld", http.StatusBadRequest, "invalid character"},
		"another version": {`{"version": "3"}`, http.StatusBadRequest, `"3", not 4`},
		"too large":       {`{"version": "` + strings.Repeat("4", bodySize) + `"}`, http.StatusRequestEntityTooLarge, "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			status, answer := post(t, srv.URL+"/notify/r", c.body)
			assert.Equal(t, c.status, status)
			assert.Contains(t, answer, c.why)
		})
	}
	list, err := Fetch(t.Context(), srv.URL)
	require.NoError(t, err)
	assert.Empty(t, list)
	assert.Equal(t, 3, strings.Count(log.String(), "is refused"))
}

func TestOneNotificationIsOneLine(t *testing.T) {
	var log bytes.Buffer
	srv := httptest.NewServer(NewServer(&log).Handler())
	defer srv.Close()
	status, _ := post(t, srv.URL+"/notify/a%0Ab", webhook)
	require.Equal(t, http.StatusOK, status)
	assert.Equal(t, "notification for a b: WebAppDown firing\n", log.String())
}

func TestTheEarliestGoesFirst(t *testing.T) {
	t.Run("by number", func(t *testing.T) {
		s := NewServer(io.Discard)
		for i := range keepCount + 3 {
			s.keep(kept{Notification{Receiver: fmt.Sprint(i)}, 1})
		}
		assert.Len(t, s.list, keepCount)
		assert.Equal(t, "3", s.list[0].Receiver)
		assert.Equal(t, keepCount, s.size)
	})
	t.Run("by size", func(t *testing.T) {
		s := NewServer(io.Discard)
		for i := range 20 {
			s.keep(kept{Notification{Receiver: fmt.Sprint(i)}, bodySize})
		}
		assert.Len(t, s.list, keepBytes/bodySize)
		assert.Equal(t, "19", s.list[len(s.list)-1].Receiver)
	})
}

func TestFetchSaysWhyItFails(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	_, err := Fetch(t.Context(), srv.URL)
	require.ErrorContains(t, err, "404")
	srv.Close()
	_, err = Fetch(t.Context(), srv.URL)
	require.ErrorContains(t, err, "ask the receiver")
}

func TestCheckPayload(t *testing.T) {
	good := func() Alert {
		return Alert{
			Labels:      map[string]string{"alertname": "Down", "pod": "a"},
			Annotations: map[string]string{"summary": "down", "description": "it is down"},
		}
	}
	for name, c := range map[string]struct {
		change func(*Alert)
		want   []string
	}{
		"nothing":         {func(*Alert) {}, nil},
		"no annotations":  {func(a *Alert) { a.Annotations = nil }, nil},
		"no name":         {func(a *Alert) { delete(a.Labels, "alertname") }, []string{"the label alertname is missing"}},
		"an empty one":    {func(a *Alert) { a.Annotations["summary"] = " " }, []string{"the annotation summary is empty"}},
		"a missing value": {func(a *Alert) { a.Annotations["summary"] = "pod <no value>" }, []string{`the annotation summary was not filled in: "pod <no value>"`}},
		"a broken label": {
			func(a *Alert) { a.Labels["pod"] = "<error expanding template: x>" },
			[]string{`the label pod was not filled in: "<error expanding template: x>"`},
		},
		"more than one": {func(a *Alert) {
			a.Annotations = map[string]string{"b": "", "a": ""}
		}, []string{"the annotation a is empty", "the annotation b is empty"}},
	} {
		t.Run(name, func(t *testing.T) {
			a := good()
			c.change(&a)
			assert.Equal(t, c.want, CheckPayload(a))
		})
	}
}
