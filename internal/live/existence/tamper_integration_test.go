//go:build integration

package existence

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/detect"
)

// These tests need a container engine and an image of LocalStack in its store:
// "sandbox images build localstack" makes it. SANDBOX_TEST_LOCALSTACK names
// another image.

const itName = "it-existence"

// localstack starts an emulator and returns what asks it.
func localstack(t *testing.T) Checker {
	t.Helper()
	rt, _, err := detect.Open(t.Context(), detect.Choice{}, t.TempDir(), nil)
	require.NoError(t, err)
	image := os.Getenv("SANDBOX_TEST_LOCALSTACK")
	if image == "" {
		images, err := rt.Images(t.Context(), nil)
		require.NoError(t, err)
		for _, i := range images {
			if n := slices.IndexFunc(i.Names, func(s string) bool { return strings.Contains(s, "/localstack:") }); n >= 0 {
				image = i.Names[n]
			}
		}
	}
	require.NotEmpty(t, image, `no image of LocalStack in the engine's store: build it with "sandbox images build localstack"`)
	labels := map[string]string{runtime.LabelName: itName, runtime.LabelComponent: "aws", runtime.LabelRun: "test"}
	remove := func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		all, err := rt.Containers(ctx, map[string]string{runtime.LabelName: itName})
		require.NoError(t, err)
		for _, c := range all {
			require.NoError(t, rt.RemoveContainer(ctx, c.ID))
		}
	}
	remove()
	t.Cleanup(func() {
		if t.Failed() {
			_ = rt.Logs(context.WithoutCancel(t.Context()), itName, runtime.LogOptions{Tail: 60}, t.Output())
		}
		direct.CloseIdleConnections()
		remove()
		require.NoError(t, rt.Close())
	})
	c, err := rt.CreateContainer(t.Context(), runtime.ContainerSpec{
		Name: itName, Image: image, Labels: labels, Ports: []runtime.Port{{Container: 4566}},
		Env: map[string]string{"GATEWAY_LISTEN": "0.0.0.0:4566", "DISABLE_EVENTS": "1", "SKIP_SSL_CERT_DOWNLOAD": "1"},
	})
	require.NoError(t, err)
	require.NoError(t, rt.StartContainer(t.Context(), c.ID))
	c, err = rt.Container(t.Context(), c.ID)
	require.NoError(t, err)
	require.Len(t, c.Ports, 1)
	endpoint := fmt.Sprintf("http://127.0.0.1:%d", c.Ports[0].HostPort)
	_, err = backoff.Retry(t.Context(), func() (bool, error) {
		res, err := http.Get(endpoint + "/_localstack/health")
		if err != nil {
			return false, err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return false, fmt.Errorf("health: %s", res.Status)
		}
		return true, nil
	}, backoff.WithMaxElapsedTime(2*time.Minute), backoff.WithBackOff(backoff.NewConstantBackOff(200*time.Millisecond)))
	require.NoError(t, err)
	return Checker{Endpoint: endpoint, Region: "us-east-1", AccessKey: "test", SecretKey: "test"}
}

// must sends requests that have to succeed and returns the last answer.
func must(t *testing.T, c Checker, queries ...query) []byte {
	t.Helper()
	var body []byte
	for _, q := range queries {
		var err error
		body, err = c.do(t.Context(), q)
		require.NoError(t, err, "%s %s%s %s: %s", q.service, q.method, q.path, q.body, body)
	}
	return body
}

// field returns a text of an answer in JSON.
func field(t *testing.T, body []byte, path ...string) string {
	t.Helper()
	var value any
	require.NoError(t, json.Unmarshal(body, &value))
	for _, key := range path {
		value = value.(map[string]any)[key]
	}
	return value.(string)
}

func element(t *testing.T, body []byte, name string) string {
	t.Helper()
	found, err := texts(body, name)
	require.NoError(t, err)
	require.NotEmpty(t, found, "%s", body)
	return found[0]
}

func iam(action string, args ...string) query { return form("iam", iamVersion, action, args...) }

func put(path, body string) query {
	return query{service: "s3", method: http.MethodPut, path: path, body: []byte(body)}
}

const (
	trust  = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
	allow  = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}`
	allow2 = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sqs:*","Resource":"*"}]}`
)

// made is a resource in the emulator.
type made struct {
	attributes map[string]any
	tags       query // asks for its tags; none where it can't have any
}

