package render

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// JUnit writes a run as a JUnit XML report when it is closed: a test case for
// each step and for each component's health as it was last known. Beside it,
// another sink draws the run. Where a stream holds many runs, the last is
// reported.
type JUnit struct {
	out  io.WriteCloser
	view event.View
}

// NewJUnit returns a JUnit sink that writes the file at path. The file is
// created, or emptied, at once: a path that can't be written is known before
// the run, and a run that dies leaves no report of an earlier one.
func NewJUnit(path string) (*JUnit, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("create JUnit report: %w", err)
	}
	return &JUnit{out: f}, nil
}

// Handle takes in the envelope.
func (j *JUnit) Handle(e event.Envelope) error {
	j.view.Apply(e)
	return nil
}

// Close writes the report.
func (j *JUnit) Close() error {
	if j.out == nil {
		return nil
	}
	out := j.out
	j.out = nil
	if f, ok := out.(*os.File); ok && j.view.Run == "" {
		// Nothing was run: a report without a test would look like success.
		return errors.Join(out.Close(), os.Remove(f.Name()))
	}
	enc := xml.NewEncoder(out)
	enc.Indent("", "  ")
	_, err := io.WriteString(out, xml.Header)
	err = errors.Join(err, enc.Encode(report(&j.view)))
	if err == nil {
		_, err = io.WriteString(out, "\n")
	}
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("write JUnit report: %w", err)
	}
	return nil
}

// The elements of a report. Times are in seconds.

type testSuites struct {
	XMLName  xml.Name    `xml:"testsuites"`
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Errors   int         `xml:"errors,attr"`
	Skipped  int         `xml:"skipped,attr"`
	Time     string      `xml:"time,attr"`
	Suites   []testSuite `xml:"testsuite"`
}

type testSuite struct {
	Name       string     `xml:"name,attr"`
	Tests      int        `xml:"tests,attr"`
	Failures   int        `xml:"failures,attr"`
	Errors     int        `xml:"errors,attr"`
	Skipped    int        `xml:"skipped,attr"`
	Time       string     `xml:"time,attr"`
	Timestamp  string     `xml:"timestamp,attr,omitempty"`
	Properties []property `xml:"properties>property,omitempty"`
	Cases      []testCase `xml:"testcase"`
}

type property struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type testCase struct {
	Name      string   `xml:"name,attr"`
	Classname string   `xml:"classname,attr"`
	Time      string   `xml:"time,attr"`
	Failure   *verdict `xml:"failure"`
	Error     *verdict `xml:"error"`
	Skipped   *verdict `xml:"skipped"`
	SystemOut string   `xml:"system-out,omitempty"`
}

// verdict is why a case is no success.
type verdict struct {
	Message string `xml:"message,attr,omitempty"`
	Type    string `xml:"type,attr,omitempty"`
	Text    string `xml:",chardata"`
}

func report(v *event.View) testSuites {
	name := strings.TrimSpace("sandbox " + v.Command + " " + v.Stack)
	steps := testSuite{Name: "steps", Time: inSeconds(elapsed(v)), Cases: stepCases(v)}
	health := testSuite{Name: "health", Time: inSeconds(0), Cases: healthCases(v)}
	all := testSuites{Name: xmlText(name), Time: steps.Time}
	for _, s := range []testSuite{steps, health} {
		if !v.Started.IsZero() {
			s.Timestamp = v.Started.UTC().Format("2006-01-02T15:04:05")
		}
		for _, p := range []property{{"stack", v.Stack}, {"command", v.Command}, {"engine", v.Engine}, {"run", v.Run}} {
			if p.Value != "" {
				s.Properties = append(s.Properties, property{p.Name, xmlText(p.Value)})
			}
		}
		for i := range s.Cases {
			s.Cases[i].Classname = xmlText(strings.TrimPrefix(strings.Join([]string{v.Stack, s.Name}, "."), "."))
			s.count(s.Cases[i])
		}
		all.Tests, all.Failures = all.Tests+s.Tests, all.Failures+s.Failures
		all.Errors, all.Skipped = all.Errors+s.Errors, all.Skipped+s.Skipped
		all.Suites = append(all.Suites, s)
	}
	return all
}

func (s *testSuite) count(c testCase) {
	s.Tests++
	switch {
	case c.Failure != nil:
		s.Failures++
	case c.Error != nil:
		s.Errors++
	case c.Skipped != nil:
		s.Skipped++
	}
}

// elapsed is how long the run took, or has been going on.
func elapsed(v *event.View) time.Duration {
	if v.Result != nil {
		return v.Result.Elapsed
	}
	return v.Now.Sub(v.Started)
}

