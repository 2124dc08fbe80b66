# terraform init -backend=false && terraform test: applied to a pretended Google, without an account.
mock_provider "google" {
  mock_data "google_project" {
    defaults = { number = "123456789012" }
  }
  mock_data "google_storage_project_service_account" {
    defaults = { member = "serviceAccount:service-123456789012@gs-project-accounts.iam.gserviceaccount.com" }
  }
  mock_resource "google_service_account" {
    defaults = {
      email  = "somebody@my-project.iam.gserviceaccount.com"
      member = "serviceAccount:somebody@my-project.iam.gserviceaccount.com"
      name   = "projects/my-project/serviceAccounts/somebody@my-project.iam.gserviceaccount.com"
    }
  }
}

variables {
  project = "my-project"
}

run "as_little_as_possible" {
  assert {
    condition     = alltrue([for bucket in google_storage_bucket.bucket : bucket.public_access_prevention == "enforced" && bucket.uniform_bucket_level_access && !bucket.force_destroy])
    error_message = "A bucket can be opened to the public, or be deleted with what it holds."
  }
  assert {
    condition     = keys(google_service_account.account) == ["ci", "events", "launcher", "pipeline"]
    error_message = "There is an account that nobody asked for."
  }
  # CI builds and uploads; what runs is started by the launcher.
  assert {
    condition     = keys(google_service_account_iam_member.acts_as) == ["ci as ci", "launcher as pipeline", "pipeline as pipeline"]
    error_message = "Somebody may act as an account without being asked to start anything as it."
  }
  assert {
    condition     = [for key in keys(google_project_iam_member.role) : key if startswith(key, "ci ")] == ["ci logging.logWriter", "ci serviceusage.services.use", "ci starts builds"] && keys(google_project_iam_custom_role.role) == ["builder", "launcher"]
    error_message = "CI may do more than build and upload."
  }
  assert {
    condition     = alltrue([for key, member in local.bucket_roles : contains(["builds", "templates"], member.bucket) if member.account == "ci"])
    error_message = "CI sees another bucket than those for templates and sources."
  }
  assert {
    condition     = length(google_eventarc_trigger.new_data) == 1 && length(google_cloud_scheduler_job.launch) == 0
    error_message = "By default new data starts runs, and no schedule does."
  }
  assert {
    condition     = length(google_workflows_workflow.watch) == 0 && length(google_billing_budget.budget) == 0 && length(google_service_account_iam_member.ci) == 0
    error_message = "Something was made that nobody asked for."
  }
  assert {
    condition     = google_workflows_workflow.launch.user_env_vars["NEW_DATA"] == "^(incoming/.*\\.tar\\.gz)$"
    error_message = "Other uploads than the documented ones start runs."
  }
  assert {
    condition     = output.configuration["output_root"] == "gs://my-project-cifar-resnet-outputs/cifar-resnet" && output.configuration["vertex.repository"] == "us-central1-docker.pkg.dev/my-project/cifar-resnet"
    error_message = "The configuration does not name what was made."
  }
  assert {
    condition     = !contains(keys(output.configuration), "vertex.beam_service_account") && !contains(keys(google_project_service.api), "dataflow.googleapis.com")
    error_message = "Dataflow is set up although it is not used."
  }
}

run "keys_of_ones_own" {
  variables {
    kms_key    = "projects/keys/locations/us-central1/keyRings/ring/cryptoKeys/key"
    quiet_days = 8
  }
  assert {
    condition     = alltrue([for bucket in google_storage_bucket.bucket : one(bucket.encryption).default_kms_key_name == var.kms_key]) && google_artifact_registry_repository.images.kms_key_name == var.kms_key
    error_message = "Something is kept under a key of Google's."
  }
  assert {
    condition     = output.configuration["vertex.kms_key"] == var.kms_key
    error_message = "Runs are not told of the key."
  }
  assert {
    condition     = google_pubsub_topic.dead_letters.kms_key_name == var.kms_key && google_workflows_workflow.launch.crypto_key_name == var.kms_key && google_workflows_workflow.watch[0].crypto_key_name == var.kms_key
    error_message = "What starts runs is kept under a key of Google's."
  }
}

