package packages

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// mirrorVariable overrides the Debian mirror; the default is the host's own,
// where the host is Debian, or deb.debian.org.
const mirrorVariable = "SANDBOX_DEBIAN_MIRROR"

const (
	defaultMirror   = "http://deb.debian.org/debian"
	defaultSecurity = "http://deb.debian.org/debian-security"
)

// mirrors are the archives that Debian systems are made from.
type mirrors struct{ main, security string }

// hostMirrors asks apt which Debian archives this host uses. A host that is
// not Debian, or has no apt, gets the defaults.
func (b *Builder) hostMirrors(ctx context.Context, t *task) (mirrors, error) {
	if main := os.Getenv(mirrorVariable); main != "" {
		main = strings.TrimSuffix(main, "/")
		return mirrors{main, main + "-security"}, nil
	}
	found := mirrors{defaultMirror, defaultSecurity}
	if b.runner.lookPath("apt-get") != nil {
		return found, nil
	}
	var out bytes.Buffer
	if err := b.exec(ctx, t, command{
		name: "apt-get", args: []string{"indextargets", "--format", "$(REPO_URI)", "Identifier: Packages"}, stdout: &out,
	}); err != nil {
		return mirrors{}, fmt.Errorf("ask apt for its mirrors: %w", err)
	}
	for _, uri := range slices.Backward(strings.Fields(out.String())) {
		uri = strings.TrimSuffix(uri, "/")
		switch {
		case strings.HasSuffix(uri, "/debian"):
			found.main = uri
		case strings.HasSuffix(uri, "/debian-security"):
			found.security = uri
		}
	}
	return found, nil
}

// aptProxy returns mmdebstrap options for the proxy that the host's apt uses.
func (b *Builder) aptProxy(ctx context.Context, t *task) ([]string, error) {
	if b.runner.lookPath("apt-config") != nil {
		return nil, nil
	}
	var out bytes.Buffer
	if err := b.exec(ctx, t, command{
		name: "apt-config", args: []string{"dump", "--format", "%f \"%v\";%n", "Acquire::http", "Acquire::https"}, stdout: &out,
	}); err != nil {
		return nil, fmt.Errorf("ask apt for its proxy: %w", err)
	}
	var options []string
	for line := range strings.Lines(out.String()) {
		line = strings.TrimSpace(line)
		if strings.Contains(strings.ToLower(line), "::proxy") && !strings.Contains(line, `""`) {
			options = append(options, "--aptopt="+line)
		}
	}
	return options, nil
}

// bootstrap runs mmdebstrap; the tar of the system goes to out.
func (b *Builder) bootstrap(ctx context.Context, t *task, d Debian, hooks []string, out io.Writer) error {
	from, err := b.hostMirrors(ctx, t)
	if err != nil {
		return err
	}
	proxy, err := b.aptProxy(ctx, t)
	if err != nil {
		return err
	}
	variant := d.Variant
	if variant == "" {
		variant = "essential"
	}
	args := []string{
		"--variant=" + variant, "--format=tar",
		"--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
		"--dpkgopt=path-exclude=/usr/share/locale/*", "--dpkgopt=path-exclude=/usr/share/info/*",
		`--aptopt=Acquire::Languages "none"`, `--aptopt=Acquire::Retries "3"`,
	}
	args = append(args, proxy...)
	if len(d.Packages) > 0 {
		args = append(args, "--include="+strings.Join(d.Packages, ","))
	}
	args = append(args, hooks...)
	args = append(
		args, d.Suite, "-",
		fmt.Sprintf("deb %s %s main", from.main, d.Suite),
		fmt.Sprintf("deb %s %s-updates main", from.main, d.Suite),
		fmt.Sprintf("deb %s %s-security main", from.security, d.Suite),
	)
	return b.exec(ctx, t, command{name: "mmdebstrap", args: args, stdout: out, line: func(line string) {
		if note, ok := strings.CutPrefix(line, "I: "); ok {
			// The text of a hook is long and means nothing to a reader.
			if strings.HasPrefix(note, "running --") {
				note = "running its set-up script"
			}
			t.set("%s", strings.TrimSuffix(note, "..."))
			return
		}
		t.log("mmdebstrap", line)
	}})
}

// buildDebian makes the layer of a Debian system and returns its part.
func (b *Builder) buildDebian(ctx context.Context, j *job, d Debian) (string, error) {
	k := newKeyHash("debian")
	if err := k.addJSON("debian", d); err != nil {
		return "", err
	}
	var hooks []string
	for _, line := range d.Run {
		hooks = append(hooks, "--customize-hook=chroot \"$1\" sh -euc "+shellQuote(line))
	}
	title := "debian " + d.Suite
	if len(d.Packages) > 0 {
		title += fmt.Sprintf(" (%s …)", d.Packages[0])
	}
	return b.part(ctx, j, "debian-"+d.Suite, k.sum(), title, func(t *task, dir string) error {
		m := matcher{keep: d.Keep, remove: d.Remove}
		return b.streamLayer(ctx, dir, m.match, func(ctx context.Context, out io.Writer) error {
			return b.bootstrap(ctx, t, d, hooks, out)
		})
	})
}

