package session

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/stack"
	"github.com/sandbox-stack/sandbox/internal/state"
)

// One returns the sandbox that a command is about: the named one; or that of
// the stack file in this folder; or the only one there is.
func One(name string) (string, error) {
	names, err := state.List()
	if err != nil {
		return "", err
	}
	if name != "" {
		if !slices.Contains(names, name) {
			return "", noSandbox(name, names)
		}
		return name, nil
	}
	if len(names) == 1 {
		return names[0], nil
	}
	if st, err := stack.Load("."); err == nil && slices.Contains(names, st.Metadata.Name) {
		return st.Metadata.Name, nil
	}
	if len(names) == 0 {
		return "", noSandbox("", nil)
	}
	return "", fault.New(fault.Invalid, "which sandbox?", "there are several: "+strings.Join(names, ", "), "--name "+names[0])
}

// Again returns the stack that a sandbox was made from, for an up without one: of
// the named sandbox, or the only one. It is false where the folder has a stack
// file of its own, or the sandbox is not clear.
func Again(name string) (arg, sandbox string, ok bool) {
	if _, err := os.Stat(stack.FileName); err == nil {
		return "", "", false
	}
	sandbox, err := One(name)
	if err != nil {
		return "", "", false
	}
	s, err := recorded(sandbox)
	if err != nil {
		return "", "", false
	}
	// One that comes with sandbox goes by its name, as the program may bring a
	// newer one.
	if cache, err := cacheDir(); err == nil && filepath.Dir(s.stack.Dir) == filepath.Join(cache, "stacks") {
		return filepath.Base(s.stack.Dir), sandbox, true
	}
	return s.stack.File, sandbox, true
}

// Names returns the named sandbox, or all of them.
func Names(name string) ([]string, error) {
	if name != "" {
		one, err := One(name)
		return []string{one}, err
	}
	names, err := state.List()
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, noSandbox("", nil)
	}
	return names, nil
}

// All returns every sandbox that has state or something in the engine.
func All(ctx context.Context) ([]string, error) {
	names, err := state.List()
	if err != nil {
		return nil, err
	}
	live, err := liveNames(ctx)
	if err != nil {
		return nil, err
	}
	names = append(names, live...)
	slices.Sort(names)
	return slices.Compact(names), nil
}

func noSandbox(name string, there []string) error {
	what, why := "no sandbox is there", "none was brought up"
	if name != "" {
		what = fmt.Sprintf("no sandbox %q", name)
	}
	if len(there) > 0 {
		why = "there are: " + strings.Join(there, ", ")
	}
	return fault.New(fault.Unavailable, what, why, "sandbox up web-app")
}
