package image

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// trustPath is where the host's certificate authorities are during a build. It
// is where most distributions have theirs.
const trustPath = "/etc/ssl/certs/ca-certificates.crt"

// trustVariables point the usual tools to a file of certificate authorities.
var trustVariables = []string{
	"SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "AWS_CA_BUNDLE",
}

// argLine matches the declaration of a build argument.
var argLine = regexp.MustCompile(`^\s*(?i:ARG)\s+([A-Za-z_][A-Za-z0-9_]*)`)

// trustHost lets the build's RUN steps trust whom this host trusts, which
// networks that inspect TLS require. The certificates are mounted, and those of
// the usual variables that the Dockerfile declares with ARG point to them, so
// that neither becomes part of the image.
func trustHost(spec *runtime.BuildSpec) error {
	bundle, err := hostBundle()
	if err != nil || bundle == "" {
		return err
	}
	dockerfile := spec.Dockerfile
	if dockerfile == "" {
		dockerfile = "Dockerfile"
	}
	if !filepath.IsAbs(dockerfile) {
		dockerfile = filepath.Join(spec.Context, dockerfile)
	}
	declared, err := declaredArgs(dockerfile)
	if err != nil {
		return err
	}
	for _, name := range trustVariables {
		if _, set := spec.Args[name]; !set && slices.Contains(declared, name) {
			spec.Args[name] = trustPath
		}
	}
	spec.Volumes = append(spec.Volumes, bundle+":"+trustPath+":ro")
	return nil
}

// hostBundle returns the real path of the file of certificate authorities that
// this host trusts, or "" where it has none.
func hostBundle() (string, error) {
	for _, path := range []string{
		os.Getenv("SSL_CERT_FILE"), trustPath, "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem",
	} {
		if path == "" {
			continue
		}
		resolved, err := filepath.EvalSymlinks(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("find this host's certificate authorities: %w", err)
		}
		return filepath.Abs(resolved)
	}
	return "", nil
}

// declaredArgs lists the build arguments that the Dockerfile declares.
func declaredArgs(dockerfile string) ([]string, error) {
	file, err := os.Open(dockerfile)
	if err != nil {
		return nil, fmt.Errorf("read the Dockerfile: %w", err)
	}
	var names []string
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if match := argLine.FindStringSubmatch(lines.Text()); match != nil {
			names = append(names, match[1])
		}
	}
	if err := errors.Join(lines.Err(), file.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", dockerfile, err)
	}
	return names, nil
}
