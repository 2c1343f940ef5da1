# One queue: what is published on the topic arrives in it as well. A dead-letter
# queue is left out, because the provider waits 25 s for each queue it creates.
resource "aws_sqs_queue" "orders" {
  name                       = "${local.prefix}-orders"
  message_retention_seconds  = 86400
  visibility_timeout_seconds = 30
  receive_wait_time_seconds  = 10
  sqs_managed_sse_enabled    = true
}

resource "aws_sns_topic" "orders" {
  name              = "${local.prefix}-orders"
  kms_master_key_id = aws_kms_key.orders.key_id
}

resource "aws_sns_topic_subscription" "orders" {
  topic_arn            = aws_sns_topic.orders.arn
  protocol             = "sqs"
  endpoint             = aws_sqs_queue.orders.arn
  raw_message_delivery = true
}

data "aws_iam_policy_document" "queue" {
  statement {
    sid       = "TopicMaySend"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.orders.arn]

    principals {
      type        = "Service"
      identifiers = ["sns.amazonaws.com"]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [aws_sns_topic.orders.arn]
    }
  }
}

resource "aws_sqs_queue_policy" "orders" {
  queue_url = aws_sqs_queue.orders.id
  policy    = data.aws_iam_policy_document.queue.json
}
