variable "name" {
  description = "Name of the application; prefix of every resource."
  type        = string
  default     = "web-app"

  validation {
    condition     = can(regex("^[a-z0-9][-a-z0-9]{0,30}$", var.name))
    error_message = "The name has 1 to 31 lower-case letters, digits and hyphens."
  }
}

variable "environment" {
  description = "Name of the environment, used in names and tags."
  type        = string
  default     = "sandbox"
}

variable "service_account" {
  description = "Kubernetes service account of the application, as NAMESPACE:NAME."
  type        = string
  default     = "production:web-app"
}
