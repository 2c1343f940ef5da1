package receiver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sandbox-stack/sandbox/internal/agent"
)

const (
	pathNotifications = "/notifications"
	// keepCount and keepBytes bound what is kept; the earliest goes first.
	keepCount = 1000
	keepBytes = 32 << 20
	// bodySize bounds one notification.
	bodySize = 4 << 20
)

// Server is the receiver itself. It is safe for concurrent use.
type Server struct {
	log io.Writer
	now func() time.Time

	mu   sync.Mutex
	list []kept
	size int
}

type kept struct {
	Notification
	size int
}

// NewServer returns a receiver that writes a line to log for each notification.
func NewServer(log io.Writer) *Server { return &Server{log: log, now: time.Now} }

// Handler returns what the receiver answers: it takes webhooks of Alertmanager at
// /notify/RECEIVER and hands them out at /notifications.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /notify/{receiver}", s.take)
	mux.HandleFunc("GET "+pathNotifications, s.give)
	mux.HandleFunc("GET "+agent.PathHealth, agent.Healthy)
	return mux
}

func (s *Server) take(w http.ResponseWriter, r *http.Request) {
	n := Notification{Receiver: r.PathValue("receiver"), ReceivedAt: s.now()}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodySize))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		s.refuse(w, n.Receiver, http.StatusRequestEntityTooLarge, fmt.Sprintf("it is larger than %d bytes", tooLarge.Limit))
		return
	case err != nil:
		s.refuse(w, n.Receiver, http.StatusBadRequest, err.Error())
		return
	}
	var payload struct {
		Version string  `json:"version"`
		Status  string  `json:"status"`
		Alerts  []Alert `json:"alerts"`
	}
	if err := json.Unmarshal(body, &payload); err != nil {
		s.refuse(w, n.Receiver, http.StatusBadRequest, err.Error())
		return
	}
	if payload.Version != "4" {
		s.refuse(w, n.Receiver, http.StatusBadRequest, fmt.Sprintf("the version of its format is %q, not 4", payload.Version))
		return
	}
	n.Status, n.Alerts = payload.Status, payload.Alerts
	s.keep(kept{n, len(body)})
	s.say(n)
}

func (s *Server) keep(n kept) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list, s.size = append(s.list, n), s.size+n.size
	gone := 0
	for len(s.list)-gone > keepCount || (s.size > keepBytes && len(s.list)-gone > 1) {
		s.size -= s.list[gone].size
		gone++
	}
	s.list = slices.Delete(s.list, 0, gone)
}

func (s *Server) give(w http.ResponseWriter, _ *http.Request) {
	s.mu.Lock()
	list := make([]Notification, len(s.list))
	for i, n := range s.list {
		list[i] = n.Notification
	}
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(list); err != nil {
		s.line("the notifications could not be handed out: " + err.Error())
	}
}

// refuse answers that a notification can't be taken, and why.
func (s *Server) refuse(w http.ResponseWriter, receiver string, status int, why string) {
	s.line(fmt.Sprintf("a notification for %s is refused: %s", receiver, why))
	http.Error(w, why, status)
}

// say logs a notification in one line.
func (s *Server) say(n Notification) {
	alerts := make([]string, len(n.Alerts))
	for i, a := range n.Alerts {
		alerts[i] = a.Labels["alertname"] + " " + a.Status
	}
	s.line(fmt.Sprintf("notification for %s: %s", n.Receiver, strings.Join(alerts, ", ")))
}

// line writes one line, whatever others have put into the text.
func (s *Server) line(text string) {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, _ = io.WriteString(s.log, text+"\n") // a log that is gone is no reason to lose a notification
}
