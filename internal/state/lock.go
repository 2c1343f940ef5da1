package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

const lockName = "lock"

// Holder says who holds a lock.
type Holder struct {
	PID     int       `json:"pid"`
	Command string    `json:"command"`
	Since   time.Time `json:"since"`
}

// String is "PID 123 (sandbox up), since 10:02".
func (h Holder) String() string {
	return fmt.Sprintf("PID %d (%s), since %s", h.PID, h.Command, h.Since.Local().Format("15:04"))
}

// Lock keeps other sandbox processes from changing the same sandbox. The
// kernel drops it when its process ends in whatever way, so a dead holder
// never has to be guessed at.
type Lock struct {
	file *os.File
	// TookOver is the holder that died without unlocking, if any: its work
	// may be half done.
	TookOver *Holder
}

// Lock takes the lock for command, such as "sandbox up". Where a living
// process holds it, the error is a *fault.Error of code Locked that names the
// holder. Reading the record needs no lock.
func (d *Dir) Lock(command string) (*Lock, error) {
	for {
		l, err := d.tryLock(command)
		if errors.Is(err, errReplaced) {
			continue
		}
		return l, err
	}
}

// errReplaced says that the lock's file was removed, with the whole sandbox,
// between opening and locking it.
var errReplaced = errors.New("the lock was removed meanwhile")

func (d *Dir) tryLock(command string) (*Lock, error) {
	if err := makeDir(d.path); err != nil {
		return nil, fmt.Errorf("lock sandbox %q: %w", d.name, err)
	}
	path := filepath.Join(d.path, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, fileMode)
	if errors.Is(err, os.ErrNotExist) {
		return nil, errReplaced
	}
	if err != nil {
		return nil, fmt.Errorf("lock sandbox %q: %w", d.name, err)
	}
	l, err := d.lockFile(f, path, command)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return l, nil
}

func (d *Dir) lockFile(f *os.File, path, command string) (*Lock, error) {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, d.locked(f)
	}
	if err != nil {
		return nil, fmt.Errorf("lock sandbox %q: %w", d.name, err)
	}
	if same, err := isFileAt(f, path); err != nil || !same {
		return nil, errors.Join(errReplaced, err)
	}
	l := &Lock{file: f}
	if old, err := readHolder(f); err == nil {
		l.TookOver = &old
	}
	if err := l.sign(command); err != nil {
		return nil, fmt.Errorf("lock sandbox %q: %w", d.name, err)
	}
	return l, nil
}

func (d *Dir) locked(f *os.File) error {
	what := fmt.Sprintf("sandbox %q is locked by another process", d.name)
	try := "wait for it to end"
	if h, err := readHolder(f); err == nil {
		what = fmt.Sprintf("sandbox %q is locked by %s", d.name, h)
		try = fmt.Sprintf("wait for it, or end it: kill -INT %d", h.PID)
	}
	return fault.New(fault.Locked, what, "only one process at a time may change a sandbox", try)
}

// sign writes who holds the lock into its file.
func (l *Lock) sign(command string) error {
	who, err := json.Marshal(Holder{PID: os.Getpid(), Command: command, Since: time.Now()})
	if err != nil {
		return err
	}
	if err := errors.Join(l.file.Chmod(fileMode), l.file.Truncate(0)); err != nil {
		return err
	}
	_, err = l.file.WriteAt(who, 0)
	return err
}

// Unlock gives the lock up.
func (l *Lock) Unlock() error {
	// The empty file says that the holder left in order.
	if err := errors.Join(l.file.Truncate(0), l.file.Close()); err != nil {
		return fmt.Errorf("unlock: %w", err)
	}
	return nil
}

// Holder returns who holds the lock of the sandbox, false where nobody does.
func (d *Dir) Holder() (Holder, bool, error) {
	f, err := os.Open(filepath.Join(d.path, lockName))
	if errors.Is(err, os.ErrNotExist) {
		return Holder{}, false, nil
	}
	if err != nil {
		return Holder{}, false, fmt.Errorf("read the lock of sandbox %q: %w", d.name, err)
	}
	defer f.Close() // opened for reading
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	if err == nil {
		return Holder{}, false, nil
	}
	if !errors.Is(err, syscall.EWOULDBLOCK) {
		return Holder{}, false, fmt.Errorf("read the lock of sandbox %q: %w", d.name, err)
	}
	h, err := readHolder(f)
	if err != nil {
		h = Holder{Command: "unknown"} // it is just about to sign
	}
	return h, true, nil
}

func readHolder(f *os.File) (Holder, error) {
	raw, err := io.ReadAll(io.NewSectionReader(f, 0, 64<<10))
	if err != nil {
		return Holder{}, err
	}
	var h Holder
	err = json.Unmarshal(raw, &h)
	return h, err
}

func isFileAt(f *os.File, path string) (bool, error) {
	opened, err := f.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(opened, there), err
}
