# An upload -> Eventarc -> workflow -> run. A date -> Cloud Scheduler -> the same workflow.
# The workflow is data for Google's service: no code of ours to build, patch or pay for.
locals {
  settings = {
    NAME            = var.name
    REGION          = var.region
    TEMPLATES       = google_storage_bucket.bucket["templates"].name
    TEMPLATE        = var.template
    SERVICE_ACCOUNT = google_service_account.account["pipeline"].email
    NEW_DATA        = "^(${coalesce(var.new_data, "(?:)")})$"
    WAIT_SECONDS    = tostring(var.wait_hours * 3600)
    DEAD_LETTERS    = google_pubsub_topic.dead_letters.id
  }
  executions = "https://workflowexecutions.googleapis.com/v1"
}

resource "google_workflows_workflow" "launch" {
  name                = "${var.name}-launch"
  region              = var.region
  description         = "Starts a run of the compiled pipeline, one after the other."
  service_account     = google_service_account.account["launcher"].id
  source_contents     = file("${path.module}/launch.yaml")
  crypto_key_name     = var.kms_key
  user_env_vars       = local.settings
  call_log_level      = "LOG_ERRORS_ONLY"
  deletion_protection = var.deletion_protection

  depends_on = [google_project_service.api]
}

# Cloud Storage tells Eventarc through Pub/Sub.
data "google_storage_project_service_account" "storage" {
  project = var.project

  depends_on = [google_project_service.api]
}

resource "google_project_iam_member" "storage_publishes" {
  project = var.project
  role    = "roles/pubsub.publisher"
  member  = data.google_storage_project_service_account.storage.member
}

resource "google_eventarc_trigger" "new_data" {
  count = var.new_data == null ? 0 : 1

  name            = "${var.name}-new-data"
  location        = var.region
  service_account = google_service_account.account["events"].email

  matching_criteria {
    attribute = "type"
    value     = "google.cloud.storage.object.v1.finalized"
  }
  matching_criteria {
    attribute = "bucket"
    value     = google_storage_bucket.bucket["data"].name
  }

  destination {
    workflow = google_workflows_workflow.launch.id
  }

  depends_on = [google_project_iam_member.storage_publishes, google_project_iam_member.role]
}

resource "google_cloud_scheduler_job" "launch" {
  count = var.schedule == null ? 0 : 1

  name        = "${var.name}-launch"
  region      = var.region
  description = "Starts a run."
  schedule    = var.schedule.cron
  time_zone   = var.schedule.time_zone

  http_target {
    http_method = "POST"
    uri         = "${local.executions}/${google_workflows_workflow.launch.id}/executions"
    headers     = { "Content-Type" = "application/json" }
    body        = base64encode(jsonencode({ argument = jsonencode({ overrides = {} }) }))

    oauth_token {
      service_account_email = google_service_account.account["events"].email
    }
  }

  # The workflow itself tries again; a second start would be a second run.
  retry_config {
    retry_count = 0
  }

  depends_on = [google_project_service.api, google_project_iam_member.role]
}

# What should have started a run and did not: the event, and why.
resource "google_pubsub_topic" "dead_letters" {
  name                       = "${var.name}-dead-letters"
  kms_key_name               = var.kms_key
  message_retention_duration = "2678400s"

  depends_on = [google_project_service.api]
}

resource "google_pubsub_subscription" "dead_letters" {
  name                       = google_pubsub_topic.dead_letters.name
  topic                      = google_pubsub_topic.dead_letters.id
  message_retention_duration = "2678400s"
  ack_deadline_seconds       = 60

  # It waits for a person, however long that takes.
  expiration_policy {
    ttl = ""
  }
}

resource "google_pubsub_topic_iam_member" "launcher" {
  topic  = google_pubsub_topic.dead_letters.id
  role   = "roles/pubsub.publisher"
  member = google_service_account.account["launcher"].member
}
