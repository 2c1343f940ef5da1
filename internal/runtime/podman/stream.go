package podman

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// demux reads the API's multiplexed stream and writes each frame to the writer
// of its channel; nil discards. It returns at the end of the stream.
//
// A frame is a header of eight bytes (channel, three zeros, length in network
// order) and the data.
func demux(r io.Reader, stdout, stderr io.Writer) error {
	var header [8]byte
	for {
		if _, err := io.ReadFull(r, header[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("read the stream: %w", err)
		}
		length := int64(binary.BigEndian.Uint32(header[4:]))
		w := io.Discard
		switch header[0] {
		case 0, 1:
			if stdout != nil {
				w = stdout
			}
		case 2:
			if stderr != nil {
				w = stderr
			}
		case 3: // an error of the service
			text, err := io.ReadAll(io.LimitReader(r, min(length, 1<<16)))
			return errors.Join(fmt.Errorf("the engine says: %s", text), err)
		default:
			return fmt.Errorf("read the stream: unknown channel %d", header[0])
		}
		if _, err := io.CopyN(w, r, length); err != nil {
			return fmt.Errorf("copy the stream: %w", err)
		}
	}
}
