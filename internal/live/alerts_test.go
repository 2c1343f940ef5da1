package live

import (
	"context"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// prometheus is one that answers what a test wants.
type prometheus struct {
	alerts []event.AlertChanged
	usage  map[Pod]Usage
	err    error
}

func (p *prometheus) Alerts(context.Context) ([]event.AlertChanged, error) { return p.alerts, p.err }

func (p *prometheus) Usage(context.Context) (map[Pod]Usage, error) { return p.usage, p.err }

func TestAlertsAreToldAsTheyChange(t *testing.T) {
	r, p := &recorder{}, &prometheus{}
	l := newLive(Sources{Prometheus: p}, r.emit)
	look := l.alerts()
	rule := event.AlertChanged{Rule: "WebAppDown", State: "inactive", Labels: map[string]string{"severity": "critical"}}
	alert := event.AlertChanged{
		Rule: "WebAppDown", State: "pending", Labels: map[string]string{"severity": "critical", "pod": "a"}, Value: "1", Since: time.Unix(1, 0),
	}
	firing, over := alert, alert
	firing.State = "firing"
	over.State, over.Value = "inactive", ""
	for _, step := range []struct {
		now, want []event.AlertChanged
	}{
		{[]event.AlertChanged{rule}, []event.AlertChanged{rule}},
		{[]event.AlertChanged{rule}, nil},
		{[]event.AlertChanged{alert}, []event.AlertChanged{alert}},
		{[]event.AlertChanged{firing}, []event.AlertChanged{firing}},
		{[]event.AlertChanged{rule}, []event.AlertChanged{rule, over}},
		{[]event.AlertChanged{rule}, nil},
	} {
		p.alerts = step.now
		if err := look(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := take[event.AlertChanged](r)
		for i := range got {
			if got[i].Value == "" && got[i].Labels["pod"] != "" {
				got[i].Since = over.Since // when it was noticed
			}
		}
		if !reflect.DeepEqual(got, step.want) {
			t.Errorf("of %+v\nsaid %+v\nwant %+v", step.now, got, step.want)
		}
	}
}

func TestAlertmanagerIsToldWhenItChanges(t *testing.T) {
	answers := map[string]string{
		"/api/v2/alerts": `[{"status":{"state":"active","inhibitedBy":[],"silencedBy":[]}},
			{"status":{"state":"suppressed","inhibitedBy":["x"]}},{"status":{"state":"suppressed","silencedBy":["y"]}}]`,
		"/api/v2/silences":  `[{"status":{"state":"active"}},{"status":{"state":"expired"}}]`,
		"/api/v2/receivers": `[{"name":"none"}]`,
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		answer, ok := answers[req.URL.Path]
		if !ok {
			http.Error(w, "gone", http.StatusBadGateway)
			return
		}
		_, _ = w.Write([]byte(answer))
	}))
	defer server.Close()
	r := &recorder{}
	l := newLive(Sources{Alertmanager: func(context.Context) (string, error) { return server.URL, nil }}, r.emit)
	look := l.alertmanager()
	for range 2 {
		if err := look(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	want := []event.AlertmanagerChanged{{Active: 1, Inhibited: 1, Silences: 1, Receivers: []string{"none"}}}
	if got := take[event.AlertmanagerChanged](r); !reflect.DeepEqual(got, want) {
		t.Errorf("said %+v, want %+v once", got, want)
	}
	delete(answers, "/api/v2/silences")
	if err := look(t.Context()); err == nil {
		t.Error("an answer of 502 is no error")
	}
}
