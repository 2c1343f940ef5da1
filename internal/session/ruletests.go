package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/plan"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/detect"
	"github.com/sandbox-stack/sandbox/internal/steps"
)

const (
	// testsMount is where the tests are in the container that runs them.
	testsMount = "/tests"
	// testTimeout bounds the run of one test file.
	testTimeout = 2 * time.Minute
)

// TestRules runs the unit tests of the stack's rules with the promtool of the
// Prometheus image. It needs an engine, and no sandbox.
func TestRules(ctx context.Context, w Wanted, opt Options, sinks ...event.Sink) error {
	files := w.Stack.Spec.Observability.Tests
	if len(files) == 0 {
		return fault.New(fault.Invalid, "the stack has no tests of its rules", "observability.tests names none", "docs/stack.md")
	}
	return withEngine(ctx, detect.Choice{Engine: opt.Runtime}, func(engine runtime.Runtime) error {
		t := &ruleTests{engine: engine, wanted: w, opt: opt}
		list := []steps.Step{{ID: "platform/prometheus", Title: "image prometheus", Apply: t.image}}
		for _, file := range files {
			list = append(list, steps.Step{
				ID: "test/" + file, Title: "test " + file, After: []string{"platform/prometheus"},
				Apply: func(ctx context.Context, rep event.Reporter) (steps.Result, error) { return t.run(ctx, file) },
			})
		}
		began := time.Now()
		log := event.NewLog(newRun(), nil, sinks...)
		log.Emit(event.PlanReady{Stack: w.Name, Command: "alerts test", Steps: steps.Plan(list)})
		err := run(ctx, list, log.Emit)
		log.Emit(event.RunFinished{OK: err == nil, Error: steps.Problem(err), Elapsed: time.Since(began)})
		return errors.Join(err, log.Close())
	})
}

type ruleTests struct {
	engine runtime.Runtime
	wanted Wanted
	opt    Options
	ref    string // of the Prometheus image
}

func (t *ruleTests) image(ctx context.Context, rep event.Reporter) (steps.Result, error) {
	_, resolver, err := newResolver(t.engine, t.opt.Images)
	if err != nil {
		return steps.Result{}, err
	}
	got, err := resolver.Ensure(ctx, plan.PrometheusImage, rep)
	t.ref = got.Ref
	return steps.Result{Note: got.Version + " from " + string(got.Source)}, err
}

// run runs one test file, in a folder that holds copies of it and of the rules
// that it is about.
func (t *ruleTests) run(ctx context.Context, file string) (res steps.Result, err error) {
	ctx, cancel := context.WithTimeout(ctx, testTimeout)
	defer cancel()
	tests, err := readTestFile(t.wanted.Stack.Path(file))
	if err != nil {
		return res, err
	}
	cache, err := cacheDir()
	if err != nil {
		return res, err
	}
	dir, err := os.MkdirTemp(cache, "ruletests-")
	if err != nil {
		return res, fmt.Errorf("a folder for the tests: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := t.copyTo(dir, file, tests); err != nil {
		return res, err
	}
	exit, out, err := t.promtool(ctx, dir, "test", "rules", path.Join(testsMount, filepath.ToSlash(file)))
	if err != nil {
		return res, err
	}
	if exit != 0 {
		lines := strings.Split(strings.TrimSpace(out), "\n")
		return res, &fault.Error{
			Code: fault.Unhealthy, What: "the rules do not pass " + file, Why: firstFailure(lines),
			Try: "correct the rules or the test", Log: lines,
		}
	}
	count := 0
	for _, test := range tests.Tests {
		count += len(test.AlertRuleTest)
	}
	return steps.Result{Note: fmt.Sprintf("%d tests of alerts", count)}, nil
}

// firstFailure is the first line of promtool's output that says what is wrong.
func firstFailure(lines []string) string {
	for i, line := range lines {
		if strings.Contains(line, "FAILED") && i+1 < len(lines) {
			return strings.TrimRight(strings.TrimSpace(lines[i+1]), ",")
		}
	}
	return strings.TrimSpace(lines[len(lines)-1])
}

// copyTo copies a test file and its rule files into dir, where they lie to each
// other as in the stack.
func (t *ruleTests) copyTo(dir, file string, tests testFile) error {
	names := []string{file}
	for _, pattern := range tests.RuleFiles {
		rel := path.Join(path.Dir(file), pattern)
		found, err := filepath.Glob(t.wanted.Stack.Path(rel))
		if err != nil || len(found) == 0 || !filepath.IsLocal(filepath.FromSlash(rel)) {
			return fault.New(fault.Invalid, fmt.Sprintf("no rule file %s for the test %s", pattern, file), "rule_files are relative to the test file, in the stack's folder", "correct rule_files of "+file)
		}
		for _, f := range found {
			name, err := filepath.Rel(t.wanted.Stack.Dir, f)
			if err != nil {
				return fmt.Errorf("rule file %s: %w", f, err)
			}
			names = append(names, filepath.ToSlash(name))
		}
	}
	for _, name := range names {
		data, err := os.ReadFile(t.wanted.Stack.Path(name))
		if err != nil {
			return fmt.Errorf("copy the tests: %w", err)
		}
		to := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return fmt.Errorf("copy the tests: %w", err)
		}
		if err := os.WriteFile(to, data, 0o644); err != nil {
			return fmt.Errorf("copy the tests: %w", err)
		}
	}
	// The image's user is another one, whatever the umask is; there is nothing
	// secret in rules.
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, 0o755)
		}
		return os.Chmod(path, 0o644)
	})
}

// promtool runs promtool in a container of its own.
func (t *ruleTests) promtool(ctx context.Context, dir string, args ...string) (exit int, out string, err error) {
	name := fmt.Sprintf("sandbox-%s-%s", t.wanted.Name, filepath.Base(dir))
	c, err := t.engine.CreateContainer(ctx, runtime.ContainerSpec{
		Name: name, Image: t.ref, Entrypoint: []string{"/bin/promtool"}, Cmd: args,
		Mounts: []runtime.Mount{{Source: dir, Target: testsMount, ReadOnly: true}},
		Labels: map[string]string{runtime.LabelName: t.wanted.Name, runtime.LabelComponent: "test/rules"},
	})
	if err != nil {
		return 0, "", fmt.Errorf("create a container for promtool: %w", err)
	}
	defer func() {
		err = errors.Join(err, t.engine.RemoveContainer(context.WithoutCancel(ctx), c.ID))
	}()
	if err := t.engine.StartContainer(ctx, c.ID); err != nil {
		return 0, "", fmt.Errorf("start promtool: %w", err)
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		now, err := t.engine.Container(ctx, c.ID)
		if err != nil {
			return 0, "", fmt.Errorf("wait for promtool: %w", err)
		}
		if !now.Running() && now.State != "created" && now.State != "initialized" {
			var log bytes.Buffer
			err := t.engine.Logs(ctx, c.ID, runtime.LogOptions{}, &log)
			return now.ExitCode, log.String(), err
		}
		select {
		case <-ctx.Done():
			return 0, "", context.Cause(ctx)
		case <-tick.C:
		}
	}
}