func stepCases(v *event.View) []testCase {
	var cases []testCase
	failed := false
	for _, s := range v.Steps {
		c := testCase{Name: xmlText(s.ID), Time: inSeconds(s.Elapsed)}
		switch s.Outcome {
		case event.Done, event.Unchanged:
		case event.Failed:
			c.Failure = whyFailed(v, s)
			c.SystemOut = stepLog(s)
			failed = true
		case event.Off, event.Skipped:
			c.Skipped = &verdict{Message: xmlText(strings.TrimRight(string(s.Outcome)+": "+s.Note, ": "))}
		case event.Canceled:
			c.Error = &verdict{Message: "interrupted", Type: string(event.Canceled), Text: xmlText(blockers(s))}
		default:
			c.Error = unfinished(s)
		}
		if d, is := drillOf(v, s); is {
			c.SystemOut = xmlText(strings.Trim(drillLog(d)+"\n"+c.SystemOut, "\n"))
		}
		cases = append(cases, c)
	}
	if v.Result != nil && v.Result.Error != nil && !failed {
		p := *v.Result.Error
		cases = append(cases, testCase{
			Name: "run", Time: inSeconds(elapsed(v)),
			Failure: &verdict{Message: xmlText(p.What), Type: xmlText(p.Code), Text: xmlText(problemText(p))},
		})
	}
	return cases
}

// whyFailed says why a step failed: by its error or else by what it was waiting
// for, and of a drill which link is broken.
func whyFailed(v *event.View, s event.StepView) *verdict {
	p := event.Problem{Code: string(event.Failed), What: "step " + s.ID + " failed", Why: s.Note}
	if s.Error != nil {
		p = *s.Error
	}
	if b := blockers(s); b != "" && p.Why == "" {
		p.Why = b
	}
	if d, is := drillOf(v, s); is && d.Link != "" {
		p.Why = "broken link: " + string(d.Link) + "\n" + strings.TrimPrefix(p.Why, string(d.Link)+": ")
	}
	return &verdict{Message: xmlText(p.What), Type: xmlText(p.Code), Text: xmlText(problemText(p))}
}

// unfinished is what to say of a step that has no end in the stream.
func unfinished(s event.StepView) *verdict {
	if s.Started.IsZero() {
		return &verdict{Message: "not started", Type: "unfinished"}
	}
	return &verdict{Message: "not finished", Type: "unfinished", Text: xmlText(blockers(s))}
}

// blockers says what a step was last waiting for.
func blockers(s event.StepView) string {
	if s.Progress == nil || len(s.Progress.Blockers) == 0 {
		return ""
	}
	return "blocked by " + strings.Join(s.Progress.Blockers, "\nblocked by ")
}

// problemText is an error without what happened, which is the message.
func problemText(p event.Problem) string {
	parts := []string{p.Why}
	if len(p.Log) > 0 {
		parts = append(parts, strings.Join(p.Log, "\n"))
	}
	if p.Try != "" {
		parts = append(parts, "Try: "+p.Try)
	}
	return strings.TrimLeft(strings.Join(parts, "\n"), "\n")
}

func stepLog(s event.StepView) string {
	lines := make([]string, len(s.Log))
	for i, l := range s.Log {
		lines[i] = l.Line
		if l.Source != "" {
			lines[i] = l.Source + ": " + l.Line
		}
	}
	return xmlText(strings.Join(lines, "\n"))
}

func healthCases(v *event.View) []testCase {
	var cases []testCase
	for _, h := range v.Components() {
		c := testCase{Name: xmlText(h.Component), Time: inSeconds(0)}
		message := strings.TrimRight(string(h.State)+": "+cause(h), ": ")
		switch h.State {
		case event.StateOK:
		case event.StateOff:
			c.Skipped = &verdict{Message: xmlText(message)}
		default:
			body := cause(h)
			if blamed, ok := v.Health[h.Blames]; ok && h.Blames != "" {
				body += fmt.Sprintf("\n%s is %s", blamed.Component, strings.TrimRight(string(blamed.State)+": "+cause(blamed), ": "))
			}
			if h.Try != "" {
				body += "\nTry: " + h.Try
			}
			c.Failure = &verdict{Message: xmlText(message), Type: xmlText(string(h.State)), Text: xmlText(strings.TrimLeft(body, "\n"))}
		}
		cases = append(cases, c)
	}
	return cases
}

// inSeconds writes d as reports do.
func inSeconds(d time.Duration) string { return fmt.Sprintf("%.3f", max(0, d).Seconds()) }

// xmlText returns s without the characters that XML can't hold, however escaped.
func xmlText(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t', r == '\n', r == '\r',
			r >= 0x20 && r <= 0xd7ff, r >= 0xe000 && r <= 0xfffd, r >= 0x10000 && r <= 0x10ffff:
			return r
		}
		return -1
	}, strings.ToValidUTF8(s, "\ufffd"))
}
