package state

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestReplaceKeepsTheOldFileWhenWritingFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	require.NoError(t, WriteFile(path, []byte("old")))
	err := replace(path, func(f *os.File) error {
		_, err := f.WriteString("half of the n")
		require.NoError(t, err)
		return syscall.ENOSPC
	})
	require.ErrorIs(t, err, syscall.ENOSPC)
	raw, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "old", string(raw))
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	assert.Len(t, entries, 1)
}
