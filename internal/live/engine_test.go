package live

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/health"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/fake"
)

// emulator is a container that logs a line and runs until it is stopped.
func emulator(t *testing.T, engine *fake.Runtime) runtime.Container {
	t.Helper()
	engine.AddImage(runtime.Image{ID: "sha256:1", Names: []string{"localstack:1"}})
	c, err := engine.CreateContainer(t.Context(), runtime.ContainerSpec{
		Name: "sandbox-x-aws", Image: "localstack:1", Cmd: []string{"serve"},
		Labels: map[string]string{runtime.LabelName: "x", runtime.LabelComponent: "aws"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func sandboxOf(engine Engine) Sources {
	component := func(c runtime.Container) string { return c.Labels[runtime.LabelComponent] }
	return Sources{
		Engine:     engine,
		Containers: []Selector{{Labels: map[string]string{runtime.LabelName: "x"}, Logs: component, Usage: component}},
		Health:     []health.Source{{Name: "aws"}, {Name: "terraform/infra"}, {Name: "release/web"}},
	}
}

func serving(line string) map[string]fake.Program {
	return map[string]fake.Program{"serve": func(ctx context.Context, p fake.Process) int {
		_, _ = p.Stdout.Write([]byte(line + "\n"))
		<-ctx.Done()
		return 137
	}}
}

func TestTheEngineAnnouncesContainersAndTheirLogs(t *testing.T) {
	engine := fake.New(serving("AWS sqs.DeleteQueue => 200"))
	c := emulator(t, engine)
	r := &recorder{}
	l := newLive(sandboxOf(engine), r.emit)
	running(t, func(ctx context.Context) { l.keep(ctx, "engine", l.followEngine) })
	running(t, l.followLogs)
	eventually(t, "contact", l.engineHeard.Load)

	if err := engine.StartContainer(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	var lines []event.LogLine
	eventually(t, "log line", func() bool { lines = append(lines, take[event.LogLine](r)...); return len(lines) > 0 })
	if want := (event.LogLine{Component: "aws", Source: "aws", Line: "AWS sqs.DeleteQueue => 200"}); lines[0].At.IsZero() || lines[0].Line != want.Line || lines[0].Component != want.Component || lines[0].Source != want.Source {
		t.Errorf("got %+v, want %+v", lines[0], want)
	}

	if err := engine.StopContainer(t.Context(), c.ID, 0); err != nil {
		t.Fatal(err)
	}
	var said []event.ObjectEvent
	eventually(t, "word of the death", func() bool {
		said = append(said, take[event.ObjectEvent](r)...)
		return slices.ContainsFunc(said, func(e event.ObjectEvent) bool {
			return e.Reason == "Died" && e.Object == "container/sandbox-x-aws" && e.Type == event.Warning
		})
	})
	for i, want := range []bool{true, true, false} {
		l.sources[i].mu.Lock()
		if got := l.sources[i].woken; got != want {
			t.Errorf("%s woken: %t, want %t", l.sources[i].name, got, want)
		}
		l.sources[i].mu.Unlock()
	}
}

func TestARestartedContainerIsFollowedAnew(t *testing.T) {
	engine := fake.New(serving("begin"))
	c := emulator(t, engine)
	r := &recorder{}
	l := newLive(sandboxOf(engine), r.emit)
	running(t, func(ctx context.Context) { l.keep(ctx, "engine", l.followEngine) })
	running(t, l.followLogs)
	eventually(t, "contact", l.engineHeard.Load)
	count := 0
	for run := 1; run <= 2; run++ {
		if err := engine.StartContainer(t.Context(), c.ID); err != nil {
			t.Fatal(err)
		}
		eventually(t, "line of the run", func() bool { count += len(take[event.LogLine](r)); return count >= run })
		if err := engine.StopContainer(t.Context(), c.ID, 0); err != nil {
			t.Fatal(err)
		}
	}
	if count != 2 {
		t.Errorf("%d lines of two runs", count)
	}
}

func TestContainersOfOthersAreNotTold(t *testing.T) {
	r := &recorder{}
	l := newLive(sandboxOf(fake.New(nil)), r.emit)
	for _, e := range []runtime.Event{
		{Action: "die", Name: "mysql", Labels: map[string]string{}},
		{Action: "die", Name: "sandbox-y-aws", Labels: map[string]string{runtime.LabelName: "y"}},
		{Action: "exec", Name: "sandbox-x-aws", Labels: map[string]string{runtime.LabelName: "x"}, Time: time.Now()},
	} {
		if err := l.containerEvent(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if said := take[event.ObjectEvent](r); len(said) != 0 {
		t.Errorf("told %+v", said)
	}
}
