terraform {
  required_providers {
    aws     = { source = "hashicorp/aws" }
  }
}

# AWS_ENDPOINT_URL, region and keys come from the environment.
provider "aws" {
  skip_metadata_api_check = true
  s3_use_path_style       = true
}

variable "cluster_arn" {
  description = "The MSK cluster: `aws kafka list-clusters-v2` has its ARN."
  type        = string
}

variable "package" {
  description = "The function's code as a zip."
  type        = string
  default     = "orders.zip"
}

variable "batch_size" {
  type    = number
  default = 10
}

resource "aws_iam_role" "orders" {
  name = "terraform-orders"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "lambda.amazonaws.com" }
    }]
  })
}

resource "aws_iam_role_policy" "orders" {
  role = aws_iam_role.orders.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Effect = "Allow", Action = "dynamodb:PutItem", Resource = aws_dynamodb_table.results.arn },
      { Effect = "Allow", Action = "sqs:SendMessage", Resource = aws_sqs_queue.failures.arn },
    ]
  })
}

resource "aws_sqs_queue" "failures" {
  name = "terraform-failures"
}

resource "aws_dynamodb_table" "results" {
  name         = "terraform-results"
  billing_mode = "PAY_PER_REQUEST"
  hash_key     = "id"

  attribute {
    name = "id"
    type = "S"
  }
}

resource "aws_lambda_function" "orders" {
  function_name    = "terraform-orders"
  role             = aws_iam_role.orders.arn
  runtime          = "python3.11"
  handler          = "app.handler"
  filename         = var.package
  source_code_hash = filebase64sha256(var.package)
  timeout          = 20

  environment {
    variables = { TABLE = aws_dynamodb_table.results.name }
  }
}

resource "aws_lambda_event_source_mapping" "orders" {
  function_name                      = aws_lambda_function.orders.arn
  event_source_arn                   = var.cluster_arn
  topics                             = ["terraform-orders"]
  starting_position                  = "TRIM_HORIZON"
  batch_size                         = var.batch_size
  bisect_batch_on_function_error     = true
  maximum_retry_attempts             = 2

  provisioned_poller_config {
    minimum_pollers = 1
    maximum_pollers = 2
  }

  destination_config {
    on_failure {
      destination_arn = aws_sqs_queue.failures.arn
    }
  }
}

output "table_name" {
  value = aws_dynamodb_table.results.name
}
