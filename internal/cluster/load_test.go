package cluster

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// nodeStore plays ctr in the nodes.
type nodeStore struct {
	t        *testing.T
	mu       sync.Mutex
	labelled map[string]bool              // by node
	blobs    map[string][]string          // by node
	imported map[string]map[string]string // archive by node
	fail     bool
}

func (s *nodeStore) exec(cmd string, spec runtime.ExecSpec) int {
	id, args, _ := strings.Cut(cmd, ": ctr --namespace=k8s.io ")
	switch {
	case strings.HasPrefix(args, "images ls"):
		if !strings.Contains(args, `name=="localhost/app:1",labels."sandbox.image-id"=="sha256:app"`) {
			s.t.Errorf("filter of %q", args)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.labelled[id] {
			_, _ = io.WriteString(spec.Stdout, "localhost/app:1\n")
		}
	case strings.HasPrefix(args, "content ls"):
		_, _ = io.WriteString(spec.Stdout, strings.Join(s.blobs[id], "\n"))
	case strings.HasPrefix(args, "images import"):
		if s.fail {
			_, _ = io.WriteString(spec.Stderr, "ctr: no space left on device\n")
			return 1
		}
		var all bytes.Buffer
		if _, err := io.Copy(&all, spec.Stdin); err != nil {
			return 1
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.imported[id] = unpack(s.t, &all)
	case strings.HasPrefix(args, "images label"):
		s.mu.Lock()
		defer s.mu.Unlock()
		s.labelled[id] = true
	default:
		s.t.Errorf("unexpected command %q", cmd)
	}
	return 0
}

func newStore(t *testing.T, nodes ...string) (*nodeStore, *Cluster) {
	t.Helper()
	s := &nodeStore{t: t, labelled: map[string]bool{}, blobs: map[string][]string{}, imported: map[string]map[string]string{}}
	e := newEngine()
	for _, n := range nodes {
		e.nodes = append(e.nodes, node(n))
	}
	e.imageID, e.exec = "sha256:app", s.exec
	data := podmanArchive(t).Bytes()
	e.save = func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	}
	return s, newCluster(t, e, len(nodes))
}

func TestLoadOnce(t *testing.T) {
	s, c := newStore(t, "control-plane", "worker")
	s.blobs["id-control-plane"] = []string{"sha256:" + sum("base"), "sha256:" + sum("app")}
	s.blobs["id-worker"] = []string{"sha256:" + sum("base")}
	for i, want := range []bool{true, false} {
		loaded, err := c.Load(t.Context(), "localhost/app:1", event.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if loaded != want {
			t.Errorf("load %d: loaded %v", i+1, loaded)
		}
	}
	for _, id := range []string{"id-control-plane", "id-worker"} {
		if _, sent := s.imported[id]["blobs/sha256/"+sum("base")]; sent {
			t.Errorf("%s was sent a layer that both have", id)
		}
		if _, sent := s.imported[id]["blobs/sha256/"+sum("app")]; !sent {
			t.Errorf("%s was not sent a layer that one lacks", id)
		}
	}
}

func TestLoadOnlyWhereItIsMissing(t *testing.T) {
	s, c := newStore(t, "control-plane", "worker")
	s.labelled["id-control-plane"] = true
	loaded, err := c.Load(t.Context(), "localhost/app:1", event.Discard)
	if err != nil || !loaded {
		t.Fatalf("loaded %v, %v", loaded, err)
	}
	if got := slices.Sorted(func(yield func(string) bool) {
		for id := range s.imported {
			if !yield(id) {
				return
			}
		}
	}); !slices.Equal(got, []string{"id-worker"}) {
		t.Errorf("imported into %v", got)
	}
}

// A failure on either end must end the load with that end's own reason.
func TestLoadThatFails(t *testing.T) {
	s, c := newStore(t, "control-plane")
	s.fail = true
	if _, err := c.Load(t.Context(), "localhost/app:1", event.Discard); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("error %v", err)
	}
	_, c = newStore(t, "control-plane")
	c.rt.(*engine).save = func(io.Writer) error { return errors.New("image is corrupt") }
	if _, err := c.Load(t.Context(), "localhost/app:1", event.Discard); err == nil || !strings.Contains(err.Error(), "image is corrupt") {
		t.Errorf("error %v", err)
	}
}
