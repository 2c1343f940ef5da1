package terraform

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	tfjson "github.com/hashicorp/terraform-json"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// message is one line of the tool's JSON output, as far as it is used here.
type message struct {
	Level      string             `json:"@level"`
	Message    string             `json:"@message"`
	Type       string             `json:"type"`
	Code       string             `json:"message_code"`
	Diagnostic *tfjson.Diagnostic `json:"diagnostic"`
	Change     *struct {
		Resource resource `json:"resource"`
		Action   string   `json:"action"`
	} `json:"change"`
	Changes *struct {
		Add       int    `json:"add"`
		Change    int    `json:"change"`
		Remove    int    `json:"remove"`
		Operation string `json:"operation"`
	} `json:"changes"`
	Hook *struct {
		Resource resource `json:"resource"`
		Action   string   `json:"action"`
	} `json:"hook"`
	Outputs map[string]struct {
		Action string `json:"action"`
	} `json:"outputs"`
}

type resource struct {
	Addr string `json:"addr"`
	Type string `json:"resource_type"`
}

// Change is one planned change, or one difference between the state and what
// the emulator holds.
type Change struct {
	Address string `json:"address"`
	Type    string `json:"type"`
	// Action is the tool's word: create, update, delete, replace, read, noop.
	Action string `json:"action"`
	// Attributes are the arguments and attributes that differ, where known.
	Attributes []string `json:"attributes,omitempty"`
}

// summary counts changes, a replacement as one added and one destroyed.
type summary struct{ added, changed, destroyed int }

func (s summary) total() int { return s.added + s.changed + s.destroyed }

// stream turns the tool's JSON output into progress and log lines, and keeps
// what the caller needs of it. It is an io.Writer for the tool's stdout.
type stream struct {
	rep    event.Reporter
	source string // of log lines: the tool's name
	phase  string // what to say while no resource is being worked on
	next   string // the phase that begins once the plan is made

	mu      sync.Mutex
	partial []byte
	start   time.Time
	running []operation
	done    int // finished resource operations
	total   int // planned ones; 0 while unknown

	planned []Change
	drifted []Change
	sum     summary             // of the plan, then of what was applied
	outputs bool                // an output changes
	failed  []string            // addresses of resources that failed
	diags   []tfjson.Diagnostic // errors
	warned  map[string]bool
	tail    []string
	// conflicts are groups of endpoint names that mean the same service.
	conflicts [][]string
}

// changes reports whether the plan has anything to do.
func (s *stream) changes() bool { return len(s.planned) > 0 || s.outputs || s.sum.total() > 0 }

type operation struct {
	addr, doing string
	start       time.Time
}

// tailLines is how many lines of output a fault carries.
const tailLines = 20

func newStream(rep event.Reporter, source, phase string) *stream {
	return &stream{rep: rep, source: source, phase: phase, start: time.Now(), warned: map[string]bool{}}
}

// follow reports the longest-running operation every few seconds until the
// returned function is called.
func (s *stream) follow() (stop func()) {
	s.tick()
	return every(reportEvery, s.tick)
}

// Write takes output in pieces of any size. It does not fail.
func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.partial = append(s.partial, p...)
	for {
		line, rest, ok := bytes.Cut(s.partial, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		s.line(line)
		s.partial = append(s.partial[:0], rest...)
	}
}

// terminalCodes are what the tool paints with even when told not to.
var terminalCodes = regexp.MustCompile(`\x1b\[[0-9;]*m`)

func (s *stream) line(raw []byte) {
	var msg message
	if err := json.Unmarshal(raw, &msg); err != nil || msg.Message == "" && msg.Type == "" {
		// Some notes of init are plain text in between.
		s.log(string(terminalCodes.ReplaceAll(raw, nil)))
		return
	}
	switch msg.Type {
	case "version", "apply_progress":
		// Followed by own means, or not worth a line.
	case "init_output":
		if !slices.Contains(advice, msg.Code) {
			s.log(msg.Message)
		}
	case "outputs":
		for _, o := range msg.Outputs {
			s.outputs = s.outputs || o.Action != "" && o.Action != "noop"
		}
	case "diagnostic":
		s.diagnostic(msg)
	case "planned_change", "resource_drift":
		s.change(msg)
	case "change_summary":
		if msg.Changes != nil {
			s.sum = summary{msg.Changes.Add, msg.Changes.Change, msg.Changes.Remove}
			if msg.Changes.Operation == "plan" {
				s.total = s.sum.total()
				s.phase, s.start = cmp.Or(s.next, s.phase), time.Now()
			}
		}
		s.log(msg.Message)
	case "apply_start", "apply_complete", "apply_errored", "refresh_start", "refresh_complete":
		s.hook(msg)
	default:
		s.log(msg.Message)
	}
}

