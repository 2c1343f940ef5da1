package session

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/plan"
	"github.com/sandbox-stack/sandbox/internal/steps"
)

// A kind of item that is new in the plan must get a part here.
func TestEveryKindOfItemHasAPart(t *testing.T) {
	engine := useEngine(t)
	w := wanted(t, "demo")
	s, err := Start(t.Context(), w, Options{AutoPorts: true, Images: "packages"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	// No part is to get any further than its first question.
	engine.Fail = func(string, string) error { return errors.New("no more") }
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	unseen := kinds(t)
	for _, it := range plan.Build(w.Stack) {
		delete(unseen, it.Kind)
		if _, err := s.part(it)(ctx, event.Discard); errors.Is(err, errNoPart) {
			t.Error(err)
		}
	}
	for kind := range unseen {
		t.Errorf("the web-app stack has no item of kind %q to try", kind)
	}
	if _, err := s.part(plan.Item{Kind: "new", ID: "new"})(ctx, event.Discard); !errors.Is(err, errNoPart) {
		t.Errorf("an item of an unknown kind: %v", err)
	}
}

// kinds reads the constants of type Kind from the source of package plan.
func kinds(t *testing.T) map[plan.Kind]bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../plan/plan.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[plan.Kind]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); ok && typ.Name == "Kind" {
			text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			found[plan.Kind(text)] = true
		}
		return true
	})
	if !found[plan.Healthy] {
		t.Fatalf("read %v from package plan", found)
	}
	return found
}

// A run that was stopped ends with the reason itself, not with an error about
// an error; a step that failed counts more.
func TestARunThatWasStopped(t *testing.T) {
	reason := fault.New(fault.Interrupted, "interrupted", "what is there was kept", "again")
	failure := fault.New(fault.Failed, "broken", "", "")
	step := func(id string, apply func(ctx context.Context) error) steps.Step {
		return steps.Step{ID: id, Title: id, Apply: func(ctx context.Context, _ event.Reporter) (steps.Result, error) {
			return steps.Result{}, apply(ctx)
		}}
	}
	for name, tc := range map[string]struct {
		first error
		stop  error
		want  *fault.Error
	}{
		"nothing":             {nil, nil, nil},
		"stopped":             {nil, reason, reason},
		"failed":              {failure, nil, failure},
		"failed, and stopped": {failure, reason, failure},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		defer cancel(nil)
		failed := make(chan struct{})
		list := []steps.Step{
			step("a", func(context.Context) error {
				defer close(failed)
				return tc.first
			}),
			step("b", func(ctx context.Context) error {
				<-failed
				if tc.stop == nil {
					return nil
				}
				cancel(tc.stop)
				<-ctx.Done()
				return ctx.Err()
			}),
		}
		log := event.NewLog("run", nil)
		err := run(ctx, list, log.Emit)
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
		var got *fault.Error
		errors.As(err, &got)
		if got != tc.want {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
		if stopped := errors.Is(err, reason); stopped != (tc.stop != nil) {
			t.Errorf("%s: the reason is in %v: %v", name, err, stopped)
		}
	}
}
