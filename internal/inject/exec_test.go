package inject

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/stack"
)

func TestExecRunsACommandAndTheOneThatUndoesIt(t *testing.T) {
	var ran []string
	exit := 0
	w := World{Exec: func(_ context.Context, component string, command []string, out io.Writer) (int, error) {
		ran = append(ran, component+": "+strings.Join(command, "|"))
		for i := range 2000 {
			fmt.Fprintf(out, "line %d\n", i)
		}
		return exit, nil
	}}
	in, err := New(stack.Inject{Exec: &stack.ExecFault{
		Component: "release/web-app", Run: []string{"sh", "-c", "touch /tmp/x"}, Undo: []string{"rm", "-f", "/tmp/x"},
	}}, w)
	require.NoError(t, err)
	rec, err := in.Prepare(t.Context())
	require.NoError(t, err)
	assert.Equal(t, `run sh -c "touch /tmp/x" in release/web-app`, rec.What)
	assert.Equal(t, []string{"component release/web-app"}, rec.Targets)
	assert.Equal(t, LevelStack, rec.Level)
	assert.Empty(t, ran)

	require.NoError(t, in.Inject(t.Context(), kept(t, rec)))
	for range 2 {
		require.NoError(t, Undo(t.Context(), kept(t, rec), w))
	}
	undo := "release/web-app: rm|-f|/tmp/x"
	assert.Equal(t, []string{"release/web-app: sh|-c|touch /tmp/x", undo, undo}, ran)

	exit = 3
	for _, err := range []error{in.Inject(t.Context(), rec), Undo(t.Context(), kept(t, rec), w)} {
		var failed *fault.Error
		require.ErrorAs(t, err, &failed)
		assert.Contains(t, failed.Why, "exit code 3")
		assert.Len(t, failed.Log, 10)
		assert.Equal(t, "line 1999", failed.Log[9])
	}
}

func TestExecInAContainerNeedsTheEngineOnly(t *testing.T) {
	in, err := New(stack.Inject{Exec: &stack.ExecFault{Component: "aws", Run: []string{"true"}, Undo: []string{"true"}}}, World{})
	require.NoError(t, err)
	rec, err := in.Prepare(t.Context())
	require.NoError(t, err)
	assert.Equal(t, LevelStack, rec.Level)
}

// An error of the user's files may be over with the next look: only what is gone
// is not tried again.
func TestExecIsUndoneAgainUnlessItsComponentIsGone(t *testing.T) {
	for _, c := range []struct {
		err   error
		gone  bool
		tries int
	}{
		{fault.New(fault.Invalid, "not now", "", ""), false, 2},
		{Gone(fault.New(fault.Invalid, "no component", "", "")), true, 1},
	} {
		tries := 0
		w := World{Exec: func(context.Context, string, []string, io.Writer) (int, error) {
			if tries++; tries > 1 {
				return 0, nil
			}
			return 0, c.err
		}}
		in, err := New(stack.Inject{Exec: &stack.ExecFault{Component: "aws", Undo: []string{"true"}}}, w)
		require.NoError(t, err)
		rec, err := in.Prepare(t.Context())
		require.NoError(t, err)
		err = Undo(t.Context(), rec, w)
		assert.Equal(t, c.gone, errors.Is(err, ErrGone))
		assert.Equal(t, c.tries, tries)
		if c.gone {
			invalid(t, err, c.err.Error())
		}
	}
}

func TestTerraformTampersAndApplies(t *testing.T) {
	var calls []string
	w := World{
		Resources: func(context.Context, string) ([]string, error) {
			return []string{"aws_sqs_queue.orders", "aws_sns_topic.orders"}, nil
		},
		Tamper: func(_ context.Context, module, address, action string) error {
			calls = append(calls, action+" "+module+" "+address)
			return nil
		},
		Apply: func(_ context.Context, module string) error {
			calls = append(calls, "apply "+module)
			return nil
		},
	}
	in, err := New(stack.Inject{Terraform: &stack.TerraformFault{Module: "infra", Resource: "aws_sqs_queue.orders"}}, w)
	require.NoError(t, err)
	rec, err := in.Prepare(t.Context())
	require.NoError(t, err)
	assert.Equal(t, "delete aws_sqs_queue.orders of the module infra", rec.What)
	assert.Equal(t, []string{"terraform infra"}, rec.Targets)
	assert.Equal(t, LevelStack, rec.Level)
	assert.Empty(t, calls)
	require.NoError(t, in.Inject(t.Context(), kept(t, rec)))
	require.NoError(t, Undo(t.Context(), kept(t, rec), w))
	assert.Equal(t, []string{"delete infra aws_sqs_queue.orders", "apply infra"}, calls)

	for resource, words := range map[string]string{
		"aws_sqs_queue.order":       `did you mean "aws_sqs_queue.orders"?`,
		"module.everything.else.at": "there are aws_sns_topic.orders, aws_sqs_queue.orders",
	} {
		in, err := New(stack.Inject{Terraform: &stack.TerraformFault{Module: "infra", Resource: resource, Action: stack.TamperChange}}, w)
		require.NoError(t, err)
		_, err = in.Prepare(t.Context())
		invalid(t, err, "has no resource "+resource, words)
	}
}
