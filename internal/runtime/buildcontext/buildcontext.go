// Package buildcontext reads the build context of an image: the files below a
// directory that .dockerignore does not exclude. What is hashed to recognize an
// image and what is sent to the engine to build it is one and the same.
package buildcontext

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// outsideName is the name in the archive of a Dockerfile that lies outside the
// context.
const outsideName = ".sandbox.Dockerfile"

// Context is a build context on disk.
type Context struct {
	// Dir is the context's directory.
	Dir string
	// Dockerfile is the name of the Dockerfile within the archive.
	Dockerfile string
	// IgnoreFile is the path of the file with the ignore rules; empty where
	// there is none.
	IgnoreFile string
	// Rewrite, where it is set, changes the text of the Dockerfile in the
	// archive. It does not count in the hash.
	Rewrite func(dockerfile string) string

	outside string // path of a Dockerfile outside Dir
	ignore  *patternmatcher.PatternMatcher
}

// Open reads the ignore rules of the context in dir: those in
// "<dockerfile>.dockerignore", or else in ".dockerignore". An empty dockerfile
// is "Dockerfile"; a relative path is below dir.
func Open(dir, dockerfile string) (*Context, error) {
	if dockerfile == "" {
		dockerfile = "Dockerfile"
	}
	if !filepath.IsAbs(dockerfile) {
		dockerfile = filepath.Join(dir, dockerfile)
	}
	if info, err := os.Stat(dockerfile); err != nil {
		return nil, fmt.Errorf("open the Dockerfile: %w", err)
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("open the Dockerfile: %s is not a regular file", dockerfile)
	}
	c := &Context{Dir: dir}
	rel, err := filepath.Rel(dir, dockerfile)
	if err != nil || !filepath.IsLocal(rel) {
		c.Dockerfile, c.outside = outsideName, dockerfile
	} else {
		c.Dockerfile = filepath.ToSlash(rel)
	}
	var patterns []string
	c.IgnoreFile, patterns, err = ignorePatterns(dockerfile+".dockerignore", filepath.Join(dir, ".dockerignore"))
	if err != nil {
		return nil, err
	}
	if len(patterns) > 0 && c.outside == "" {
		patterns = append(patterns, "!"+c.Dockerfile) // the build can't do without it
	}
	if c.ignore, err = patternmatcher.New(patterns); err != nil {
		return nil, fmt.Errorf("read the ignore rules of %s: %w", dir, err)
	}
	return c, nil
}

// DockerfilePath is the path of the Dockerfile.
func (c *Context) DockerfilePath() string {
	if c.outside != "" {
		return c.outside
	}
	return filepath.Join(c.Dir, filepath.FromSlash(c.Dockerfile))
}

// ignorePatterns reads the first of the files that exists.
func ignorePatterns(paths ...string) (string, []string, error) {
	for _, path := range paths {
		file, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", nil, fmt.Errorf("open the ignore rules: %w", err)
		}
		patterns, err := ignorefile.ReadAll(file)
		if err := errors.Join(err, file.Close()); err != nil {
			return "", nil, fmt.Errorf("read %s: %w", path, err)
		}
		return path, patterns, nil
	}
	return "", nil, nil
}

// entry is one file, directory or symbolic link of the context.
type entry struct {
	name string // slash-separated, relative to the context
	path string
	info fs.FileInfo
	link string // target of a symbolic link
}

// walk visits the entries in lexical order. Sockets, pipes and devices are no
// part of a context.
func (c *Context) walk(visit func(entry) error) error {
	err := filepath.WalkDir(c.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(c.Dir, path)
		if err != nil || rel == "." {
			return err
		}
		ignored, err := c.ignore.MatchesOrParentMatches(rel)
		if err != nil {
			return fmt.Errorf("match %s against the ignore rules: %w", rel, err)
		}
		if ignored {
			if d.IsDir() && !c.ignore.Exclusions() {
				return fs.SkipDir
			}
			return nil
		}
		e := entry{name: filepath.ToSlash(rel), path: path}
		if e.info, err = d.Info(); err != nil {
			return err
		}
		switch mode := e.info.Mode(); {
		case mode&fs.ModeSymlink != 0:
			if e.link, err = os.Readlink(path); err != nil {
				return err
			}
		case !mode.IsDir() && !mode.IsRegular():
			return nil
		}
		return visit(e)
	})
	if err != nil {
		return fmt.Errorf("read the build context %s: %w", c.Dir, err)
	}
	if c.outside == "" {
		return nil
	}
	info, err := os.Stat(c.outside)
	if err != nil {
		return fmt.Errorf("read the Dockerfile: %w", err)
	}
	return visit(entry{name: outsideName, path: c.outside, info: info})
}

// WriteTar writes the context as a tar archive. Files belong to root in it.
func (c *Context) WriteTar(w io.Writer) error {
	archive := tar.NewWriter(w)
	err := c.walk(func(e entry) error {
		header, err := tar.FileInfoHeader(e.info, e.link)
		if err != nil {
			return fmt.Errorf("archive %s: %w", e.name, err)
		}
		header.Name = e.name
		if e.info.IsDir() {
			header.Name += "/"
		}
		header.Uid, header.Gid, header.Uname, header.Gname = 0, 0, "", ""
		header.Format = tar.FormatPAX
		if c.Rewrite != nil && e.name == c.Dockerfile {
			return c.writeRewritten(archive, header, e.path)
		}
		if err := archive.WriteHeader(header); err != nil {
			return fmt.Errorf("archive %s: %w", e.name, err)
		}
		if !e.info.Mode().IsRegular() {
			return nil
		}
		return copyFile(archive, e.path)
	})
	if err != nil {
		return err
	}
	if err := archive.Close(); err != nil {
		return fmt.Errorf("archive the build context: %w", err)
	}
	return nil
}

// writeRewritten writes the Dockerfile as Rewrite wants it.
func (c *Context) writeRewritten(archive *tar.Writer, header *tar.Header, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the Dockerfile: %w", err)
	}
	changed := c.Rewrite(string(text))
	header.Size, header.Typeflag, header.Linkname = int64(len(changed)), tar.TypeReg, ""
	if err := archive.WriteHeader(header); err != nil {
		return fmt.Errorf("archive the Dockerfile: %w", err)
	}
	if _, err := io.WriteString(archive, changed); err != nil {
		return fmt.Errorf("archive the Dockerfile: %w", err)
	}
	return nil
}

// Hash is a SHA-256, in hex, over the names, types, permissions and contents
// of the context, and over the name of its Dockerfile. Times do not count.
func (c *Context) Hash() (string, error) {
	sum := sha256.New()
	fmt.Fprintf(sum, "%q\n", c.Dockerfile)
	err := c.walk(func(e entry) error {
		content := ""
		if e.info.Mode().IsRegular() {
			file := sha256.New()
			if err := copyFile(file, e.path); err != nil {
				return err
			}
			content = hex.EncodeToString(file.Sum(nil))
		}
		perm := e.info.Mode() & (fs.ModeType | fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
		fmt.Fprintf(sum, "%q %s %q %s\n", e.name, perm, e.link, content)
		return nil
	})
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func copyFile(w io.Writer, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(w, file)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}
