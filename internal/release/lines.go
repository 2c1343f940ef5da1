package release

import (
	"bytes"
	"io"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// hookOutput gives Helm a writer for the log of each of a chart's hooks.
func hookOutput(rep event.Reporter) func(namespace, pod, container string) io.Writer {
	return func(_, pod, container string) io.Writer {
		return lineWriter{rep: rep, source: "hook " + pod + "/" + container}
	}
}

// lineWriter logs what is written to it, line by line. Helm copies a log in
// large pieces and never closes the writer, so a line that falls between two
// pieces is logged as two rather than kept back.
type lineWriter struct {
	rep    event.Reporter
	source string
}

func (w lineWriter) Write(p []byte) (int, error) {
	for line := range bytes.Lines(p) {
		w.rep.Log(w.source, string(bytes.TrimRight(line, "\r\n")))
	}
	return len(p), nil
}
