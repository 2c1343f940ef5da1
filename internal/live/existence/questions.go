package existence

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
)

// query is a request to the emulator. A question only succeeds where a resource
// exists.
type query struct {
	service      string // as in the signature
	method, path string
	header       map[string]string
	body         []byte
	doomed       *regexp.Regexp // matches the answer about what exists but is on its way out
}

var (
	dying   = regexp.MustCompile(`"KeyState"\s*:\s*"PendingDeletion"`)
	deleted = regexp.MustCompile(`"DeletedDate"\s*:\s*[^n\s]`) // anything but null
)

// question returns how to ask for a resource. Of types that are not listed
// nothing is known, nor of a resource whose state lacks what to ask by.
func question(r Resource) (query, bool) {
	id := r.text("id")
	switch r.Type {
	case "aws_s3_bucket":
		return query{service: "s3", method: http.MethodHead, path: "/" + url.PathEscape(id)}, id != ""
	case "aws_sqs_queue":
		return call("sqs", "AmazonSQS.GetQueueAttributes", map[string]any{"QueueUrl": id}), id != ""
	case "aws_sns_topic":
		return form("sns", snsVersion, "GetTopicAttributes", "TopicArn", id), id != ""
	case "aws_ssm_parameter":
		return call("ssm", "AmazonSSM.GetParameter", map[string]any{"Name": id}), id != ""
	case "aws_secretsmanager_secret":
		q := call("secretsmanager", "secretsmanager.DescribeSecret", map[string]any{"SecretId": id})
		q.doomed = deleted
		return q, id != ""
	case "aws_kms_key":
		q := call("kms", "TrentService.DescribeKey", map[string]any{"KeyId": id})
		q.doomed = dying
		return q, id != ""
	case "aws_kms_alias": // its id is the name, "alias/NAME"
		return call("kms", "TrentService.DescribeKey", map[string]any{"KeyId": id}), id != ""
	case "aws_dynamodb_table":
		return call("dynamodb", "DynamoDB_20120810.DescribeTable", map[string]any{"TableName": id}), id != ""
	case "aws_iam_role":
		return form("iam", iamVersion, "GetRole", "RoleName", id), id != ""
	case "aws_iam_user":
		return form("iam", iamVersion, "GetUser", "UserName", id), id != ""
	case "aws_iam_policy":
		return form("iam", iamVersion, "GetPolicy", "PolicyArn", id), id != ""
	case "aws_iam_role_policy":
		role, name := r.text("role"), r.text("name")
		return form("iam", iamVersion, "GetRolePolicy", "RoleName", role, "PolicyName", name), role != "" && name != ""
	case "aws_lambda_function":
		return query{service: "lambda", method: http.MethodGet, path: "/2015-03-31/functions/" + url.PathEscape(id)}, id != ""
	}
	return query{}, false
}

const (
	iamVersion = "2010-05-08"
	snsVersion = "2010-03-31"
)

// tagInIAM returns the request that tags an IAM entity.
func tagInIAM(action, parameter string) func(Resource) query {
	return func(r Resource) query {
		return form("iam", iamVersion, action, parameter, r.text("id"), "Tags.member.1.Key", TagKey, "Tags.member.1.Value", TagValue)
	}
}

// call is a question in AWS' JSON protocol. Its body is encoded without fail:
// it is made of strings.
func call(service, target string, args map[string]any) query {
	body, _ := json.Marshal(args)
	return query{
		service: service, method: http.MethodPost, path: "/", body: body,
		header: map[string]string{"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target},
	}
}

// form is a question in AWS' query protocol, with names and values in turn.
func form(service, version, action string, args ...string) query {
	values := url.Values{"Action": {action}, "Version": {version}}
	for i := 0; i+1 < len(args); i += 2 {
		values.Set(args[i], args[i+1])
	}
	return query{
		service: service, method: http.MethodPost, path: "/", body: []byte(values.Encode()),
		header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"},
	}
}
