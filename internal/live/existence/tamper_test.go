package existence

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

// heard is an emulator that says yes to all, and notes what it is asked for.
func heard(t *testing.T, service string, answer func(r *http.Request, body string) (int, string)) (Checker, *[]string) {
	t.Helper()
	var requests []string
	return answering(t, map[string]http.HandlerFunc{service: func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		requests = append(requests, r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("X-Amz-Target")+" "+string(body))
		status, text := answer(r, string(body))
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}}), &requests
}

func yes(*http.Request, string) (int, string) { return 200, `{}` }

func TestTheRequestsThatTamper(t *testing.T) {
	r := Resource{Address: "aws_dynamodb_table.t", Type: "aws_dynamodb_table", attributes: map[string]any{"id": "the-name", "arn": "the-arn"}}
	c, requests := heard(t, "dynamodb", yes)
	require.NoError(t, c.Delete(t.Context(), r))
	require.NoError(t, c.Change(t.Context(), r))
	assert.Equal(t, []string{
		`POST / DynamoDB_20120810.DescribeTable {"TableName":"the-name"}`,
		`POST / DynamoDB_20120810.DeleteTable {"TableName":"the-name"}`,
		`POST / DynamoDB_20120810.DescribeTable {"TableName":"the-name"}`,
		`POST / DynamoDB_20120810.TagResource {"ResourceArn":"the-arn","Tags":[{"Key":"sandbox-drill","Value":"changed"}]}`,
	}, *requests)

	r = Resource{Address: "aws_lambda_function.f", Type: "aws_lambda_function", attributes: map[string]any{"id": "f", "arn": "arn:aws:lambda:x:0:function:f"}}
	c, requests = heard(t, "lambda", yes)
	require.NoError(t, c.Delete(t.Context(), r))
	require.NoError(t, c.Change(t.Context(), r))
	assert.Equal(t, "DELETE /2015-03-31/functions/f  ", (*requests)[1])
	assert.Equal(t, `POST /2017-03-31/tags/arn:aws:lambda:x:0:function:f  {"Tags":{"sandbox-drill":"changed"}}`, (*requests)[3])
}

func TestEveryTypeThatIsKnownCanBeDeleted(t *testing.T) {
	for kind := range deletions {
		_, ok := question(Resource{Type: kind, attributes: map[string]any{"id": "x", "role": "x", "name": "x"}})
		assert.True(t, ok, "%s can't be asked for", kind)
	}
	for kind := range changes {
		assert.Contains(t, deletions, kind)
	}
}

func TestWhatCanNotBeTamperedWith(t *testing.T) {
	c, requests := heard(t, "iam", yes)
	for _, err := range []error{
		c.Delete(t.Context(), Resource{Address: "aws_vpc.main", Type: "aws_vpc"}),
		c.Change(t.Context(), Resource{Address: "aws_iam_role_policy.app", Type: "aws_iam_role_policy"}),
	} {
		require.Error(t, err)
		assert.Equal(t, fault.Invalid, fault.CodeOf(err))
		assert.Contains(t, err.Error(), "aws_sqs_queue, aws_ssm_parameter")
	}
	require.ErrorContains(t, c.Delete(t.Context(), Resource{Address: "aws_iam_role.app", Type: "aws_iam_role"}), "does not tell its name")
	assert.Empty(t, *requests)
}

func TestRefusalsAreErrors(t *testing.T) {
	r := Resource{Address: "aws_sqs_queue.q", Type: "aws_sqs_queue", attributes: map[string]any{"id": "q"}}
	c, _ := heard(t, "sqs", func(r *http.Request, _ string) (int, string) {
		if strings.HasSuffix(r.Header.Get("X-Amz-Target"), "GetQueueAttributes") {
			return 200, `{}`
		}
		return 400, `{"__type": "AccessDenied"}`
	})
	for _, err := range []error{c.Delete(t.Context(), r), c.Change(t.Context(), r)} {
		require.ErrorContains(t, err, "aws_sqs_queue.q in the emulator")
		require.ErrorContains(t, err, "AccessDenied")
	}
}

func TestABucketThatIsFilledMeanwhile(t *testing.T) {
	lists, deletes := []string{
		`<ListVersionsResult><Version><Key>a&amp;b</Key><VersionId>1</VersionId></Version><DeleteMarker><Key>c</Key><VersionId>2</VersionId></DeleteMarker></ListVersionsResult>`,
		`<ListVersionsResult/>`, `<ListVersionsResult><Version><Key>late</Key><VersionId>null</VersionId></Version></ListVersionsResult>`, `<ListVersionsResult/>`,
	}, 0
	c, requests := heard(t, "s3", func(r *http.Request, _ string) (int, string) {
		switch r.Method {
		case http.MethodGet:
			list := lists[0]
			lists = lists[1:]
			return 200, list
		case http.MethodPost:
			return 200, `<DeleteResult/>`
		case http.MethodDelete:
			if deletes++; deletes == 1 {
				return 409, `<Error><Code>BucketNotEmpty</Code></Error>`
			}
		}
		return 200, ""
	})
	r := Resource{Address: "aws_s3_bucket.b", Type: "aws_s3_bucket", attributes: map[string]any{"id": "b"}}
	require.NoError(t, c.Delete(t.Context(), r))
	assert.Equal(t, 2, deletes)
	assert.Contains(t, (*requests)[2], `<Object><Key>a&amp;b</Key><VersionId>1</VersionId></Object><Object><Key>c</Key><VersionId>2</VersionId></Object>`)
	assert.Empty(t, lists)

	c, _ = heard(t, "s3", func(r *http.Request, _ string) (int, string) {
		if r.Method == http.MethodPost {
			return 200, `<DeleteResult><Error><Key>locked</Key><Code>AccessDenied</Code></Error></DeleteResult>`
		}
		return 200, `<ListVersionsResult><Version><Key>locked</Key><VersionId>1</VersionId></Version></ListVersionsResult>`
	})
	require.ErrorContains(t, c.Delete(t.Context(), r), "delete locked: AccessDenied")
}
