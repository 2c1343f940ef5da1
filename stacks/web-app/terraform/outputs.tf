output "bucket" {
  description = "Name of the bucket that holds the orders."
  value       = aws_s3_bucket.orders.bucket
}

output "queue_url" {
  description = "URL of the queue that gets a message for each order."
  value       = aws_sqs_queue.orders.url
}

output "queue_name" {
  description = "Name of that queue."
  value       = aws_sqs_queue.orders.name
}

output "topic_arn" {
  description = "ARN of the topic whose messages go to the queue too."
  value       = aws_sns_topic.orders.arn
}

output "secret_arn" {
  description = "ARN of the secret with the database's URL."
  value       = aws_secretsmanager_secret.database.arn
}

output "parameter_name" {
  description = "Name of the parameter that holds the bucket's name."
  value       = aws_ssm_parameter.bucket.name
}

output "role_arn" {
  description = "ARN of the application's role."
  value       = aws_iam_role.app.arn
}

output "kms_key_arn" {
  description = "ARN of the key that encrypts the orders."
  value       = aws_kms_key.orders.arn
}