// making makes a resource of each type, with what makes it hard to delete.
var making = map[string]func(*testing.T, Checker) made{
	"aws_s3_bucket": func(t *testing.T, c Checker) made {
		must(t, c, put("/pail", ""), put("/pail/before", "1"),
			put("/pail?versioning=", `<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Status>Enabled</Status></VersioningConfiguration>`),
			put("/pail/a/b%20c%26d", "1"), put("/pail/a/b%20c%26d", "2"), query{service: "s3", method: http.MethodDelete, path: "/pail/a/b%20c%26d"})
		q, err := document(http.MethodPut, "/pail?tagging=", struct {
			XMLName struct{} `xml:"Tagging"`
			Key     string   `xml:"TagSet>Tag>Key"`
			Value   string   `xml:"TagSet>Tag>Value"`
		}{Key: "owner", Value: "us"})
		require.NoError(t, err)
		must(t, c, q)
		return made{map[string]any{"id": "pail"}, query{service: "s3", method: http.MethodGet, path: "/pail?tagging="}}
	},
	"aws_sqs_queue": func(t *testing.T, c Checker) made {
		id := field(t, must(t, c, call("sqs", "AmazonSQS.CreateQueue", map[string]any{"QueueName": "orders"})), "QueueUrl")
		return made{map[string]any{"id": id}, call("sqs", "AmazonSQS.ListQueueTags", map[string]any{"QueueUrl": id})}
	},
	"aws_sns_topic": func(t *testing.T, c Checker) made {
		id := element(t, must(t, c, form("sns", snsVersion, "CreateTopic", "Name", "orders")), "TopicArn")
		return made{map[string]any{"id": id}, form("sns", snsVersion, "ListTagsForResource", "ResourceArn", id)}
	},
	"aws_ssm_parameter": func(t *testing.T, c Checker) made {
		must(t, c, call("ssm", "AmazonSSM.PutParameter", map[string]any{"Name": "/app/level", "Value": "debug", "Type": "String"}))
		return made{map[string]any{"id": "/app/level"}, call("ssm", "AmazonSSM.ListTagsForResource", map[string]any{"ResourceType": "Parameter", "ResourceId": "/app/level"})}
	},
	"aws_secretsmanager_secret": func(t *testing.T, c Checker) made {
		id := field(t, must(t, c, call("secretsmanager", "secretsmanager.CreateSecret", map[string]any{
			"Name": "db", "SecretString": "x", "ClientRequestToken": "0123456789abcdef0123456789abcdef",
		})), "ARN")
		return made{map[string]any{"id": id}, call("secretsmanager", "secretsmanager.DescribeSecret", map[string]any{"SecretId": id})}
	},
	"aws_kms_key": func(t *testing.T, c Checker) made {
		id := field(t, must(t, c, call("kms", "TrentService.CreateKey", map[string]any{})), "KeyMetadata", "KeyId")
		return made{map[string]any{"id": id}, call("kms", "TrentService.ListResourceTags", map[string]any{"KeyId": id})}
	},
	"aws_kms_alias": func(t *testing.T, c Checker) made {
		id := field(t, must(t, c, call("kms", "TrentService.CreateKey", map[string]any{})), "KeyMetadata", "KeyId")
		must(t, c, call("kms", "TrentService.CreateAlias", map[string]any{"AliasName": "alias/orders", "TargetKeyId": id}))
		return made{attributes: map[string]any{"id": "alias/orders"}}
	},
	"aws_iam_role": func(t *testing.T, c Checker) made {
		policy := element(t, must(t, c, iam("CreateRole", "RoleName", "app", "AssumeRolePolicyDocument", trust),
			iam("PutRolePolicy", "RoleName", "app", "PolicyName", "inline", "PolicyDocument", allow),
			iam("CreateInstanceProfile", "InstanceProfileName", "profile"),
			iam("AddRoleToInstanceProfile", "InstanceProfileName", "profile", "RoleName", "app"),
			iam("CreatePolicy", "PolicyName", "for-role", "PolicyDocument", allow)), "Arn")
		must(t, c, iam("AttachRolePolicy", "RoleName", "app", "PolicyArn", policy))
		return made{map[string]any{"id": "app"}, iam("ListRoleTags", "RoleName", "app")}
	},
	"aws_iam_role_policy": func(t *testing.T, c Checker) made {
		must(t, c, iam("CreateRole", "RoleName", "other", "AssumeRolePolicyDocument", trust),
			iam("PutRolePolicy", "RoleName", "other", "PolicyName", "inline", "PolicyDocument", allow))
		return made{attributes: map[string]any{"id": "other:inline", "role": "other", "name": "inline"}}
	},
	"aws_iam_user": func(t *testing.T, c Checker) made {
		must(t, c, iam("CreateUser", "UserName", "u"), iam("CreateAccessKey", "UserName", "u"),
			iam("CreateLoginProfile", "UserName", "u", "Password", "Abcdefgh1!"),
			iam("PutUserPolicy", "UserName", "u", "PolicyName", "inline", "PolicyDocument", allow),
			iam("CreateGroup", "GroupName", "g"), iam("AddUserToGroup", "GroupName", "g", "UserName", "u"))
		return made{map[string]any{"id": "u"}, iam("ListUserTags", "UserName", "u")}
	},
	"aws_iam_policy": func(t *testing.T, c Checker) made {
		arn := element(t, must(t, c, iam("CreatePolicy", "PolicyName", "p", "PolicyDocument", allow)), "Arn")
		must(t, c, iam("CreatePolicyVersion", "PolicyArn", arn, "PolicyDocument", allow2, "SetAsDefault", "true"),
			iam("CreateRole", "RoleName", "with-p", "AssumeRolePolicyDocument", trust), iam("AttachRolePolicy", "RoleName", "with-p", "PolicyArn", arn),
			iam("CreateUser", "UserName", "with-p"), iam("AttachUserPolicy", "UserName", "with-p", "PolicyArn", arn),
			iam("CreateGroup", "GroupName", "with-p"), iam("AttachGroupPolicy", "GroupName", "with-p", "PolicyArn", arn))
		return made{map[string]any{"id": arn}, iam("ListPolicyTags", "PolicyArn", arn)}
	},
	"aws_lambda_function": func(t *testing.T, c Checker) made {
		role := element(t, must(t, c, iam("CreateRole", "RoleName", "for-lambda", "AssumeRolePolicyDocument", trust)), "Arn")
		var code bytes.Buffer
		z := zip.NewWriter(&code)
		w, err := z.Create("index.py")
		require.NoError(t, err)
		_, err = w.Write([]byte("def handler(event, context): return 1\n"))
		require.NoError(t, err)
		require.NoError(t, z.Close())
		q := call("lambda", "", map[string]any{
			"FunctionName": "f", "Runtime": "python3.12", "Handler": "index.handler", "Role": role,
			"Code": map[string]any{"ZipFile": base64.StdEncoding.EncodeToString(code.Bytes())},
		})
		q.path = "/2015-03-31/functions"
		arn := field(t, must(t, c, q), "FunctionArn")
		return made{
			map[string]any{"id": "f", "arn": arn},
			query{service: "lambda", method: http.MethodGet, path: "/2017-03-31/tags/" + url.PathEscape(arn)},
		}
	},
}

