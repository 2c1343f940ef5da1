# What people write for real AWS: a remote backend, a profile, pinned accounts,
# a second region under an alias, an endpoint of its own, and a child module
# that configures the provider itself.
terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
  backend "s3" {
    bucket = "company-state"
    key    = "prod/terraform.tfstate"
    region = "eu-central-1"
  }
}

provider "aws" {
  region              = "eu-central-1"
  profile             = "production"
  allowed_account_ids = ["111122223333"]
}

provider "aws" {
  alias  = "west"
  region = "us-west-2"
  endpoints {
    ssm = "https://ssm.us-west-2.amazonaws.com"
  }
}

variable "prefix" {
  type = string
}

resource "aws_sqs_queue" "orders" {
  name = "${var.prefix}-orders"
}

resource "aws_sns_topic" "orders" {
  name = "${var.prefix}-orders"
}

resource "aws_sns_topic_subscription" "orders" {
  topic_arn = aws_sns_topic.orders.arn
  protocol  = "sqs"
  endpoint  = aws_sqs_queue.orders.arn
}

resource "aws_secretsmanager_secret" "database" {
  name                    = "${var.prefix}-database"
  recovery_window_in_days = 0
}

resource "aws_secretsmanager_secret_version" "database" {
  secret_id     = aws_secretsmanager_secret.database.id
  secret_string = "postgres://app:pw@db/app"
}

resource "aws_ssm_parameter" "level" {
  provider = aws.west
  name     = "/${var.prefix}/level"
  type     = "String"
  value    = "debug"
}

resource "aws_iam_role" "app" {
  name = "${var.prefix}-app"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "ec2.amazonaws.com" } }]
  })
}

resource "aws_kms_key" "data" {
  description             = "${var.prefix} data"
  deletion_window_in_days = 7
}

data "aws_caller_identity" "me" {}

module "uploads" {
  source = "./parts/bucket"
  name   = "${var.prefix}-uploads"
}

output "queue_url" {
  value = aws_sqs_queue.orders.url
}

output "bucket" {
  value = module.uploads.name
}

output "account" {
  value = data.aws_caller_identity.me.account_id
}

output "database_url" {
  value     = aws_secretsmanager_secret_version.database.secret_string
  sensitive = true
}