// pythonMount is where the customise hook of buildPython works inside the
// build system.
const pythonMount = "/sandbox-build"

// buildPython installs the locked packages inside a throw-away Debian system
// of the same suite, so that they match the image's Python, and makes a layer
// of the target folder alone.
func (b *Builder) buildPython(ctx context.Context, j *job, d Debian, p Python) (string, error) {
	requirements := path.Join(j.recipe.Name, p.Requirements)
	k := newKeyHash("python")
	if err := errors.Join(k.addJSON("python", p), k.addJSON("debian", d), k.addTree(b.recipes, requirements)); err != nil {
		return "", err
	}
	return b.part(ctx, j, "python-"+j.recipe.Name, k.sum(), "pip install "+path.Base(p.Target), func(t *task, dir string) error {
		lock, err := fs.ReadFile(b.recipes, requirements)
		if err != nil {
			return err
		}
		work, err := os.MkdirTemp("", "sandbox-pip-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(work)
		lockFile := filepath.Join(work, "requirements.txt")
		if err := os.WriteFile(lockFile, lock, 0o600); err != nil {
			return err
		}
		build := Debian{Suite: d.Suite, Variant: "essential", Packages: slices.Concat(d.Packages, p.BuildPackages)}
		hooks := pythonHooks(p, lockFile, b.caFile)
		target := matcher{keep: []string{p.Target}}
		return b.streamLayer(ctx, dir, target.match, func(ctx context.Context, out io.Writer) error {
			return b.bootstrap(ctx, t, build, hooks, out)
		})
	})
}

// pythonHooks are the customise hooks that install p inside the system.
func pythonHooks(p Python, lockFile, caFile string) []string {
	compile := "--compile"
	if p.NoCompile {
		compile = "--no-compile"
	}
	// The index and proxy settings of pip are the host's: its environment
	// reaches the chroot. The CA bundle lies elsewhere in there. With
	// SOURCE_DATE_EPOCH, byte code is checked by hash instead of time stamp.
	// Source packages are built with Debian's setuptools: what pip would
	// fetch to build them in isolation is not covered by the lock file.
	pip := fmt.Sprintf("env SOURCE_DATE_EPOCH=%d PIP_CERT=%[2]s/ca.pem SSL_CERT_FILE=%[2]s/ca.pem PIP_FIND_LINKS= "+
		"python3 -m pip install --no-cache-dir --no-input --disable-pip-version-check --root-user-action=ignore --break-system-packages "+
		"--require-hashes --no-build-isolation %[3]s --target %[4]s -r %[2]s/requirements.txt",
		epoch.Unix(), pythonMount, compile, shellQuote(p.Target))
	return []string{
		"--customize-hook=mkdir -p \"$1\"" + pythonMount,
		"--customize-hook=upload " + lockFile + " " + pythonMount + "/requirements.txt",
		"--customize-hook=upload " + caFile + " " + pythonMount + "/ca.pem",
		"--customize-hook=chroot \"$1\" " + pip,
	}
}

const (
	layerFile  = "layer.tar"
	digestFile = "sha256"
)

// streamLayer writes the tar stream that produce gives as a layer into the
// part's folder: the tar and its digest.
func (b *Builder) streamLayer(ctx context.Context, dir string, keep func(string) bool, produce func(context.Context, io.Writer) error) error {
	w, err := createLayer(filepath.Join(dir, layerFile))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r, pipe := io.Pipe()
	produced := make(chan error, 1)
	go func() {
		err := produce(ctx, pipe)
		pipe.CloseWithError(err) // documented to return nil always
		produced <- err
	}()
	copyErr := w.copyTar(ctx, r, keep)
	if copyErr == nil {
		// mmdebstrap pads the stream after its end marker.
		_, copyErr = io.Copy(io.Discard, r)
	}
	if copyErr != nil {
		cancel(copyErr)
		r.CloseWithError(copyErr) // documented to return nil always
	}
	produceErr := <-produced
	sum, closeErr := w.close()
	switch {
	case produceErr != nil && !errors.Is(produceErr, copyErr):
		return produceErr // a failing producer also breaks the stream
	case copyErr != nil:
		return copyErr
	case closeErr != nil:
		return closeErr
	}
	return os.WriteFile(filepath.Join(dir, digestFile), []byte(sum), 0o600)
}

// shellQuote quotes s for a POSIX shell.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
