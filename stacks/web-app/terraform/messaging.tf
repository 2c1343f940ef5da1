resource "aws_sns_topic" "orders" {
  name              = "${local.prefix}-orders"
  kms_master_key_id = aws_kms_key.orders.key_id
}

data "aws_iam_policy_document" "queue" {
  statement {
    sid       = "TopicMaySend"
    actions   = ["sqs:SendMessage"]
    resources = ["arn:aws:sqs:*:${data.aws_caller_identity.current.account_id}:${local.prefix}-orders"]

    principals {
      type        = "Service"
      identifiers = ["sns.amazonaws.com"]
    }

    # By name, so that the queue need not wait for the topic, and the topic for its key:
    # the provider waits ten seconds for a key.
    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:aws:sns:*:${data.aws_caller_identity.current.account_id}:${local.prefix}-orders"]
    }
  }
}

# One queue, and its policy in the same resource: the provider waits 25 s for each
# queue and for each queue policy, so a dead-letter queue is left out as well.
resource "aws_sqs_queue" "orders" {
  name                       = "${local.prefix}-orders"
  policy                     = data.aws_iam_policy_document.queue.json
  message_retention_seconds  = 86400
  visibility_timeout_seconds = 30
  receive_wait_time_seconds  = 10
  sqs_managed_sse_enabled    = true
}

# What is published on the topic arrives in the queue as well.
resource "aws_sns_topic_subscription" "orders" {
  topic_arn            = aws_sns_topic.orders.arn
  protocol             = "sqs"
  endpoint             = aws_sqs_queue.orders.arn
  raw_message_delivery = true
}
