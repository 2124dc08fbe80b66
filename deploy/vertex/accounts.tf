# One account per job to do; none has a key. What each may do is a table, so that it can be
# read at once.
#
#   pipeline  runs the steps, starts training jobs, pushes models
#   dataflow  Dataflow's workers
#   launcher  the workflows: start a run of the compiled template, and look at runs
#   events    Eventarc and Cloud Scheduler: start a workflow
#   ci        builds images, uploads templates; with ci_submits also submits and schedules runs
locals {
  accounts = merge(
    {
      pipeline = "Runs the pipeline's steps and training jobs"
      launcher = "Starts runs of the compiled pipeline"
      events   = "Starts the workflows on uploads and on schedule"
      ci       = "Builds images, uploads templates${var.ci_submits ? ", submits runs" : ""}"
    },
    var.dataflow ? { dataflow = "Dataflow's workers" } : {},
  )

  # Rights that can only be given for the whole project.
  project_roles = merge(
    {
      # Custom jobs, metadata, Model Registry, Endpoints. Google names this role as the one that a
      # run's account must have; which of its rights Pipelines itself uses is not documented,
      # so that a role of fewer could not be told to be enough.
      "pipeline aiplatform.user"      = { account = "pipeline", role = "roles/aiplatform.user" }
      "pipeline logging.logWriter"    = { account = "pipeline", role = "roles/logging.logWriter" }
      "launcher starts runs"          = { account = "launcher", role = google_project_iam_custom_role.role["launcher"].id }
      "launcher logging.logWriter"    = { account = "launcher", role = "roles/logging.logWriter" }
      "events workflows.invoker"      = { account = "events", role = "roles/workflows.invoker" }
      "events eventarc.eventReceiver" = { account = "events", role = "roles/eventarc.eventReceiver" }
      "ci starts builds"              = { account = "ci", role = google_project_iam_custom_role.role["builder"].id }
      "ci logging.logWriter"          = { account = "ci", role = "roles/logging.logWriter" }
      # gcloud builds submit bills its requests to the project.
      "ci serviceusage.services.use" = { account = "ci", role = "roles/serviceusage.serviceUsageConsumer" }
    },
    var.ci_submits ? { "ci submits runs" = { account = "ci", role = google_project_iam_custom_role.role["ci"].id } } : {},
    var.dataflow ? {
      "pipeline dataflow.developer" = { account = "pipeline", role = "roles/dataflow.developer" }
      "dataflow dataflow.worker"    = { account = "dataflow", role = "roles/dataflow.worker" }
    } : {},
  )

  # Vertex AI's own roles are wider than starting runs.
  custom_roles = merge(
    {
      launcher = [
        "aiplatform.pipelineJobs.create",
        "aiplatform.pipelineJobs.get",
        "aiplatform.pipelineJobs.list",
      ]
      # gcloud builds submit, with its logs in Cloud Logging; the editor's role also has
      # triggers, approvals and worker pools.
      builder = [
        "cloudbuild.builds.create",
        "cloudbuild.builds.get",
        "cloudbuild.builds.list",
        "cloudbuild.builds.update",
      ]
    },
    var.ci_submits ? {
      # `cancel` stops a run's training jobs and those on Dataflow, too.
      ci = concat(var.dataflow ? ["dataflow.jobs.cancel", "dataflow.jobs.get", "dataflow.jobs.list"] : [], [
        "aiplatform.customJobs.cancel",
        "aiplatform.customJobs.get",
        "aiplatform.customJobs.list",
        "aiplatform.pipelineJobs.cancel",
        "aiplatform.pipelineJobs.create",
        "aiplatform.pipelineJobs.get",
        "aiplatform.pipelineJobs.list",
        "aiplatform.schedules.create",
        "aiplatform.schedules.delete",
        "aiplatform.schedules.get",
        "aiplatform.schedules.list",
        "aiplatform.schedules.update",
      ])
    } : {},
  )

  # objectUser reads, writes, replaces and deletes objects; legacyBucketReader lets the
  # client libraries see that a bucket is there.
  bucket_roles = merge(
    {
      "pipeline reads data"      = { account = "pipeline", bucket = "data", role = "roles/storage.objectViewer" }
      "pipeline sees data"       = { account = "pipeline", bucket = "data", role = "roles/storage.legacyBucketReader" }
      "pipeline writes outputs"  = { account = "pipeline", bucket = "outputs", role = "roles/storage.objectUser" }
      "pipeline sees outputs"    = { account = "pipeline", bucket = "outputs", role = "roles/storage.legacyBucketReader" }
      "launcher reads templates" = { account = "launcher", bucket = "templates", role = "roles/storage.objectViewer" }
      "ci writes templates"      = { account = "ci", bucket = "templates", role = "roles/storage.objectUser" }
      "ci sees templates"        = { account = "ci", bucket = "templates", role = "roles/storage.legacyBucketReader" }
      "ci stages sources"        = { account = "ci", bucket = "builds", role = "roles/storage.objectUser" }
      "ci sees sources"          = { account = "ci", bucket = "builds", role = "roles/storage.legacyBucketReader" }
    },
    var.ci_submits ? { "ci sees outputs on submit" = { account = "ci", bucket = "outputs", role = "roles/storage.legacyBucketReader" } } : {},
    var.dataflow ? {
      "dataflow reads data"     = { account = "dataflow", bucket = "data", role = "roles/storage.objectViewer" }
      "dataflow sees data"      = { account = "dataflow", bucket = "data", role = "roles/storage.legacyBucketReader" }
      "dataflow writes outputs" = { account = "dataflow", bucket = "outputs", role = "roles/storage.objectUser" }
      "dataflow sees outputs"   = { account = "dataflow", bucket = "outputs", role = "roles/storage.legacyBucketReader" }
    } : {},
  )

  # Who may start something that then runs as another account.
  acts_as = merge(
    {
      # Training jobs run as the pipeline itself.
      "pipeline as pipeline" = { account = "pipeline", target = "pipeline" }
      "launcher as pipeline" = { account = "launcher", target = "pipeline" }
      # gcloud builds submit --service-account
      "ci as ci" = { account = "ci", target = "ci" }
    },
    # Whoever submits a run chooses what it does, with all that pipeline may.
    var.ci_submits ? { "ci as pipeline" = { account = "ci", target = "pipeline" } } : {},
    var.dataflow ? { "pipeline as dataflow" = { account = "pipeline", target = "dataflow" } } : {},
  )

  image_roles = merge(
    {
      "ci writes images"      = { account = "ci", role = "roles/artifactregistry.writer" }
      "pipeline reads images" = { account = "pipeline", role = "roles/artifactregistry.reader" }
    },
    var.dataflow ? { "dataflow reads images" = { account = "dataflow", role = "roles/artifactregistry.reader" } } : {},
  )
}

