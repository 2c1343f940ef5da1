package tui

import (
	"errors"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// recording is the run that the frames are drawn from: web-app as it really came
// up, and lost its queue behind Terraform's back, by
//
//	sandbox up web-app
//	sandbox events -o json --for 200s
//
// Only the golden frames depend on it.
const recording = "testdata/run.jsonl"

type envelope = event.Envelope

func eachEnvelope(path string, do func(envelope) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	for e, err := range event.Read(f) {
		if err == nil {
			err = do(e)
		}
		if err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return f.Close()
}

// replay feeds a recording.
func replay(t testing.TB, path string) *Feed {
	t.Helper()
	feed := NewFeed()
	require.NoError(t, eachEnvelope(path, feed.Handle))
	return feed
}
