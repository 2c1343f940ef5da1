# The value is for the sandbox only; a real environment sets it outside of Terraform.
resource "aws_secretsmanager_secret" "database" {
  name                    = "${local.prefix}/database"
  kms_key_id              = aws_kms_key.orders.arn
  recovery_window_in_days = 0
}

resource "aws_secretsmanager_secret_version" "database" {
  secret_id = aws_secretsmanager_secret.database.id
  secret_string = jsonencode({
    url = "postgres://${var.name}:only-for-this-sandbox@database:5432/${var.name}"
  })
}

resource "aws_ssm_parameter" "bucket" {
  name  = "/${local.prefix}/orders/bucket"
  type  = "String"
  value = aws_s3_bucket.orders.bucket
}
