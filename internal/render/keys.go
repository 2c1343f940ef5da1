package render

import (
	"io"
	"os"
	"sync"
)

// key is a key that TTY knows.
type key int

const (
	keyEnter key = iota + 1
	keyEscape
)

// keyOf returns the key that the bytes of one read stand for, or 0. An escape
// alone is the key; with more behind it, it begins what another key sends.
func keyOf(read []byte) key {
	switch string(read) {
	case "\r", "\n", "\r\n":
		return keyEnter
	case "\x1b":
		return keyEscape
	default:
		return 0
	}
}

// keyboard reads single keys from a terminal that it does not own: what is
// typed is not echoed and comes without a line's end, and all else, such as the
// keys that send signals, stays as it is.
type keyboard struct {
	file   *os.File
	reader canceler
	press  func(key)
	done   chan struct{}

	mu     sync.Mutex
	mode   terminalMode // as it was found; nil while it is in place
	closed bool
}

// canceler is a reader whose pending Read can be ended.
type canceler interface {
	io.ReadCloser
	Cancel() bool
}

// read calls press for each known key, one at a time.
func (k *keyboard) read() {
	defer close(k.done)
	defer k.restore() // also when press panics
	buf := make([]byte, 64)
	for {
		n, err := k.reader.Read(buf)
		if pressed := keyOf(buf[:n]); pressed != 0 {
			k.press(pressed)
		}
		if err != nil || k.over() {
			return
		}
	}
}

// close ends reading and gives the terminal back. It waits for press. It may
// be called on nil, and more than once.
func (k *keyboard) close() {
	if k == nil {
		return
	}
	k.mu.Lock()
	first := !k.closed
	k.closed = true
	k.mu.Unlock()
	if first {
		// Where reading can't be canceled it goes on until the next key,
		// which does no harm.
		if k.reader.Cancel() {
			<-k.done
		}
		k.restore()
	}
}

// leave ends reading from within press. It may be called on nil.
func (k *keyboard) leave() {
	if k == nil {
		return
	}
	k.restore()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
}

func (k *keyboard) over() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.closed
}

// take sets the terminal up for single keys, unless that is over. It may be
// called on nil.
func (k *keyboard) take() {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.mode == nil && !k.closed {
		k.mode = singleKeys(k.file)
	}
}

// restore gives the terminal back. It may be called on nil, and more than once.
func (k *keyboard) restore() {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.mode != nil {
		k.mode.restore(k.file)
		k.mode = nil
	}
}
