variable "project" {
  description = "The id of the project."
  type        = string
}

variable "region" {
  description = "The region of the services, the job and its schedule."
  type        = string
}

variable "services" {
  description = "The Cloud Run services in production, by name; they have to exist."
  type        = set(string)
}

variable "staging_services" {
  description = "The services that take each change first, by name; they have to exist."
  type        = set(string)
  default     = []
}

variable "image" {
  description = "The controller's image; empty: REGION-docker.pkg.dev/PROJECT/REPOSITORY/canary:latest."
  type        = string
  default     = ""
}

variable "repository" {
  description = "The Artifact Registry repository of the controller's image. That of the services' images is called services."
  type        = string
  default     = "tools"
}

variable "existing_repositories" {
  description = "Those of the two repositories that exist already, and are not to be created."
  type        = set(string)
  default     = []
}

variable "job" {
  description = "The name of the job and of its account."
  type        = string
  default     = "canary"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,22}[a-z0-9]$", var.job))
    error_message = "It must have 6 to 24 lower-case letters, digits and hyphens, as accounts get its name."
  }
}

variable "schedule" {
  description = "When `canary check` looks after all services."
  type        = string
  default     = "*/5 * * * *"
}

variable "services_with_sign_in" {
  description = "Those of all services that ask for a sign-in, and whose policies have probes or a smoke test."
  type        = set(string)
  default     = []
}

variable "act_as_services" {
  description = "Whether the job may act as the services' accounts. Needed only where a write is refused with iam.serviceaccounts.actAs."
  type        = bool
  default     = false
}

variable "secrets" {
  description = "Secrets of notices with env:NAME: for each variable of the job's environment the secret's id, such as {SLACK_URL = \"slack-url\"}; they have to exist."
  type        = map(string)
  default     = {}
}

variable "notice_secrets" {
  description = "The ids of the secrets of notices with secret:NAME, such as [\"slack\"], which job and build may read; they have to exist."
  type        = set(string)
  default     = []
}

variable "notice_topics" {
  description = "The Pub/Sub topics of notices, to which job and build may publish; they have to exist."
  type        = set(string)
  default     = []
}
