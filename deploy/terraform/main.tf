# What a project needs for canary rollouts: the same as the commands of `canary init`.
#
# The services themselves stay where they are. Where Terraform manages one, it must leave the traffic and the record
# of a rollout alone, or its next apply undoes the rollout:
#
#   resource "google_cloud_run_v2_service" "web" {
#     ...
#     lifecycle {
#       ignore_changes = [
#         annotations,               # the rollout's record
#         client,                    # who wrote last
#         client_version,
#         template[0].containers[0].image,
#         template[0].revision,
#         traffic,                   # the split
#       ]
#     }
#   }

locals {
  image        = var.image != "" ? var.image : "${var.region}-docker.pkg.dev/${var.project}/${var.repository}/canary:latest"
  all_services = setunion(var.services, var.staging_services)
  repositories = setunion([var.repository, "services"])
  secrets      = setunion(values(var.secrets), var.notice_secrets)
  notice_apis = concat(
    length(local.secrets) > 0 ? ["secretmanager.googleapis.com"] : [],
    length(var.notice_topics) > 0 ? ["pubsub.googleapis.com"] : [],
  )
}

resource "google_project_service" "used" {
  for_each = toset([
    "artifactregistry.googleapis.com",
    "cloudbuild.googleapis.com",
    "cloudscheduler.googleapis.com",
    "iam.googleapis.com",
    "logging.googleapis.com",
    "monitoring.googleapis.com",
    "run.googleapis.com",
  ])

  service            = each.value
  disable_on_destroy = false
}

# Only where notices need them.
resource "google_project_service" "notices" {
  for_each = toset(local.notice_apis)

  service            = each.value
  disable_on_destroy = false
}

# The places of the controller's image and of the services' images.
resource "google_artifact_registry_repository" "images" {
  for_each = setsubtract(local.repositories, var.existing_repositories)

  repository_id = each.value
  location      = var.region
  format        = "DOCKER"

  depends_on = [google_project_service.used]
}

# --- the controller ---

resource "google_service_account" "controller" {
  account_id   = var.job
  display_name = "Canary rollouts"
}

# The least that it has to be allowed.
resource "google_project_iam_custom_role" "controller" {
  role_id = "canaryController"
  title   = "Canary controller"
  permissions = [
    "run.services.get",
    "run.services.update",
    "run.services.list",
    "run.revisions.get",
    "run.revisions.list",
    "monitoring.timeSeries.list",
    "logging.logEntries.create",
    "logging.logEntries.list",
  ]
}

# On the project, as metrics, logs and lists of services have no smaller place.
resource "google_project_iam_member" "controller" {
  project = var.project
  role    = google_project_iam_custom_role.controller.id
  member  = google_service_account.controller.member
}

# Without arguments of its own it looks after all services once; `canary rollout --detach` gives it others.
resource "google_cloud_run_v2_job" "controller" {
  name                = var.job
  location            = var.region
  deletion_protection = false # it keeps nothing: the record of a rollout is on the service

  template {
    task_count = 1

    template {
      service_account = google_service_account.controller.email
      timeout         = "86400s"
      max_retries     = 0 # a rollout that was rolled back ends with an exit code, and must not be run again for it

      containers {
        image = local.image
        args  = ["check"]

        env {
          name  = "GOOGLE_CLOUD_PROJECT"
          value = var.project
        }
        env {
          name  = "CLOUD_RUN_REGION"
          value = var.region
        }

        dynamic "env" {
          for_each = var.secrets
          content {
            name = env.key
            value_source {
              secret_key_ref {
                secret  = env.value
                version = "latest"
              }
            }
          }
        }
      }
    }
  }

  # The job cannot be made before it may read its secrets.
  depends_on = [google_project_service.used, google_secret_manager_secret_iam_member.controller]
}

# --- its schedule ---

# The schedule starts the job as the job's own account.
resource "google_cloud_run_v2_job_iam_member" "schedule" {
  name     = google_cloud_run_v2_job.controller.name
  location = google_cloud_run_v2_job.controller.location
  role     = "roles/run.invoker"
  member   = google_service_account.controller.member
}

