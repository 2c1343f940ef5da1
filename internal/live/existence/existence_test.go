package existence

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const state = `{"version": 4, "resources": [
 {"mode": "data", "type": "aws_caller_identity", "name": "current", "instances": [{"attributes": {"id": "1"}}]},
 {"mode": "managed", "type": "aws_sqs_queue", "name": "orders", "instances": [{"attributes": {"id": "http://aws:4566/0/orders"}}]},
 {"mode": "managed", "type": "aws_s3_bucket", "name": "b", "instances": [{"index_key": "logs", "attributes": {"id": "logs"}}]},
 {"module": "module.m", "mode": "managed", "type": "aws_kms_key", "name": "k", "instances": [{"index_key": 0, "attributes": {"id": "k-1"}}]},
 {"mode": "managed", "type": "aws_vpc", "name": "v", "instances": [{"attributes": {"id": "vpc-1"}}]}]}`

func stateIn(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "terraform.tfstate")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func read(t *testing.T) []Resource {
	t.Helper()
	list, err := ReadState(stateIn(t, state))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestReadState(t *testing.T) {
	var got []string
	for _, r := range read(t) {
		got = append(got, r.Address)
	}
	want := []string{"aws_sqs_queue.orders", `aws_s3_bucket.b["logs"]`, "module.m.aws_kms_key.k[0]", "aws_vpc.v"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if list, err := ReadState(filepath.Join(t.TempDir(), "none")); err != nil || len(list) != 0 {
		t.Errorf("without a file: %v, %v", list, err)
	}
	for name, text := range map[string]string{"torn": `{"version": 4, "res`, "another format": `{"version": 3}`} {
		if _, err := ReadState(stateIn(t, text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// answering starts an emulator that answers each service by its function, and
// returns a checker of it.
func answering(t *testing.T, answers map[string]http.HandlerFunc) Checker {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		scope := strings.Split(r.Header.Get("Authorization"), "/")
		if len(scope) < 4 || answers[scope[3]] == nil {
			http.Error(w, "unexpected", http.StatusTeapot)
			return
		}
		answers[scope[3]](w, r)
	}))
	t.Cleanup(func() { direct.CloseIdleConnections(); server.Close() })
	return Checker{Endpoint: server.URL, Region: "us-east-1", AccessKey: "test", SecretKey: "test"}
}

func saying(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func TestCheck(t *testing.T) {
	for name, tc := range map[string]struct {
		answers map[string]http.HandlerFunc
		want    []Verdict // none where it is an error
	}{
		"all there": {
			map[string]http.HandlerFunc{"sqs": saying(200, `{}`), "s3": saying(200, ""), "kms": saying(200, `{"KeyMetadata": {"KeyState": "Enabled"}}`)},
			[]Verdict{Held, Held, Held, Unknown},
		},
		"all gone": {
			map[string]http.HandlerFunc{
				"sqs": saying(400, `{"__type": "com.amazonaws.sqs#QueueDoesNotExist"}`), "s3": saying(404, ""),
				"kms": saying(200, `{"KeyMetadata": {"KeyState": "PendingDeletion"}}`),
			},
			[]Verdict{Missing, Missing, Missing, Unknown},
		},
		"an error of the emulator is no verdict": {
			map[string]http.HandlerFunc{"sqs": saying(500, `{"__type": "InternalError"}`), "s3": saying(200, ""), "kms": saying(200, "")},
			nil,
		},
		"nor is a page of another server": {
			map[string]http.HandlerFunc{"sqs": saying(403, `denied`), "s3": saying(200, ""), "kms": saying(200, "")},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := answering(t, tc.answers).Check(t.Context(), read(t))
			if (err != nil) != (tc.want == nil) || !slices.Equal(got, tc.want) {
				t.Errorf("got %v, %v, want %v", got, err, tc.want)
			}
		})
	}
}

func TestAnEmulatorThatIsGoneIsAnError(t *testing.T) {
	c := answering(t, nil)
	c.Endpoint = "http://127.0.0.1:1"
	if _, err := c.Check(t.Context(), read(t)); err == nil || !strings.Contains(err.Error(), "look for") {
		t.Errorf("got %v", err)
	}
}

func TestQuestionsNameTheResource(t *testing.T) {
	for kind, attributes := range map[string]map[string]any{
		"aws_sns_topic":             {"id": "arn:aws:sns:x:1:the-name"},
		"aws_ssm_parameter":         {"id": "/the-name"},
		"aws_secretsmanager_secret": {"id": "the-name"},
		"aws_kms_alias":             {"id": "alias/the-name"},
		"aws_dynamodb_table":        {"id": "the-name"},
		"aws_iam_role":              {"id": "the-name"},
		"aws_iam_user":              {"id": "the-name"},
		"aws_iam_policy":            {"id": "arn:aws:iam::1:policy/the-name"},
		"aws_iam_role_policy":       {"id": "r:p", "role": "r", "name": "the-name"},
		"aws_lambda_function":       {"id": "the-name"},
		"aws_s3_bucket":             {"id": "the-name"},
	} {
		q, ok := question(Resource{Type: kind, attributes: attributes})
		if !ok || !strings.Contains(q.path+string(q.body), "the-name") {
			t.Errorf("%s: asks %s %s %q", kind, q.method, q.path, q.body)
		}
		if _, ok := question(Resource{Type: kind}); ok {
			t.Errorf("%s without attributes is asked for", kind)
		}
	}
}
