package box

import (
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"
	"time"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// expiry is how long a copy of the program stays that no container of this engine
// uses. One of another engine's would be missed by its next start only, and up
// mends that.
const expiry = time.Hour

// program is the copy of this program that containers run.
type program struct {
	path string
	hash string // of its content
}

// install puts a copy of the program at path, or of this one where path is "",
// into the cache: a container that is up keeps what it was created with, whatever
// becomes of the program itself.
func install(ctx context.Context, rt runtime.Runtime, cache, path string) (program, error) {
	path, err := executable(path, goruntime.GOOS)
	if err != nil {
		return program{}, err
	}
	hash, err := hashFile(path)
	if err != nil {
		return program{}, err
	}
	root := filepath.Join(cache, "agent")
	p := program{path: filepath.Join(root, hash, "sandbox"), hash: hash}
	now := time.Now()
	// A marked time of use keeps others from removing it, from here on.
	err = os.Chtimes(filepath.Dir(p.path), now, now)
	if err == nil {
		_, err = os.Stat(p.path)
	}
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return p, err
	}
	if err := copyFile(path, p.path); err != nil {
		return program{}, fmt.Errorf("copy this program for containers: %w", err)
	}
	return p, prune(ctx, rt, root)
}

// Supported says why the program at path, or this one where path is "", can't run
// in containers.
func Supported(path string) error {
	_, err := executable(path, goruntime.GOOS)
	return err
}

// executable returns the program to run in containers.
func executable(path, goos string) (string, error) {
	if goos != "linux" {
		return "", fault.New(fault.Unavailable, "no helpers for this sandbox",
			"they run this program in Linux containers, and it is built for "+goos, "run sandbox on Linux, or in WSL 2")
	}
	if path == "" {
		var err error
		if path, err = os.Executable(); err != nil {
			return "", fmt.Errorf("find this program: %w", err)
		}
	}
	return path, checkStatic(path)
}

// checkStatic refuses a program that needs libraries: an image has others, or none.
func checkStatic(path string) error {
	f, err := elf.Open(path)
	if err != nil {
		return nil // the engine says what is wrong with it
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fault.New(fault.Unavailable, "no helpers for this sandbox",
				"they run this program in containers, and this build of it needs the libraries of this machine", "build it with CGO_ENABLED=0")
		}
	}
	return nil
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read this program: %w", err)
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", fmt.Errorf("read this program: %w", err)
	}
	return hex.EncodeToString(sum.Sum(nil))[:16], nil
}

// copyFile writes dst in one step, so that nobody sees half of it.
func copyFile(src, dst string) error {
	if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
		return err
	}
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(dst), ".sandbox-*")
	if err != nil {
		return err
	}
	defer os.Remove(out.Name()) // it is gone where all went well
	_, err = io.Copy(out, in)
	if err == nil {
		err = out.Chmod(0o755)
	}
	if err := errors.Join(err, out.Close()); err != nil {
		return err
	}
	return os.Rename(out.Name(), dst)
}

// prune removes copies that have not been asked for lately and that no container
// of this engine uses.
func prune(ctx context.Context, rt runtime.Runtime, root string) error {
	used, err := rt.Containers(ctx, map[string]string{labelProgram: ""})
	if err != nil {
		return fmt.Errorf("look for copies of this program that are in use: %w", err)
	}
	keep := map[string]bool{}
	for _, c := range used {
		keep[c.Labels[labelProgram]] = true
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return fmt.Errorf("look for old copies of this program: %w", err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) { // another process was faster
			continue
		}
		if err != nil {
			return fmt.Errorf("look for old copies of this program: %w", err)
		}
		if keep[e.Name()] || time.Since(info.ModTime()) < expiry {
			continue
		}
		if err := os.RemoveAll(filepath.Join(root, e.Name())); err != nil {
			return fmt.Errorf("remove an old copy of this program: %w", err)
		}
	}
	return nil
}
