package event

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
)

// maxRecord is the longest line Read takes, in bytes.
const maxRecord = 16 << 20

// File is a Sink that appends each envelope to a file as one line of JSON.
// A line is written with one call and so survives a killed process whole, or
// as the torn last line that Read reports.
type File struct{ f *os.File }

// OpenFile opens the file at path for appending, creates it where it is
// missing, and makes it readable by its owner only.
func OpenFile(path string) (*File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open event file: %w", err)
	}
	if err := errors.Join(f.Chmod(0o600), mendTail(f)); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare event file %s: %w", path, err), f.Close())
	}
	return &File{f: f}, nil
}

// mendTail ends the line that a killed process left open, so that the next
// one does not run into it.
func mendTail(f *os.File) error {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, info.Size()-1); err != nil {
		return err
	}
	if last[0] != '\n' {
		_, err = f.WriteString("\n")
	}
	return err
}

// Handle appends one line.
func (s *File) Handle(e Envelope) error {
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode event %d: %w", e.Seq, err)
	}
	if _, err := s.f.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("write event %d: %w", e.Seq, err)
	}
	return nil
}

// Close closes the file. Call it after the Log's Close.
func (s *File) Close() error { return s.f.Close() }

// Read yields the envelopes of a recorded stream. A line that is not an
// envelope of a known schema yields an error in its place and reading goes
// on, so that a torn line costs that line alone. An error of r ends it.
func Read(r io.Reader) iter.Seq2[Envelope, error] {
	return func(yield func(Envelope, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, maxRecord)
		for n := 1; lines.Scan(); n++ {
			if len(lines.Bytes()) == 0 {
				continue
			}
			e, err := decode(lines.Bytes())
			if err != nil {
				err = fmt.Errorf("event line %d: %w", n, err)
			}
			if !yield(e, err) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(Envelope{}, fmt.Errorf("read events: %w", err))
		}
	}
}

func decode(line []byte) (Envelope, error) {
	var e Envelope
	if err := json.Unmarshal(line, &e); err != nil {
		return Envelope{}, err
	}
	if e.Schema < 1 || e.Schema > SchemaVersion {
		return Envelope{}, fmt.Errorf("schema %d is not known (this version knows up to %d)", e.Schema, SchemaVersion)
	}
	return e, nil
}
