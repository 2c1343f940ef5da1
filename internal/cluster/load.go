package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// imageIDLabel is the label that Load puts on an image in a node's containerd:
// the engine's ID of the image, by which the next Load knows it.
const imageIDLabel = "sandbox.image-id"

// Load puts an image of the engine into every node that does not hold it yet,
// and reports whether there was such a node. The image is streamed, never held
// in memory or on disk; layers that all receiving nodes hold are left out.
func (c *Cluster) Load(ctx context.Context, ref string, rep event.Reporter) (bool, error) {
	img, err := c.rt.Image(ctx, ref)
	if err != nil {
		return false, fmt.Errorf("load image %q into cluster %q: %w", ref, c.Name(), err)
	}
	nodes, err := c.nodes(ctx)
	if err != nil {
		return false, err
	}
	if len(nodes) == 0 {
		return false, c.down("image " + ref + " cannot be loaded")
	}
	var missing []runtime.Container
	for _, n := range nodes {
		held, err := c.holds(ctx, n, ref, img.ID)
		if err != nil {
			return false, fmt.Errorf("load image %q: %w", ref, err)
		}
		if !held {
			missing = append(missing, n)
		}
	}
	if len(missing) == 0 {
		return false, nil
	}
	if err := c.stream(ctx, ref, img, missing, rep); err != nil {
		return false, err
	}
	for _, n := range missing {
		if _, err := c.ctr(ctx, n, nil, "images", "label", ref, imageIDLabel+"="+img.ID); err != nil {
			return false, fmt.Errorf("label image %q: %w", ref, err)
		}
	}
	return true, nil
}

// holds reports whether the node has the image of that name with that ID.
func (c *Cluster) holds(ctx context.Context, node runtime.Container, ref, id string) (bool, error) {
	out, err := c.ctr(ctx, node, nil, "images", "ls", "-q", fmt.Sprintf("name==%q,labels.%q==%q", ref, imageIDLabel, id))
	return strings.TrimSpace(out) != "", err
}

// stream sends the image's archive from the engine to all nodes at once.
func (c *Cluster) stream(ctx context.Context, ref string, img runtime.Image, nodes []runtime.Container, rep event.Reporter) error {
	have, err := c.commonBlobs(ctx, nodes)
	if err != nil {
		return fmt.Errorf("load image %q: %w", ref, err)
	}
	g, ctx := errgroup.WithContext(ctx)
	var sinks []io.Writer
	var pipes []*io.PipeWriter
	for _, n := range nodes {
		r, w := io.Pipe()
		sinks, pipes = append(sinks, w), append(pipes, w)
		g.Go(func() error {
			_, err := c.ctr(ctx, n, r, "images", "import", "--local", "--digests", "-")
			r.CloseWithError(cmpErr(err, io.ErrClosedPipe))
			return err
		})
	}
	saved, save := io.Pipe()
	g.Go(func() error {
		err := c.rt.SaveImage(ctx, ref, save)
		save.CloseWithError(err)
		return err
	})
	g.Go(func() error {
		meter := &meter{rep: rep, text: "loading " + ref + " into the cluster", total: img.Size}
		err := sparseArchive(io.TeeReader(saved, meter), io.MultiWriter(sinks...), ref, have)
		saved.CloseWithError(cmpErr(err, io.ErrClosedPipe))
		for _, p := range pipes {
			p.CloseWithError(err)
		}
		return err
	})
	if err := g.Wait(); err != nil {
		if errors.Is(err, context.Canceled) {
			return err
		}
		return fault.Wrap(fault.Failed, err, "sandbox up", "load image %q into cluster %q", ref, c.Name())
	}
	return nil
}

// cmpErr is err, or instead where err is nil.
func cmpErr(err, instead error) error {
	if err != nil {
		return err
	}
	return instead
}

// commonBlobs returns the digests of the blobs that all the nodes hold.
func (c *Cluster) commonBlobs(ctx context.Context, nodes []runtime.Container) (map[string]bool, error) {
	var common []string
	for i, n := range nodes {
		out, err := c.ctr(ctx, n, nil, "content", "ls", "-q")
		if err != nil {
			return nil, err
		}
		blobs := strings.Fields(out)
		if i == 0 {
			common = blobs
			continue
		}
		common = slices.DeleteFunc(common, func(b string) bool { return !slices.Contains(blobs, b) })
	}
	set := make(map[string]bool, len(common))
	for _, b := range common {
		set[b] = true
	}
	return set, nil
}

// ctr runs containerd's client in a node and returns its output.
func (c *Cluster) ctr(ctx context.Context, node runtime.Container, stdin io.Reader, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	code, err := c.rt.Exec(ctx, node.ID, runtime.ExecSpec{
		Cmd:    append([]string{"ctr", "--namespace=k8s.io"}, args...),
		Stdin:  stdin,
		Stdout: &stdout,
		Stderr: &stderr,
	})
	switch {
	case err != nil:
		return "", fmt.Errorf("ctr %s in node %s: %w", args[0]+" "+args[1], node.Name, err)
	case code != 0:
		return "", fmt.Errorf("ctr %s in node %s: exit code %d: %s", args[0]+" "+args[1], node.Name, code,
			strings.Join(tail(stderr.String(), 2), "; "))
	}
	return stdout.String(), nil
}

// meter reports how many bytes were written to it, in steps.
type meter struct {
	rep         event.Reporter
	text        string
	done, total int64
	said        int64
}

// meterStep is how many bytes pass between two reports.
const meterStep = 8 << 20

func (m *meter) Write(p []byte) (int, error) {
	m.done += int64(len(p))
	if m.said == 0 || m.done-m.said >= meterStep {
		m.said = m.done
		m.rep.Progress(event.Progress{Text: m.text, Done: m.done, Total: max(m.total, m.done), Unit: "bytes"})
	}
	return len(p), nil
}
