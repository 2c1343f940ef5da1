package engines

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Buildah unpacks Debian's Buildah and returns the folder of its command, for the
// PATH. Its libraries come with Podman.
func Buildah(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	d := unpacked{filepath.Join(cache, "sandbox", "engines", "buildah")}
	commands := filepath.Join(d.dir, "root", "usr", "bin")
	if _, err := os.Stat(filepath.Join(commands, "buildah")); errors.Is(err, fs.ErrNotExist) {
		if err := d.download(ctx, []source{{"", []string{"buildah"}}}); err != nil {
			return "", fmt.Errorf("get Buildah for tests: %w", err)
		}
	}
	return commands, nil
}
