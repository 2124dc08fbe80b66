# A bucket for each kind of thing: who writes to them and who reads them differ.
locals {
  buckets = {
    data      = "New data sets; read by runs."
    outputs   = "Artifacts, checkpoints, reports and published models; written by runs."
    templates = "Compiled pipelines; written by CI, read by what starts runs."
    builds    = "Sources of image builds (gcloud builds submit --gcs-source-staging-dir); CI's own."
  }
}

resource "google_storage_bucket" "bucket" {
  for_each = local.buckets

  name     = "${var.project}-${var.name}-${each.key}"
  location = var.region

  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = !var.deletion_protection

  versioning {
    enabled = true
  }

  dynamic "encryption" {
    for_each = var.kms_key == null ? [] : [var.kms_key]
    content {
      default_kms_key_name = encryption.value
    }
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      days_since_noncurrent_time = var.noncurrent_days
    }
  }

  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 7
    }
  }

  # Artifacts stay: a run that finds its inputs unchanged reads those of an earlier one.
  dynamic "lifecycle_rule" {
    for_each = each.key == "outputs" ? [1] : []
    content {
      action {
        type = "Delete"
      }
      condition {
        age            = 30
        matches_prefix = ["${var.name}/checkpoints/", "${var.name}/dataflow/"]
      }
    }
  }

  # What a build was made of is in the repository, too.
  dynamic "lifecycle_rule" {
    for_each = each.key == "builds" ? [1] : []
    content {
      action {
        type = "Delete"
      }
      condition {
        age = 30
      }
    }
  }

  depends_on = [google_project_service.api]
}

resource "google_artifact_registry_repository" "images" {
  repository_id = var.name
  location      = var.region
  description   = "Images of the pipeline (deploy/images)."
  format        = "DOCKER"
  kms_key_name  = var.kms_key

  # What a compiled pipeline names can never become something else.
  docker_config {
    immutable_tags = true
  }

  cleanup_policies {
    id     = "untagged"
    action = "DELETE"
    condition {
      tag_state  = "UNTAGGED"
      older_than = "2592000s"
    }
  }

  depends_on = [google_project_service.api]
}