run "everything" {
  variables {
    dataflow        = true
    schedule        = { cron = "0 3 * * 1", time_zone = "Europe/Berlin" }
    quiet_days      = 8
    alert_emails    = ["a@example.com", "b@example.com"]
    budget          = { billing_account = "012345-6789AB-CDEF01", amount = 500 }
    ci_members      = ["principalSet://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/ci/attribute.repository/me/cifar", "group:ml@example.com"]
    serving_members = ["serviceAccount:serving@my-project.iam.gserviceaccount.com"]
  }

  assert {
    condition     = jsondecode(base64decode(google_cloud_scheduler_job.launch[0].http_target[0].body)).argument == "{\"overrides\":{}}"
    error_message = "The schedule does not start the workflow with an argument that it understands."
  }
  assert {
    condition     = google_cloud_scheduler_job.launch[0].time_zone == "Europe/Berlin" && google_workflows_workflow.watch[0].user_env_vars["QUIET_DAYS"] == "8"
    error_message = "Settings do not arrive."
  }
  assert {
    condition     = length(google_monitoring_notification_channel.email) == 2 && alltrue([for policy in google_monitoring_alert_policy.log : length(policy.notification_channels) == 2])
    error_message = "Somebody is not told."
  }
  assert {
    condition     = one([for member in google_service_account_iam_member.ci : member.role if startswith(member.member, "principal")]) == "roles/iam.workloadIdentityUser"
    error_message = "A workload identity needs another role than a person."
  }
  assert {
    condition     = contains(keys(output.configuration), "vertex.beam_service_account")
    error_message = "The pipeline is not told of the workers' account."
  }
  assert {
    condition     = google_billing_budget.budget[0].amount[0].specified_amount[0].units == "500" && google_billing_budget.budget[0].amount[0].specified_amount[0].currency_code == "USD"
    error_message = "The budget is not the one that was asked for."
  }
}

run "ci_submits_if_it_is_told_to" {
  variables {
    ci_submits = true
    dataflow   = true
  }
  assert {
    condition     = contains(keys(google_service_account_iam_member.acts_as), "ci as pipeline") && contains(keys(google_project_iam_member.role), "ci submits runs") && contains(keys(google_storage_bucket_iam_member.role), "ci sees outputs on submit")
    error_message = "CI cannot submit: it needs to act as pipeline, to create runs and to see the outputs bucket."
  }
  assert {
    condition     = alltrue([for right in ["aiplatform.schedules.create", "aiplatform.customJobs.cancel", "dataflow.jobs.list", "dataflow.jobs.get", "dataflow.jobs.cancel"] : contains(google_project_iam_custom_role.role["ci"].permissions, right)])
    error_message = "CI cannot schedule runs, or cancel their training jobs and those on Dataflow."
  }
}

run "no_upload_starts_a_run" {
  variables {
    new_data = null
  }
  assert {
    condition     = length(google_eventarc_trigger.new_data) == 0
    error_message = "An upload starts a run."
  }
  # Started by hand or by schedule the workflow never looks at it; nothing must match.
  assert {
    condition     = !can(regex(google_workflows_workflow.launch.user_env_vars["NEW_DATA"], "incoming/cifar.tar.gz"))
    error_message = "An upload would start a run."
  }
}

run "refuses_a_project_number" {
  command = plan

  variables {
    project = "123456789012"
  }
  expect_failures = [var.project]
}

run "refuses_values_that_cannot_work" {
  command = plan

  variables {
    region          = "us"
    name            = "A-name-that-is-far-too-long-for-an-account"
    labels          = { Team = "Vision" }
    new_data        = "incoming/("
    template        = "pipeline.yaml"
    schedule        = { cron = "weekly" }
    wait_hours      = -1
    quiet_days      = 0
    alert_emails    = ["nobody"]
    budget          = { billing_account = "mine", amount = 0.5 }
    noncurrent_days = 0
  }
  expect_failures = [
    var.region,
    var.name,
    var.labels,
    var.new_data,
    var.template,
    var.schedule,
    var.wait_hours,
    var.quiet_days,
    var.alert_emails,
    var.budget,
    var.noncurrent_days,
  ]
}

run "refuses_everybody" {
  command = plan

  variables {
    ci_members      = ["allUsers"]
    serving_members = ["allAuthenticatedUsers"]
  }
  expect_failures = [var.ci_members, var.serving_members]
}
