variable "name" {
  type = string
}

provider "aws" {
  region = "eu-central-1"
}

resource "aws_s3_bucket" "this" {
  bucket = var.name
}

output "name" {
  value = aws_s3_bucket.this.bucket
}