func TestTamperingWithLocalStack(t *testing.T) {
	c := localstack(t)
	verdict := func(r Resource) Verdict {
		verdicts, err := c.Check(t.Context(), []Resource{r})
		require.NoError(t, err)
		return verdicts[0]
	}
	for kind, make := range making {
		t.Run(kind, func(t *testing.T) {
			m := make(t, c)
			r := Resource{Address: kind + ".it", Type: kind, attributes: m.attributes}
			require.Equal(t, Held, verdict(r))
			if m.tags.service != "" {
				require.NotContains(t, string(must(t, c, m.tags)), TagKey)
				require.NoError(t, c.Change(t.Context(), r))
				require.NoError(t, c.Change(t.Context(), r), "again")
				assert.Contains(t, string(must(t, c, m.tags)), TagKey)
				if kind == "aws_s3_bucket" {
					assert.Contains(t, string(must(t, c, m.tags)), "owner", "the tags that were there stay")
				}
			}
			if kind == "aws_lambda_function" {
				return // LocalStack only deletes functions that it could have run
			}
			require.NoError(t, c.Delete(t.Context(), r))
			assert.Equal(t, Missing, verdict(r))
			assert.NoError(t, c.Delete(t.Context(), r), "again")
			assert.Error(t, c.Change(t.Context(), r), "what is gone can't be changed")
		})
	}
}
