output "configuration" {
  description = "What the pipeline must be told: --runtime_parameter name=value."
  value = merge(
    {
      "output_root"            = "gs://${google_storage_bucket.bucket["outputs"].name}/${var.name}"
      "pipeline_name"          = var.name
      "vertex.project"         = var.project
      "vertex.region"          = var.region
      "vertex.repository"      = local.repository
      "vertex.service_account" = google_service_account.account["pipeline"].email
    },
    var.kms_key == null ? {} : { "vertex.kms_key" = var.kms_key },
    var.dataflow ? { "vertex.beam_service_account" = google_service_account.account["dataflow"].email } : {},
  )
}

output "repository" {
  description = "Where the images go: REPOSITORY of deploy/images/docker-bake.hcl."
  value       = local.repository
}

output "template" {
  description = "Where the compiled pipeline goes: gcloud storage cp pipeline.json <this>."
  value       = "gs://${google_storage_bucket.bucket["templates"].name}/${var.template}"
}

output "builds" {
  description = "Where sources of builds go: gcloud builds submit --gcs-source-staging-dir <this>/source."
  value       = "gs://${google_storage_bucket.bucket["builds"].name}"
}

output "data" {
  description = "Where new data sets go."
  value       = "gs://${google_storage_bucket.bucket["data"].name}"
}

output "accounts" {
  description = "Service accounts by what they do."
  value       = { for key, account in google_service_account.account : key => account.email }
}

output "dead_letters" {
  description = "Subscription that keeps what should have started a run and did not."
  value       = google_pubsub_subscription.dead_letters.id
}

locals {
  repository = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}"
}
