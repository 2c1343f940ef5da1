package terraform

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	tfjson "github.com/hashicorp/terraform-json"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
)

// feed sends a recorded output of the real tool through a stream, in pieces
// that do not end where lines do.
func feed(t *testing.T, s *stream, name string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	for piece := range slices.Chunk(data, 100) {
		if n, err := s.Write(piece); n != len(piece) || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
	}
	s.finish()
}

func TestStreamOfPlan(t *testing.T) {
	rep := &recorder{}
	s := newStream(rep, "terraform", "planning")
	feed(t, s, "plan.jsonl")
	if s.sum != (summary{added: 4}) || s.sum.total() != 4 || len(s.planned) != 4 || len(s.diags) != 0 {
		t.Errorf("sum %+v, planned %+v, diags %+v", s.sum, s.planned, s.diags)
	}
	if c := s.planned[1]; c.Address != "terraform_data.a[0]" || c.Type != "terraform_data" || c.Action != "create" {
		t.Errorf("planned %+v", s.planned)
	}
	if !s.changes() || !s.outputs || s.total != 4 {
		t.Errorf("stream = %+v", s)
	}
	if rep.log() != "terraform: Plan: 4 to add, 0 to change, 0 to destroy." {
		t.Errorf("log = %s", rep.log())
	}
}

func TestStreamOfFailingApply(t *testing.T) {
	rep := &recorder{}
	s := newStream(rep, "terraform", "applying")
	s.total = 4
	feed(t, s, "apply.jsonl")
	if s.done != 3 || !slices.Equal(s.failed, []string{"terraform_data.bad"}) || len(s.running) != 0 {
		t.Errorf("done %d, failed %v, running %v", s.done, s.failed, s.running)
	}
	if len(s.diags) != 1 || s.diags[0].Address != "terraform_data.bad" {
		t.Errorf("diags = %+v", s.diags)
	}
	if !slices.ContainsFunc(rep.progress, func(p event.Progress) bool {
		return p.Text == "terraform_data.slow: creating" && p.Total == 4 && p.Unit == "resources"
	}) {
		t.Errorf("progress = %+v", rep.progress)
	}
	for _, want := range []string{"terraform_data.slow: (local-exec): hi", "Error: local-exec provisioner error"} {
		if !strings.Contains(rep.log(), want) {
			t.Errorf("log lacks %q:\n%s", want, rep.log())
		}
	}
}

func TestStreamOfInitKeepsPlainTextWithoutColours(t *testing.T) {
	rep := &recorder{}
	s := newStream(rep, "terraform", "installing")
	feed(t, s, "init.jsonl")
	if !strings.Contains(rep.log(), "Successfully configured the backend \"local\"!") || strings.Contains(rep.log(), "\x1b") {
		t.Errorf("log = %q", rep.log())
	}
}

func TestStreamLearnsFromEndpointWarnings(t *testing.T) {
	rep := &recorder{}
	s := newStream(rep, "terraform", "planning")
	old := `{"@level":"warn","@message":"Warning: old","type":"diagnostic","diagnostic":{"severity":"warning","summary":"old","detail":"do\nnew"}}`
	for _, line := range []string{
		`{"@level":"warn","@message":"Warning: Invalid Attribute Combination","type":"diagnostic","diagnostic":{"severity":"warning","summary":"Invalid Attribute Combination","detail":"Only one of the following attributes should be set: \"endpoints[0].s3\", \"endpoints[0].s3api\"\n\nThis will be an error in a future release."}}`,
		`{"@level":"warn","@message":"Warning: Redundant empty provider block","type":"diagnostic","diagnostic":{"severity":"warning","summary":"Redundant empty provider block"}}`,
		`{"@level":"info","@message":"You may now begin","type":"init_output","message_code":"output_init_success_cli_message"}`,
		old, old,
	} {
		if _, err := s.Write([]byte(line + "\n")); err != nil {
			t.Fatal(err)
		}
	}
	if rep.log() != "terraform: Warning: old: do new" || len(s.diags) != 0 {
		t.Errorf("log = %q, diags %v", rep.log(), s.diags)
	}
	info := &providerInfo{Endpoints: []string{"iam", "s3", "s3api"}, file: filepath.Join(t.TempDir(), "schemas", "x.json")}
	if err := info.learn(s.conflicts); err != nil {
		t.Fatal(err)
	}
	kept, err := readProviderInfo(info.file)
	if err != nil || !slices.Equal(kept.Endpoints, []string{"iam", "s3"}) {
		t.Errorf("kept %+v, %v", kept, err)
	}
}

func TestLongWorkIsNeverSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rep := &recorder{}
		s := newStream(rep, "terraform", "applying")
		s.total = 2
		stop := s.follow()
		if _, err := s.Write([]byte(`{"@message":"q: Creating...","type":"apply_start","hook":{"resource":{"addr":"aws_sqs_queue.orders"},"action":"create"}}` + "\n")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(12 * time.Second) //nolint:forbidigo // virtual time
		synctest.Wait()
		stop()
		last := rep.progress[len(rep.progress)-1]
		if last.Text != "aws_sqs_queue.orders: creating 10s" || last.Done != 0 || last.Total != 2 {
			t.Errorf("last progress = %+v", last)
		}

		rep = &recorder{}
		stop = report(rep, "asking")
		time.Sleep(6 * time.Second) //nolint:forbidigo // virtual time
		synctest.Wait()
		stop()
		if len(rep.progress) != 2 || rep.progress[0].Text != "asking" || rep.progress[1].Text != "asking 5s" {
			t.Errorf("progress = %+v", rep.progress)
		}
	})
}

func TestFailureTexts(t *testing.T) {
	m := module(t, map[string]string{"main.tf": ""})
	tool := Tool{Name: "terraform", Version: "1.11.4"}
	at := func(file string, line int) *tfjson.Range {
		return &tfjson.Range{Filename: file, Start: tfjson.Pos{Line: line, Column: 3}}
	}
	main := filepath.Join(m.cfg.SourceDir, "main.tf")
	cases := []struct {
		name      string
		diags     []tfjson.Diagnostic
		code      fault.Code
		what, why string
		pos, try  string
		leftovers bool
	}{
		{
			name: "nothing said", code: fault.Failed,
			what: "terraform apply of infra failed", why: "exit status 1", try: "correct it, then sandbox up continues (1 of 2 kept)",
		},
		{
			name: "several", code: fault.Failed,
			diags: []tfjson.Diagnostic{
				{Severity: "error", Summary: "creating thing", Detail: "the API\nsaid no", Address: "aws_x.y", Range: at("main.tf", 7)},
				{Severity: "error", Summary: "other"},
			},
			what: "terraform apply of infra failed: aws_x.y: creating thing (and 1 more)", why: "the API said no", pos: main + ":7:3",
			try: "correct it, then sandbox up continues (1 of 2 kept)",
		},
		{
			name: "emulator gone", code: fault.Unavailable,
			diags: []tfjson.Diagnostic{{Severity: "error", Summary: "creating S3 Bucket", Detail: `Put "http://127.0.0.1:4566/b": dial tcp 127.0.0.1:4566: connect: connection refused`}},
			what:  "terraform apply of infra failed: creating S3 Bucket", why: `Put "http://127.0.0.1:4566/b": dial tcp 127.0.0.1:4566: connect: connection refused`,
			try: "sandbox status shows how the emulator is; sandbox up continues",
		},
		{
			name: "left over", code: fault.Failed, leftovers: true,
			diags: []tfjson.Diagnostic{{Severity: "error", Summary: "creating IAM Role (app)", Detail: "EntityAlreadyExists: Role with name app already exists."}},
			what:  "terraform apply of infra failed: creating IAM Role (app)", why: "EntityAlreadyExists: Role with name app already exists.",
			try: "sandbox down, then sandbox up: an earlier run was killed before it could record what it created",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := newStream(event.Discard, "terraform", "")
			s.diags = c.diags
			err := m.failure("apply", tool, s, errors.New("exit status 1"), "1 of 2 kept")
			f := asFault(t, err)
			if f.Code != c.code || f.What != c.what || f.Reason() != c.why || f.Pos != c.pos || f.Try != c.try {
				t.Errorf("fault:\n%s\ncode %s, pos %q", f, f.Code, f.Pos)
			}
			if errors.Is(err, ErrLeftovers) != c.leftovers {
				t.Errorf("leftovers = %v", !c.leftovers)
			}
		})
	}
}

func TestInterruptedTexts(t *testing.T) {
	m := module(t, map[string]string{"main.tf": ""})
	tool := Tool{Name: "tofu", Version: "1.12.6"}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	f := asFault(t, m.interrupted(gone, "apply", tool, "1 of 2 kept"))
	if f.Code != fault.Interrupted || f.What != "tofu apply of infra was interrupted" || f.Why != "1 of 2 kept" {
		t.Errorf("fault = %+v", f)
	}
	late, cancel := context.WithDeadline(context.Background(), time.Unix(0, 0))
	defer cancel()
	if f := asFault(t, m.interrupted(late, "apply", tool, "")); f.Code != fault.Timeout {
		t.Errorf("fault = %+v", f)
	}
}
