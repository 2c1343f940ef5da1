data "aws_caller_identity" "current" {}

# Trusts the cluster's identity provider, for the application's service account only.
data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = ["arn:aws:iam::${data.aws_caller_identity.current.account_id}:oidc-provider/kubernetes.default.svc"]
    }

    condition {
      test     = "StringEquals"
      variable = "kubernetes.default.svc:sub"
      values   = ["system:serviceaccount:${var.service_account}"]
    }
  }
}

# What the application does, and nothing else.
data "aws_iam_policy_document" "app" {
  statement {
    sid       = "Orders"
    actions   = ["s3:GetObject", "s3:PutObject"]
    resources = ["${aws_s3_bucket.orders.arn}/orders/*"]
  }

  statement {
    sid       = "ListOrders"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.orders.arn]
  }

  statement {
    sid       = "Queue"
    actions   = ["sqs:SendMessage", "sqs:GetQueueAttributes"]
    resources = [aws_sqs_queue.orders.arn]
  }

  statement {
    sid       = "Key"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [aws_kms_key.orders.arn]
  }
}

resource "aws_iam_role" "app" {
  name               = local.prefix
  assume_role_policy = data.aws_iam_policy_document.assume.json
}

resource "aws_iam_role_policy" "app" {
  name   = "orders"
  role   = aws_iam_role.app.id
  policy = data.aws_iam_policy_document.app.json
}
