output "job" {
  description = "The job that follows rollouts: canary rollout SERVICE --detach --job NAME."
  value       = google_cloud_run_v2_job.controller.name
}

output "controller_account" {
  description = "The account of the job."
  value       = google_service_account.controller.email
}

output "build_account" {
  description = "The account of the build: serviceAccount in cloudbuild.yaml."
  value       = google_service_account.build.id
}
