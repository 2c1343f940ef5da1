package render

import (
	"encoding/json"
	"io"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// JSON draws each envelope as one line of JSON, in the form of the recorded
// stream.
type JSON struct{ enc *json.Encoder }

// NewJSON returns a JSON sink on w.
func NewJSON(w io.Writer) *JSON {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return &JSON{enc: enc}
}

// Handle writes one line.
func (j *JSON) Handle(e event.Envelope) error { return j.enc.Encode(e) }

// Close has nothing to end: every line is complete.
func (j *JSON) Close() error { return nil }
