package packages

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// DefaultCacheDir is $XDG_CACHE_HOME/sandbox, by default ~/.cache/sandbox.
func DefaultCacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w", err)
	}
	return filepath.Join(base, "sandbox"), nil
}

// once makes the folder dir by calling fill with an empty folder that becomes
// dir when fill has succeeded. Another process or goroutine that wants the
// same folder waits. What an interrupted run left behind is thrown away. It
// returns true when dir was there already.
func once(ctx context.Context, dir string, waiting func(), fill func(partial string) error) (cached bool, err error) {
	if exists(dir) {
		return true, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return false, fmt.Errorf("make cache folder: %w", err)
	}
	unlock, err := lockFile(ctx, dir+".lock", waiting)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if exists(dir) {
		return true, nil
	}
	partial := dir + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return false, fmt.Errorf("remove interrupted build: %w", err)
	}
	if err := os.Mkdir(partial, 0o700); err != nil {
		return false, fmt.Errorf("make cache folder: %w", err)
	}
	if err := fill(partial); err != nil {
		return false, errors.Join(err, os.RemoveAll(partial))
	}
	if err := os.Rename(partial, dir); err != nil {
		return false, fmt.Errorf("finish %s: %w", dir, err)
	}
	return false, nil
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// lockPoll is how often a lock held by another process is tried again.
const lockPoll = 200 * time.Millisecond

// lockFile takes an exclusive lock that ends with this process at the latest.
// The file stays: removing it would let two processes hold "the" lock.
func lockFile(ctx context.Context, file string, waiting func()) (unlock func() error, err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	ticker := time.NewTicker(lockPoll)
	defer ticker.Stop()
	for first := true; ; first = false {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return f.Close, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", file, err), f.Close())
		}
		if first && waiting != nil {
			waiting()
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), f.Close())
		}
	}
}

// linkOrCopy makes target a second name for source, or a copy where the file
// system cannot link.
func linkOrCopy(source, target string) error {
	err := os.Link(source, target)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return nil
	}
	data, err := os.Open(source)
	if err != nil {
		return err
	}
	defer data.Close()
	info, err := data.Stat()
	if err != nil {
		return err
	}
	return copyTo(target, data, info.Mode().Perm())
}