# Goes on with rollouts whose controller died, and looks after the rest.
resource "google_cloud_scheduler_job" "check" {
  name     = "${var.job}-check"
  region   = var.region
  schedule = var.schedule

  http_target {
    http_method = "POST"
    uri         = "https://run.googleapis.com/v2/${google_cloud_run_v2_job.controller.id}:run"

    oauth_token {
      service_account_email = google_service_account.controller.email
    }
  }

  depends_on = [google_project_service.used, google_cloud_run_v2_job_iam_member.schedule]
}

# --- the build ---

# The account of cloudbuild.yaml and cloudbuild.canary.yaml.
resource "google_service_account" "build" {
  account_id   = "${var.job}-build"
  display_name = "Builds with a canary"
}

# The build's last step is a controller, too.
resource "google_project_iam_member" "build_controller" {
  project = var.project
  role    = google_project_iam_custom_role.controller.id
  member  = google_service_account.build.member
}

# What it takes to start the job with a rollout: `canary rollout --detach`.
resource "google_project_iam_custom_role" "build" {
  role_id = "canaryBuild"
  title   = "Canary build"
  permissions = [
    "run.jobs.get",
    "run.jobs.run",
    "run.jobs.runWithOverrides",
  ]
}

resource "google_cloud_run_v2_job_iam_member" "build" {
  name     = google_cloud_run_v2_job.controller.name
  location = google_cloud_run_v2_job.controller.location
  role     = google_project_iam_custom_role.build.id
  member   = google_service_account.build.member
}

resource "google_project_iam_member" "build" {
  for_each = toset([
    "roles/artifactregistry.writer", # pushes images, and pulls the controller's
    "roles/logging.logWriter",       # writes the build's log
    "roles/run.developer",           # deploys revisions
    "roles/storage.objectViewer",    # reads what `gcloud builds submit` uploaded
  ])

  project = var.project
  role    = each.value
  member  = google_service_account.build.member
}

# --- the services ---

data "google_cloud_run_v2_service" "all" {
  for_each = local.all_services

  name     = each.value
  location = var.region
}

# Who deploys a service acts as its account.
resource "google_service_account_iam_member" "build" {
  for_each = local.all_services

  service_account_id = "projects/${var.project}/serviceAccounts/${data.google_cloud_run_v2_service.all[each.value].template[0].service_account}"
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.build.member
}

resource "google_service_account_iam_member" "controller" {
  for_each = var.act_as_services ? var.services : toset([])

  service_account_id = "projects/${var.project}/serviceAccounts/${data.google_cloud_run_v2_service.all[each.value].template[0].service_account}"
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.controller.member
}

# Probes and smoke tests of services that ask for a sign-in.
resource "google_cloud_run_v2_service_iam_member" "controller" {
  for_each = setintersection(var.services_with_sign_in, var.services)

  name     = each.value
  location = var.region
  role     = "roles/run.invoker"
  member   = google_service_account.controller.member
}

resource "google_cloud_run_v2_service_iam_member" "build" {
  for_each = var.services_with_sign_in

  name     = each.value
  location = var.region
  role     = "roles/run.invoker"
  member   = google_service_account.build.member
}

# --- notices ---

# Whoever makes a transition tells of it: the job or the build.
resource "google_secret_manager_secret_iam_member" "controller" {
  for_each = local.secrets

  secret_id = each.value
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.controller.member

  depends_on = [google_project_service.notices]
}

resource "google_secret_manager_secret_iam_member" "build" {
  for_each = local.secrets

  secret_id = each.value
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.build.member

  depends_on = [google_project_service.notices]
}

resource "google_pubsub_topic_iam_member" "controller" {
  for_each = var.notice_topics

  topic  = each.value
  role   = "roles/pubsub.publisher"
  member = google_service_account.controller.member

  depends_on = [google_project_service.notices]
}

resource "google_pubsub_topic_iam_member" "build" {
  for_each = var.notice_topics

  topic  = each.value
  role   = "roles/pubsub.publisher"
  member = google_service_account.build.member

  depends_on = [google_project_service.notices]
}
