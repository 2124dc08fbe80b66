# Nothing here stops anything; all of it tells somebody.
locals {
  channels = [for channel in google_monitoring_notification_channel.email : channel.id]

  # Alerts on log entries: what is looked for, and what to do about it.
  log_alerts = merge(
    {
      failed = {
        title = "a run failed"
        # The state stands in the entry as text; no field is named, so that a renamed one
        # does not silence the alert.
        filter = <<-EOT
          resource.type="aiplatform.googleapis.com/PipelineJob"
          log_id("aiplatform.googleapis.com/pipeline_job_events")
          "PIPELINE_STATE_FAILED"
        EOT
        advice = "`python pipeline.py status` names the step and its log. Data that were refused fail ExampleValidator; a run that is submitted again reuses the steps that succeeded."
      }
      workflow = {
        title  = "a run could not be started, or none has succeeded for days"
        filter = <<-EOT
          resource.type="workflows.googleapis.com/Workflow"
          resource.labels.workflow_id=~"^${var.name}-(launch|watch)$"
          severity>=ERROR
        EOT
        advice = "The entry says why. An upload that started no run lies in the subscription ${google_pubsub_subscription.dead_letters.name}; upload it again, or start a run by hand."
      }
    },
  )
}

resource "google_monitoring_notification_channel" "email" {
  for_each = var.alert_emails

  display_name = "${var.name}: ${each.value}"
  type         = "email"
  labels       = { email_address = each.value }

  depends_on = [google_project_service.api]
}

resource "google_monitoring_alert_policy" "log" {
  for_each = local.log_alerts

  display_name          = "${var.name}: ${each.value.title}"
  combiner              = "OR"
  notification_channels = local.channels
  severity              = "ERROR"

  conditions {
    display_name = each.value.title
    condition_matched_log {
      filter = each.value.filter
    }
  }

  alert_strategy {
    auto_close = "604800s"
    notification_rate_limit {
      period = "3600s"
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = each.value.advice
  }

  depends_on = [google_project_service.api]
}

resource "google_monitoring_alert_policy" "dead_letters" {
  display_name          = "${var.name}: uploads that started no run"
  combiner              = "OR"
  notification_channels = local.channels
  severity              = "ERROR"

  conditions {
    display_name = "messages in ${google_pubsub_subscription.dead_letters.name}"
    condition_threshold {
      filter          = "resource.type=\"pubsub_subscription\" AND resource.labels.subscription_id=\"${google_pubsub_subscription.dead_letters.name}\" AND metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\""
      comparison      = "COMPARISON_GT"
      threshold_value = 0
      duration        = "0s"

      aggregations {
        alignment_period   = "300s"
        per_series_aligner = "ALIGN_MAX"
      }
    }
  }

  documentation {
    mime_type = "text/markdown"
    content   = "Each message is the event and the reason. Acknowledge it when it is dealt with; the alert then closes."
  }

  depends_on = [google_project_service.api]
}

# Monitoring looks back 25 hours at most, so somebody has to look once a day.
resource "google_workflows_workflow" "watch" {
  count = var.quiet_days == null ? 0 : 1

  name                = "${var.name}-watch"
  region              = var.region
  description         = "Logs an error if no run has succeeded for ${var.quiet_days} days."
  service_account     = google_service_account.account["launcher"].id
  source_contents     = file("${path.module}/watch.yaml")
  crypto_key_name     = var.kms_key
  user_env_vars       = { NAME = var.name, REGION = var.region, QUIET_DAYS = tostring(var.quiet_days) }
  call_log_level      = "LOG_ERRORS_ONLY"
  deletion_protection = var.deletion_protection

  depends_on = [google_project_service.api]
}

resource "google_cloud_scheduler_job" "watch" {
  count = var.quiet_days == null ? 0 : 1

  name        = "${var.name}-watch"
  region      = var.region
  description = "Looks whether a run has succeeded lately."
  schedule    = "0 6 * * *"
  time_zone   = "Etc/UTC"

  http_target {
    http_method = "POST"
    uri         = "${local.executions}/${google_workflows_workflow.watch[0].id}/executions"
    headers     = { "Content-Type" = "application/json" }
    body        = base64encode("{}")

    oauth_token {
      service_account_email = google_service_account.account["events"].email
    }
  }

  depends_on = [google_project_service.api, google_project_iam_member.role]
}

resource "google_billing_budget" "budget" {
  count = var.budget == null ? 0 : 1

  billing_account = var.budget.billing_account
  display_name    = "${var.name} in ${var.project}"

  budget_filter {
    projects = ["projects/${data.google_project.this.number}"]
  }

  amount {
    specified_amount {
      currency_code = var.budget.currency
      units         = tostring(var.budget.amount)
    }
  }

  dynamic "threshold_rules" {
    for_each = [0.5, 0.9, 1.0]
    content {
      threshold_percent = threshold_rules.value
    }
  }
  threshold_rules {
    threshold_percent = 1.0
    spend_basis       = "FORECASTED_SPEND"
  }

  # A budget takes five channels at most.
  all_updates_rule {
    monitoring_notification_channels = slice(local.channels, 0, min(5, length(local.channels)))
    disable_default_iam_recipients   = false
  }

  depends_on = [google_project_service.api]
}