resource "google_service_account" "account" {
  for_each = local.accounts

  account_id   = "${var.name}-${each.key}"
  display_name = each.value

  depends_on = [google_project_service.api]
}

resource "google_project_iam_custom_role" "role" {
  for_each = local.custom_roles

  role_id     = replace("${var.name}-${each.key}", "-", "_")
  title       = "${var.name} ${each.key}"
  description = lookup(local.accounts, each.key, "Starts and follows builds")
  permissions = each.value

  depends_on = [google_project_service.api]
}

resource "google_project_iam_member" "role" {
  for_each = local.project_roles

  project = var.project
  role    = each.value.role
  member  = google_service_account.account[each.value.account].member
}

resource "google_storage_bucket_iam_member" "role" {
  for_each = local.bucket_roles

  bucket = google_storage_bucket.bucket[each.value.bucket].name
  role   = each.value.role
  member = google_service_account.account[each.value.account].member
}

resource "google_service_account_iam_member" "acts_as" {
  for_each = local.acts_as

  service_account_id = google_service_account.account[each.value.target].name
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.account[each.value.account].member
}

resource "google_artifact_registry_repository_iam_member" "role" {
  for_each = local.image_roles

  location   = google_artifact_registry_repository.images.location
  repository = google_artifact_registry_repository.images.name
  role       = each.value.role
  member     = google_service_account.account[each.value.account].member
}

# No keys: whoever may act as CI gets tokens that live for an hour.
resource "google_service_account_iam_member" "ci" {
  for_each = var.ci_members

  service_account_id = google_service_account.account["ci"].name
  role               = startswith(each.value, "principal") ? "roles/iam.workloadIdentityUser" : "roles/iam.serviceAccountTokenCreator"
  member             = each.value
}

# Models, and what tells TensorFlow Serving which of them are visible; no checkpoint, no data.
resource "google_storage_bucket_iam_member" "serving" {
  for_each = var.serving_members

  bucket = google_storage_bucket.bucket["outputs"].name
  role   = "roles/storage.objectViewer"
  member = each.value

  condition {
    title       = "published-models"
    description = "What runs publish."
    expression  = "resource.name.startsWith(\"projects/_/buckets/${google_storage_bucket.bucket["outputs"].name}/objects/${var.name}/serving/\") || resource.type == \"storage.googleapis.com/Bucket\""
  }
}
