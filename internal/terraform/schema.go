package terraform

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
)

// providerInfo is what this package needs of the AWS provider's schema.
type providerInfo struct {
	Address string `json:"address"`
	Version string `json:"version"`
	// Endpoints are the services whose endpoint can be set.
	Endpoints []string `json:"endpoints"`
	// Arguments are the arguments of the provider block.
	Arguments []string `json:"arguments"`

	file string // where this is kept
}

// awsProvider returns the installed AWS provider's endpoints. The question
// costs seconds, so the answer is kept by version and checksum for all
// sandboxes.
func (m *Module) awsProvider(ctx context.Context, t Tool, list []locked, rep event.Reporter) (*providerInfo, error) {
	i := slices.IndexFunc(list, func(l locked) bool { return providerSource(l.Address) == awsSource })
	if i < 0 {
		return nil, fmt.Errorf("module %q uses the AWS provider, but the lock file does not name it", m.cfg.Name)
	}
	aws := list[i]
	cached := filepath.Join(m.cfg.CacheDir, "terraform", "schemas", schemaKey(aws)+".json")
	if info, err := readProviderInfo(cached); err != nil || info != nil {
		return info, err
	}
	stop := report(rep, "asking the AWS provider "+aws.Version+" for its services")
	defer stop()
	info, err := m.askSchema(ctx, t, aws)
	if err != nil {
		return nil, err
	}
	info.file = cached
	return info, info.write()
}

// write keeps the answer.
func (info *providerInfo) write() error {
	data, err := json.Marshal(info)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(info.file), 0o700)
	}
	if err == nil {
		err = writePrivate(info.file, data)
	}
	if err != nil {
		return fmt.Errorf("keep provider schema: %w", err)
	}
	return nil
}

// learn drops all names but the first of services that have several, as the
// provider itself has told. The schema does not say so.
func (info *providerInfo) learn(conflicts [][]string) error {
	before := len(info.Endpoints)
	for _, group := range conflicts {
		info.Endpoints = slices.DeleteFunc(info.Endpoints, func(name string) bool { return slices.Contains(group[1:], name) })
	}
	if len(info.Endpoints) == before {
		return nil
	}
	return info.write()
}

// schemaKey names a provider build. Only the checksums tell two builds of one
// version apart.
func schemaKey(l locked) string {
	h := sha256.New()
	fmt.Fprintln(h, l.Address, l.Version)
	for _, s := range l.Hashes {
		fmt.Fprintln(h, s)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// readProviderInfo returns nil where there is no usable file.
func readProviderInfo(file string) (*providerInfo, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read provider schema: %w", err)
	}
	var info providerInfo
	if json.Unmarshal(data, &info) != nil || len(info.Endpoints) == 0 {
		return nil, nil // damaged: ask again
	}
	info.file = file
	return &info, nil
}

// askSchema runs "providers schema". Its answer is tens of megabytes of which
// a few kilobytes are wanted, so it is read as a stream, and not through
// terraform-exec, which holds all of it in memory.
func (m *Module) askSchema(ctx context.Context, t Tool, aws locked) (*providerInfo, error) {
	cmd := exec.CommandContext(ctx, t.Path, "providers", "schema", "-json", "-no-color")
	cmd.Dir = m.paths.run
	for k, v := range m.environment() {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = stopGrace
	detach(cmd)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("read provider schema: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("read provider schema: %w", err)
	}
	info, parseErr := parseSchema(out, aws.Address)
	_, drainErr := io.Copy(io.Discard, out)
	err = cmd.Wait()
	if ctx.Err() != nil {
		return nil, m.interrupted(ctx, "init", t, "")
	}
	if err != nil {
		e := fault.Wrap(fault.Failed, err, "", "%s cannot show the schema of provider %s", t.Name, aws.Address)
		e.Log = lastLines(stderr.String())
		return nil, e
	}
	if err := errors.Join(parseErr, drainErr); err != nil {
		return nil, fmt.Errorf("read schema of provider %s %s: %w", aws.Address, aws.Version, err)
	}
	info.Address, info.Version = aws.Address, aws.Version
	return info, nil
}

// stopGrace is how long the tool may take to stop after an interrupt before it
// is killed.
const stopGrace = 60 * time.Second

// parseSchema reads the output of "providers schema -json" as far as the
// provider's own configuration block.
func parseSchema(r io.Reader, addr string) (*providerInfo, error) {
	dec := json.NewDecoder(r)
	if err := enter(dec, "provider_schemas", addr, "provider"); err != nil {
		return nil, err
	}
	type block struct {
		Attributes map[string]json.RawMessage `json:"attributes"`
	}
	var provider struct {
		Block struct {
			block
			BlockTypes map[string]struct {
				Block block `json:"block"`
			} `json:"block_types"`
		} `json:"block"`
	}
	if err := dec.Decode(&provider); err != nil {
		return nil, err
	}
	info := &providerInfo{
		Endpoints: sortedKeys(provider.Block.BlockTypes["endpoints"].Block.Attributes),
		Arguments: sortedKeys(provider.Block.Attributes),
	}
	if len(info.Endpoints) == 0 {
		return nil, errors.New("the provider has no endpoints to set")
	}
	return info, nil
}

// enter moves the decoder to the value at a path of object keys.
func enter(dec *json.Decoder, keys ...string) error {
	for _, want := range keys {
		if t, err := dec.Token(); err != nil {
			return err
		} else if t != json.Delim('{') {
			return fmt.Errorf("no object around %q", want)
		}
		for {
			if !dec.More() {
				return fmt.Errorf("no %q in the schema", want)
			}
			key, err := dec.Token()
			if err != nil {
				return err
			}
			if key == want {
				break
			}
			if err := skip(dec); err != nil {
				return err
			}
		}
	}
	return nil
}

// skip passes over one value without keeping it.
func skip(dec *json.Decoder) error {
	for depth := 0; ; {
		t, err := dec.Token()
		if err != nil {
			return err
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
	}
}