func (s *stream) change(msg message) {
	if msg.Change == nil {
		return
	}
	c := Change{Address: msg.Change.Resource.Addr, Type: msg.Change.Resource.Type, Action: msg.Change.Action}
	if msg.Type == "resource_drift" {
		s.drifted = append(s.drifted, c)
		return
	}
	s.planned = append(s.planned, c)
}

func (s *stream) hook(msg message) {
	if msg.Hook == nil {
		return
	}
	addr := msg.Hook.Resource.Addr
	if msg.Type == "apply_start" || msg.Type == "refresh_start" {
		s.running = append(s.running, operation{addr: addr, doing: doing(msg.Type, msg.Hook.Action), start: time.Now()})
	} else {
		for i, op := range s.running {
			if op.addr == addr {
				s.running = append(s.running[:i], s.running[i+1:]...)
				break
			}
		}
	}
	// Reading a data source is no change and not part of the total.
	counts := msg.Hook.Action != "read"
	switch msg.Type {
	case "apply_complete":
		if counts {
			s.done++
		}
		s.log(msg.Message)
	case "apply_errored":
		s.failed = append(s.failed, addr)
		s.log(msg.Message)
	}
	s.progress()
}

// doing is the word for a running operation.
func doing(kind, action string) string {
	if kind == "refresh_start" {
		return "refreshing"
	}
	switch action {
	case "create":
		return "creating"
	case "update":
		return "updating"
	case "delete":
		return "destroying"
	case "read":
		return "reading"
	}
	return action
}

// diagnostic keeps errors for the fault. A warning becomes a log line once,
// except for those about endpoints that are set by two of their names: the user
// cannot act on them, and the next override avoids them.
func (s *stream) diagnostic(msg message) {
	d := msg.Diagnostic
	if d == nil {
		return
	}
	group := conflict(*d)
	if group != nil {
		s.conflicts = append(s.conflicts, group)
	}
	text := msg.Message
	if why := reason(*d); why != "" {
		text += ": " + why
	}
	if d.Severity == tfjson.DiagnosticSeverityError {
		s.diags = append(s.diags, *d)
		s.log(text)
		return
	}
	if group == nil && !slices.Contains(pointless, d.Summary) && !s.warned[text] {
		s.warned[text] = true
		s.log(text)
	}
}

// advice are the messages of init that tell people what to do next with their
// own folder.
var advice = []string{"output_init_success_cli_message", "lock_info", "dependencies_lock_changes_info"}

// pointless are warnings that are not true of, or not meant for, the user's own
// files: the first is said of every provider block in a child module that an
// override was merged into, though its arguments are used; the second is about
// other platforms' checksums in the private lock file.
var pointless = []string{"Redundant empty provider block", "Incomplete lock file information for providers"}

// endpointName finds the names in the AWS provider's complaint that several
// name one service.
var endpointName = regexp.MustCompile(`"endpoints\[\d+\]\.(\w+)"`)

// conflict returns the endpoint names of which only one should be set, or nil
// where the diagnostic is about something else.
func conflict(d tfjson.Diagnostic) []string {
	found := endpointName.FindAllStringSubmatch(d.Detail, -1)
	if len(found) < 2 {
		return nil
	}
	names := make([]string, len(found))
	for i, f := range found {
		names[i] = f[1]
	}
	return names
}

func (s *stream) log(text string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		s.rep.Log(s.source, line)
		if s.tail = append(s.tail, line); len(s.tail) > tailLines {
			s.tail = s.tail[1:]
		}
	}
}

func (s *stream) tick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.progress()
}

// progress reports the operation that has been running for longest.
func (s *stream) progress() {
	p := event.Progress{Text: s.phase, Done: int64(s.done), Total: int64(s.total)}
	if s.total > 0 {
		p.Unit = "resources"
	}
	since := s.start
	if len(s.running) > 0 {
		op := s.running[0]
		p.Text, since = fmt.Sprintf("%s: %s", op.addr, op.doing), op.start
	}
	if d := time.Since(since); d >= time.Second {
		p.Text += " " + seconds(d)
	}
	s.rep.Progress(p)
}

// finish takes the last line, should it lack its end.
func (s *stream) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.partial) > 0 {
		s.line(s.partial)
		s.partial = nil
	}
}

func lastLines(text string) []string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[max(0, len(lines)-tailLines):]
}
