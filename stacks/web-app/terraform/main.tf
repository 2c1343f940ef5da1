locals {
  prefix = "${var.name}-${var.environment}"
  tags = {
    Application = var.name
    Environment = var.environment
    ManagedBy   = "terraform"
  }
}

provider "aws" {
  default_tags {
    tags = local.tags
  }
}

resource "aws_kms_key" "orders" {
  description             = "Encrypts what ${local.prefix} stores"
  deletion_window_in_days = 7
  enable_key_rotation     = true
}

resource "aws_kms_alias" "orders" {
  name          = "alias/${local.prefix}"
  target_key_id = aws_kms_key.orders.key_id
}
