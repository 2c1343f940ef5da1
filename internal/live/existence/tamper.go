package existence

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

// The tag that Change adds to a resource.
const (
	TagKey   = "sandbox-drill"
	TagValue = "changed"
)

// rounds bounds how often something is emptied until it is empty.
const rounds = 1000

// deletions delete the resources of a type for good, with what is in them.
var deletions = map[string]func(Checker, context.Context, Resource) error{
	"aws_s3_bucket": Checker.deleteBucket,
	"aws_sqs_queue": deleteBy(func(r Resource) query {
		return call("sqs", "AmazonSQS.DeleteQueue", map[string]any{"QueueUrl": r.text("id")})
	}),
	"aws_sns_topic": deleteBy(func(r Resource) query {
		return form("sns", snsVersion, "DeleteTopic", "TopicArn", r.text("id"))
	}),
	"aws_ssm_parameter": deleteBy(func(r Resource) query {
		return call("ssm", "AmazonSSM.DeleteParameter", map[string]any{"Name": r.text("id")})
	}),
	"aws_secretsmanager_secret": deleteBy(func(r Resource) query {
		return call("secretsmanager", "secretsmanager.DeleteSecret", map[string]any{"SecretId": r.text("id"), "ForceDeleteWithoutRecovery": true})
	}),
	"aws_kms_key": deleteBy(func(r Resource) query {
		return call("kms", "TrentService.ScheduleKeyDeletion", map[string]any{"KeyId": r.text("id"), "PendingWindowInDays": 7})
	}),
	"aws_kms_alias": deleteBy(func(r Resource) query {
		return call("kms", "TrentService.DeleteAlias", map[string]any{"AliasName": r.text("id")})
	}),
	"aws_dynamodb_table": deleteBy(func(r Resource) query {
		return call("dynamodb", "DynamoDB_20120810.DeleteTable", map[string]any{"TableName": r.text("id")})
	}),
	"aws_iam_role":   Checker.deleteRole,
	"aws_iam_user":   Checker.deleteUser,
	"aws_iam_policy": Checker.deletePolicy,
	"aws_iam_role_policy": deleteBy(func(r Resource) query {
		return form("iam", iamVersion, "DeleteRolePolicy", "RoleName", r.text("role"), "PolicyName", r.text("name"))
	}),
	"aws_lambda_function": deleteBy(func(r Resource) query {
		return query{service: "lambda", method: http.MethodDelete, path: "/2015-03-31/functions/" + url.PathEscape(r.text("id"))}
	}),
}

// changes add a tag to the resources of a type. What is not listed has no tags.
var changes = map[string]func(Checker, context.Context, Resource) error{
	"aws_s3_bucket": Checker.tagBucket,
	"aws_sqs_queue": changeBy(func(r Resource) query {
		return call("sqs", "AmazonSQS.TagQueue", map[string]any{"QueueUrl": r.text("id"), "Tags": map[string]string{TagKey: TagValue}})
	}),
	"aws_sns_topic": changeBy(func(r Resource) query {
		return form("sns", snsVersion, "TagResource", "ResourceArn", r.text("id"), "Tags.member.1.Key", TagKey, "Tags.member.1.Value", TagValue)
	}),
	"aws_ssm_parameter": changeBy(func(r Resource) query {
		return call("ssm", "AmazonSSM.AddTagsToResource", map[string]any{"ResourceType": "Parameter", "ResourceId": r.text("id"), "Tags": tags("Key", "Value")})
	}),
	"aws_secretsmanager_secret": changeBy(func(r Resource) query {
		return call("secretsmanager", "secretsmanager.TagResource", map[string]any{"SecretId": r.text("id"), "Tags": tags("Key", "Value")})
	}),
	"aws_kms_key": changeBy(func(r Resource) query {
		return call("kms", "TrentService.TagResource", map[string]any{"KeyId": r.text("id"), "Tags": tags("TagKey", "TagValue")})
	}),
	"aws_dynamodb_table": changeBy(func(r Resource) query {
		return call("dynamodb", "DynamoDB_20120810.TagResource", map[string]any{"ResourceArn": r.text("arn"), "Tags": tags("Key", "Value")})
	}),
	"aws_iam_role":   changeBy(tagInIAM("TagRole", "RoleName")),
	"aws_iam_user":   changeBy(tagInIAM("TagUser", "UserName")),
	"aws_iam_policy": changeBy(tagInIAM("TagPolicy", "PolicyArn")),
	"aws_lambda_function": changeBy(func(r Resource) query {
		body := []byte(`{"Tags":{"` + TagKey + `":"` + TagValue + `"}}`)
		return query{service: "lambda", method: http.MethodPost, path: "/2017-03-31/tags/" + url.PathEscape(r.text("arn")), body: body}
	}),
}

// tags is the one tag, in the words of a service.
func tags(key, value string) []map[string]string {
	return []map[string]string{{key: TagKey, value: TagValue}}
}

// Delete deletes a resource behind Terraform's back, with all that is in it.
// One that is gone already is no error.
func (c Checker) Delete(ctx context.Context, r Resource) error {
	return c.tamper(ctx, r, "delete", deletions)
}

// Change adds a tag to a resource behind Terraform's back.
func (c Checker) Change(ctx context.Context, r Resource) error {
	return c.tamper(ctx, r, "change", changes)
}

func (c Checker) tamper(ctx context.Context, r Resource, action string, ways map[string]func(Checker, context.Context, Resource) error) error {
	way, ok := ways[r.Type]
	if !ok {
		var types []string
		for name := range ways {
			types = append(types, name)
		}
		slices.Sort(types)
		return fault.New(fault.Invalid, "can't "+action+" "+r.Address+" behind Terraform's back",
			"that can be done to "+strings.Join(types, ", "), "choose a resource of one of these types")
	}
	q, ok := question(r)
	if !ok {
		return fmt.Errorf("%s %s: the Terraform state does not tell its name", action, r.Address)
	}
	switch verdict, err := c.ask(ctx, q); {
	case err != nil:
		return fmt.Errorf("look for %s: %w", r.Address, err)
	case verdict == Missing && action == "delete":
		return nil
	case verdict == Missing:
		return fault.New(fault.Failed, "can't "+action+" "+r.Address, "the emulator does not hold it", "sandbox up")
	}
	if err := way(c, ctx, r); err != nil {
		return fmt.Errorf("%s %s in the emulator: %w", action, r.Address, err)
	}
	return nil
}

// deleteBy deletes a resource by one request.
func deleteBy(q func(Resource) query) func(Checker, context.Context, Resource) error {
	return func(c Checker, ctx context.Context, r Resource) error { return c.remove(ctx, q(r)) }
}

// changeBy changes a resource by one request.
func changeBy(q func(Resource) query) func(Checker, context.Context, Resource) error {
	return func(c Checker, ctx context.Context, r Resource) error {
		_, err := c.do(ctx, q(r))
		return err
	}
}

// remove sends a request that removes something. What is gone is no error.
func (c Checker) remove(ctx context.Context, q query) error {
	a, err := c.send(ctx, q)
	if err != nil || a.ok() || a.absent() {
		return err
	}
	return a.refusal()
}

// do sends a request that has to succeed, and returns the body of the answer.
func (c Checker) do(ctx context.Context, q query) ([]byte, error) {
	a, err := c.send(ctx, q)
	if err == nil && !a.ok() {
		err = a.refusal()
	}
	return a.body, err
}
