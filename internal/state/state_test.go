package state_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/state"
)

// holderEnv makes the test binary a process that holds a lock.
const holderEnv = "SANDBOX_TEST_HOLD_LOCK_OF"

func TestMain(m *testing.M) {
	if root := os.Getenv(holderEnv); root != "" {
		os.Exit(holdLock(root))
	}
	os.Exit(m.Run())
}

// holdLock locks sandbox "demo", says so on stdout and holds it until stdin ends.
func holdLock(root string) int {
	d, err := state.OpenIn(root, "demo")
	if err == nil {
		_, err = d.Lock("sandbox up")
	}
	if err != nil {
		fmt.Fprintln(os.Stdout, "error:", err)
		return 1
	}
	fmt.Fprintln(os.Stdout, "locked")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// startHolder runs a process that holds the lock of "demo" below root.
func startHolder(t *testing.T, root string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holderEnv+"="+root)
	stdin, err := cmd.StdinPipe()
	require.NoError(t, err)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "locked\n", line)
	return cmd
}

func open(t *testing.T) *state.Dir {
	t.Helper()
	d, err := state.OpenIn(t.TempDir(), "demo")
	require.NoError(t, err)
	return d
}

func TestRootFollowsXDG(t *testing.T) {
	t.Setenv("HOME", "/home/someone")
	t.Setenv("XDG_STATE_HOME", "/var/lib/me")
	root, err := state.Root()
	require.NoError(t, err)
	assert.Equal(t, "/var/lib/me/sandbox", root)

	for _, unset := range []string{"", "relative/path"} {
		t.Setenv("XDG_STATE_HOME", unset)
		root, err = state.Root()
		require.NoError(t, err)
		assert.Equal(t, "/home/someone/.local/state/sandbox", root)
	}
}

func TestNamesThatWouldLeaveTheDirectory(t *testing.T) {
	root := t.TempDir()
	d, err := state.OpenIn(root, "demo")
	require.NoError(t, err)
	for _, name := range []string{"", ".", "..", "../x", "a/b", "-rf", "A", "a;b", "a\x1b", strings.Repeat("a", 41)} {
		_, err := state.OpenIn(root, name)
		require.ErrorContains(t, err, "does not match", "%q", name)
		_, err = d.Workspace(name)
		require.ErrorContains(t, err, "does not match", "%q", name)
		_, err = d.Folder(name)
		require.ErrorContains(t, err, "does not match", "%q", name)
	}
}

func TestEverythingIsPrivateWhateverTheUmask(t *testing.T) {
	for _, umask := range []int{0, 0o277} {
		t.Run(fmt.Sprintf("%03o", umask), func(t *testing.T) {
			root := t.TempDir()
			defer syscall.Umask(syscall.Umask(umask))
			// One that somebody made readable before.
			require.NoError(t, os.MkdirAll(filepath.Join(root, "demo"), 0o755))
			require.NoError(t, os.Chmod(filepath.Join(root, "demo"), 0o755))

			d, err := state.OpenIn(root, "demo")
			require.NoError(t, err)
			l, err := d.Lock("sandbox up")
			require.NoError(t, err)
			_, err = d.Workspace("infra")
			require.NoError(t, err)
			require.NoError(t, d.Update(func(r *state.Record) error { r.Stack = "web-app"; return nil }))
			require.NoError(t, l.Unlock())

			seen := 0
			require.NoError(t, filepath.WalkDir(d.Path(), func(path string, e fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				info, err := e.Info()
				if err != nil {
					return err
				}
				want := fs.FileMode(0o600)
				if e.IsDir() {
					want = 0o700
				}
				assert.Equal(t, want, info.Mode().Perm(), path)
				seen++
				return nil
			}))
			assert.Equal(t, 5, seen, "directory, lock, record, terraform, infra")
		})
	}
}

func TestOpenRefusesASymbolicLink(t *testing.T) {
	root, elsewhere := t.TempDir(), t.TempDir()
	require.NoError(t, os.Symlink(elsewhere, filepath.Join(root, "demo")))
	_, err := state.OpenIn(root, "demo")
	require.ErrorContains(t, err, "is not a directory")
}

func TestPaths(t *testing.T) {
	d := open(t)
	assert.Equal(t, "demo", d.Name())
	assert.Equal(t, filepath.Join(d.Path(), "kubeconfig"), d.Kubeconfig())
	assert.Equal(t, filepath.Join(d.Path(), "events.jsonl"), d.Events())
	ws, err := d.Workspace("infra")
	require.NoError(t, err)
	assert.Equal(t, filepath.Join(d.Path(), "terraform", "infra"), ws)
	assert.DirExists(t, ws)
}

func TestListAndRemove(t *testing.T) {
	root := filepath.Join(t.TempDir(), "not", "yet")
	names, err := state.ListIn(root)
	require.NoError(t, err)
	assert.Empty(t, names)

	for _, n := range []string{"web", "api"} {
		_, err := state.OpenIn(root, n)
		require.NoError(t, err)
	}
	require.NoError(t, os.WriteFile(filepath.Join(root, "stray-file"), nil, 0o600))
	names, err = state.ListIn(root)
	require.NoError(t, err)
	assert.Equal(t, []string{"api", "web"}, names)

	d, err := state.OpenIn(root, "web")
	require.NoError(t, err)
	l, err := d.Lock("sandbox down")
	require.NoError(t, err)
	require.NoError(t, d.Update(func(*state.Record) error { return nil }))
	require.NoError(t, d.Remove())
	require.NoError(t, l.Unlock())
	assert.NoDirExists(t, d.Path())
	require.NoError(t, d.Remove(), "removing twice is fine")

	l, err = d.Lock("sandbox up")
	require.NoError(t, err, "a removed sandbox can be locked anew")
	require.NoError(t, l.Unlock())
}

