package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/sandbox-stack/sandbox/internal/cluster"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/fake"
)

func TestMergedLogs(t *testing.T) {
	source := func(name, text string) logSource {
		return logSource{name, func(_ context.Context, w io.Writer) error {
			_, err := io.WriteString(w, text)
			return err
		}}
	}
	var out bytes.Buffer
	sources := []logSource{source("aws", "one\r\ntwo"), source("release/x", "\x1b[31mred\x1b[0m\n")}
	if err := mergeLogs(t.Context(), sources, false, &out); err != nil {
		t.Fatal(err)
	}
	if want := "aws       | one\naws       | two\nrelease/x | red\n"; out.String() != want {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
	}
	out.Reset()
	if err := mergeLogs(t.Context(), sources[:1], true, &out); err != nil {
		t.Fatal(err)
	}
	if out.String() != "one\ntwo\n" {
		t.Errorf("a single source needs no prefix: %q", out.String())
	}
	broken := logSource{"aws", func(context.Context, io.Writer) error { return errors.New("engine gone") }}
	if err := mergeLogs(t.Context(), []logSource{broken}, false, &out); err == nil || !strings.Contains(err.Error(), "engine gone") {
		t.Errorf("got %v", err)
	}
}

// What is followed comes as it comes, but each source keeps its order and no
// line is torn by another.
func TestFollowedLogsKeepTheOrderOfEachSource(t *testing.T) {
	const lines = 300
	var sources []logSource
	for _, name := range []string{"aws", "cluster", "release/x"} {
		sources = append(sources, logSource{name, func(_ context.Context, w io.Writer) error {
			for i := range lines {
				if _, err := fmt.Fprintf(w, "line %d\n", i); err != nil {
					return err
				}
			}
			return nil
		}})
	}
	var out bytes.Buffer
	if err := mergeLogs(t.Context(), sources, true, &out); err != nil {
		t.Fatal(err)
	}
	next := map[string]int{}
	for line := range strings.Lines(out.String()) {
		name, text, _ := strings.Cut(line, "| ")
		name = strings.TrimSpace(name)
		if want := fmt.Sprintf("line %d\n", next[name]); text != want {
			t.Fatalf("%s: %q, want %q", name, text, want)
		}
		next[name]++
	}
	for _, src := range sources {
		if next[src.name] != lines {
			t.Errorf("%s: %d lines of %d", src.name, next[src.name], lines)
		}
	}
}

// An interrupt ends the following, and is no error.
func TestFollowingEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	endless := logSource{"aws", func(ctx context.Context, w io.Writer) error {
		if _, err := io.WriteString(w, "one\n"); err != nil {
			return err
		}
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}}
	var out bytes.Buffer
	if err := mergeLogs(ctx, []logSource{endless, endless}, true, &out); err != nil {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(out.String(), "aws | one\n") {
		t.Errorf("got %q", out.String())
	}
}

// A reader that has seen enough, as in "sandbox logs | head -1", ends it all.
func TestLogsEndWithTheirReader(t *testing.T) {
	closed := errors.New("closed pipe")
	endless := logSource{"aws", func(_ context.Context, w io.Writer) error {
		for {
			if _, err := io.WriteString(w, "line\n"); err != nil {
				return err
			}
		}
	}}
	err := mergeLogs(t.Context(), []logSource{endless, endless}, true, refusing{closed})
	if !errors.Is(err, closed) {
		t.Errorf("got %v", err)
	}
}

type refusing struct{ err error }

func (r refusing) Write([]byte) (int, error) { return 0, r.err }

func TestALongLineComesInPieces(t *testing.T) {
	const length = 200_000
	long := logSource{"aws", func(_ context.Context, w io.Writer) error {
		_, err := io.WriteString(w, strings.Repeat("x", length)+"\nshort")
		return err
	}}
	var pieces []string
	r, w := io.Pipe()
	go func() { w.CloseWithError(long.read(t.Context(), w)) }()
	if err := eachLine(r, func(line string) error {
		pieces = append(pieces, line)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if len(pieces) < 3 || pieces[len(pieces)-1] != "short" || len(strings.Join(pieces, "")) != length+len("short") {
		t.Errorf("%d pieces, the last %q", len(pieces), pieces[len(pieces)-1])
	}
}

// The logs of a sandbox: of one component, of all, and where there are none.
func TestLogsOfComponents(t *testing.T) {
	engine := useEngine(t)
	engine.Programs = map[string]fake.Program{"say": func(_ context.Context, p fake.Process) int {
		for _, word := range p.Args {
			fmt.Fprintln(p.Stdout, word)
		}
		return 0
	}}
	s, err := Start(t.Context(), wanted(t, "demo"), Options{AutoPorts: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	engine.AddImage(runtime.Image{ID: "sha256:1", Names: []string{"x"}})
	say(t, engine, "sandbox-demo-aws", map[string]string{runtime.LabelName: "demo", runtime.LabelComponent: "aws"}, "one", "\x1b[2Jtwo", "three")
	say(t, engine, "sandbox-demo-control-plane", map[string]string{cluster.LabelKind: cluster.KindName("demo")}, "booted")
	say(t, engine, "sandbox-other-aws", map[string]string{runtime.LabelName: "other", runtime.LabelComponent: "aws"}, "foreign")

	var out bytes.Buffer
	if err := s.Logs(t.Context(), "aws", LogOptions{Tail: 2}, &out); err != nil {
		t.Fatal(err)
	}
	if out.String() != "two\nthree\n" {
		t.Errorf("aws: %q", out.String())
	}

	out.Reset()
	if err := s.Logs(t.Context(), "", LogOptions{}, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"sandbox-demo-control-plane | booted\n", "aws                        | one\n",
		"observe/prometheus: no logs: observe/prometheus has no container: it is not there\n", "release/web-app: no logs: ",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "foreign") {
		t.Errorf("another sandbox's logs:\n%s", out.String())
	}

	var f *fault.Error
	if err := s.Logs(t.Context(), "awss", LogOptions{}, &out); !errors.As(err, &f) || f.Code != fault.Invalid || !strings.Contains(f.Why, "release/web-app") || f.Try == "" {
		t.Errorf("an unknown component: %v", err)
	}
	if err := s.Logs(t.Context(), "observe/prometheus", LogOptions{}, &out); !errors.As(err, &f) || f.Code != fault.Unavailable || f.Try == "" {
		t.Errorf("a component without a container: %v", err)
	}
}

// say runs a container that prints the words and ends.
func say(t *testing.T, engine *fake.Runtime, name string, labels map[string]string, words ...string) {
	t.Helper()
	c, err := engine.CreateContainer(t.Context(), runtime.ContainerSpec{Name: name, Image: "x", Cmd: append([]string{"say"}, words...), Labels: labels})
	if err != nil {
		t.Fatal(err)
	}
	if err := engine.StartContainer(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	if err := engine.Logs(t.Context(), c.ID, runtime.LogOptions{Follow: true}, io.Discard); err != nil { // until it has ended
		t.Fatal(err)
	}
}