func TestRecordRoundTripAndConcurrentUpdates(t *testing.T) {
	d := open(t)
	_, err := d.Record()
	require.ErrorIs(t, err, state.ErrNoRecord)

	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			assert.NoError(t, d.Update(func(r *state.Record) error {
				r.Add(state.Resource{Kind: "container", Name: fmt.Sprint("c", i)})
				r.Add(state.Resource{Kind: "network", Name: "sandbox-demo", ID: fmt.Sprint(i)})
				r.SetPort(fmt.Sprint("p", i), 1000+i)
				r.SetFact("terraform", "1.11.4")
				r.SetStep(fmt.Sprint("s", i), state.StepRecord{Outcome: "done"})
				return nil
			}))
		})
	}
	wg.Wait()

	rec, err := d.Record()
	require.NoError(t, err)
	assert.Equal(t, state.RecordSchema, rec.Schema)
	assert.Equal(t, "demo", rec.Name)
	assert.Len(t, rec.Resources, 21, "one of the same kind and name is replaced")
	assert.Len(t, rec.Ports, 20)
	assert.Len(t, rec.Steps, 20)
	assert.Equal(t, map[string]string{"terraform": "1.11.4"}, rec.Facts)
	assert.False(t, rec.Created.IsZero())
	assert.False(t, rec.Updated.Before(rec.Created))

	entries, err := os.ReadDir(d.Path())
	require.NoError(t, err)
	assert.Len(t, entries, 1, "no temporary file is left")
}

func TestUpdateThatFailsChangesNothing(t *testing.T) {
	d := open(t)
	require.NoError(t, d.Update(func(r *state.Record) error { r.Run = "1"; return nil }))
	broken := errors.New("no")
	require.ErrorIs(t, d.Update(func(r *state.Record) error { r.Run = "2"; return broken }), broken)
	rec, err := d.Record()
	require.NoError(t, err)
	assert.Equal(t, "1", rec.Run)
}

func TestRecordThatCannotBeRead(t *testing.T) {
	for name, tc := range map[string]struct{ content, want string }{
		"torn":  {`{"schema":1,"na`, "is damaged"},
		"newer": {`{"schema":2}`, "has schema 2"},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t)
			path := filepath.Join(d.Path(), "sandbox.json")
			require.NoError(t, os.WriteFile(path, []byte(tc.content), 0o600))
			_, err := d.Record()
			var f *fault.Error
			require.ErrorAs(t, err, &f)
			assert.Contains(t, f.What, tc.want)
			assert.NotEmpty(t, f.Try)
			require.Error(t, d.Update(func(*state.Record) error { return nil }))
			raw, err := os.ReadFile(path)
			require.NoError(t, err)
			assert.Equal(t, tc.content, string(raw), "what could not be read is not overwritten")
		})
	}
}

func TestLockNamesItsHolder(t *testing.T) {
	root := t.TempDir()
	holder := startHolder(t, root)
	d, err := state.OpenIn(root, "demo")
	require.NoError(t, err)

	_, err = d.Lock("sandbox down")
	var f *fault.Error
	require.ErrorAs(t, err, &f)
	assert.Equal(t, fault.Locked, f.Code)
	assert.Regexp(t, fmt.Sprintf(`^sandbox "demo" is locked by PID %d \(sandbox up\), since \d\d:\d\d$`, holder.Process.Pid), f.What)

	who, held, err := d.Holder()
	require.NoError(t, err)
	assert.True(t, held)
	assert.Equal(t, holder.Process.Pid, who.PID)
}

func TestLockOfADeadHolderIsTakenOver(t *testing.T) {
	root := t.TempDir()
	holder := startHolder(t, root)
	require.NoError(t, holder.Process.Kill())
	_ = holder.Wait()

	d, err := state.OpenIn(root, "demo")
	require.NoError(t, err)
	_, held, err := d.Holder()
	require.NoError(t, err)
	assert.False(t, held)
	l, err := d.Lock("sandbox up")
	require.NoError(t, err)
	require.NotNil(t, l.TookOver)
	assert.Equal(t, holder.Process.Pid, l.TookOver.PID)
	require.NoError(t, l.Unlock())

	l, err = d.Lock("sandbox up")
	require.NoError(t, err)
	assert.Nil(t, l.TookOver, "a holder that unlocked is not taken over from")
	require.NoError(t, l.Unlock())
}

func TestWriteFileOnAFullDisk(t *testing.T) {
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("needs the right to mount a small disk: %v", err)
	}
	t.Cleanup(func() { assert.NoError(t, syscall.Unmount(disk, 0)) })
	path := filepath.Join(disk, "sandbox.json")
	require.NoError(t, state.WriteFile(path, []byte("old")))

	err := state.WriteFile(path, make([]byte, 1<<20))
	require.ErrorIs(t, err, syscall.ENOSPC)
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "old", string(raw))
	entries, err := os.ReadDir(disk)
	require.NoError(t, err)
	assert.Len(t, entries, 1, "no temporary file is left on the full disk")
}
