variable "project" {
  description = "Google Cloud project in which everything lives."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "project: must be a project's id: 6 to 30 lower-case letters, digits and dashes; not its number."
  }
}

variable "region" {
  description = "Region of runs, buckets and images; vertex.region of the pipeline."
  type        = string
  default     = "us-central1"

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "region: must be one region, such as europe-west4; no zone and no multi-region."
  }
}

variable "name" {
  description = "The pipeline's name (pipeline_name) and the beginning of everything that is made here."
  type        = string
  default     = "cifar-resnet"

  # Accounts are called <name>-dataflow at the longest, and take 30 characters.
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,19}[a-z0-9]$", var.name))
    error_message = "name: must be 3 to 21 lower-case letters, digits and dashes, and begin with a letter."
  }
}

variable "labels" {
  description = "Labels of everything that can have some."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for key, value in var.labels : can(regex("^[a-z][a-z0-9_-]{0,62}$", key)) && can(regex("^[a-z0-9_-]{0,63}$", value))])
    error_message = "labels: must be lower-case letters, digits, dashes and underscores, 63 at most, and begin with a letter."
  }
}

variable "kms_key" {
  description = "Key of your own (CMEK) for buckets, images, workflows, dead letters and vertex.kms_key, in the region; Google's service agents must be allowed to use it. null: Google's keys."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key == null || can(regex("^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$", var.kms_key))
    error_message = "kms_key: must be projects/<project>/locations/<region>/keyRings/<ring>/cryptoKeys/<key>."
  }
}

variable "dataflow" {
  description = "Whether runs may use Dataflow (vertex.beam=dataflow): its API, and an account for its workers."
  type        = bool
  default     = false
}

variable "new_data" {
  description = "What starts a run: an upload to the data bucket whose name this regular expression matches as a whole; null: no upload does."
  type        = string
  default     = "incoming/.*\\.tar\\.gz"

  validation {
    condition     = var.new_data == null || can(regexall(coalesce(var.new_data, "x"), ""))
    error_message = "new_data: must be a regular expression (RE2), or null."
  }
}

variable "schedule" {
  description = "When a run starts whatever happens: cron, and the time zone that it is read in; null: never."
  type = object({
    cron      = string
    time_zone = optional(string, "Etc/UTC")
  })
  default = null

  validation {
    condition     = var.schedule == null || can(regex("^\\S+( \\S+){4}$", try(var.schedule.cron, "")))
    error_message = "schedule.cron: must have five fields, for example \"0 3 * * 1\" (Mondays at three)."
  }
}

variable "template" {
  description = "Object in the templates bucket: the compiled pipeline that is started."
  type        = string
  default     = "pipeline.json"

  validation {
    condition     = endswith(var.template, ".json")
    error_message = "template: must be a .json file, as `python pipeline.py compile` writes it."
  }
}

variable "wait_hours" {
  description = "How long a run waits for the one before it; then it is given up, and an alert is sent."
  type        = number
  default     = 48

  validation {
    condition     = var.wait_hours >= 0 && var.wait_hours <= 720
    error_message = "wait_hours: must be from 0 to 720."
  }
}

variable "quiet_days" {
  description = "After how many days without a successful run an alert is sent; null: never."
  type        = number
  default     = null

  validation {
    condition     = var.quiet_days == null || try(var.quiet_days >= 1 && var.quiet_days <= 365, false)
    error_message = "quiet_days: must be from 1 to 365, or null."
  }
}

variable "alert_emails" {
  description = "Who hears of failed runs, of uploads that started none, of silence and of the budget."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for address in var.alert_emails : can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", address))])
    error_message = "alert_emails: must be e-mail addresses."
  }
}

variable "budget" {
  description = "Monthly budget of the project, with alerts at 50, 90 and 100 %; null: none. It informs and stops nothing; vertex.budget_usd stops a submit."
  type = object({
    billing_account = string
    amount          = number
    currency        = optional(string, "USD")
  })
  default = null

  validation {
    condition     = var.budget == null || can(regex("^[0-9A-F]{6}(-[0-9A-F]{6}){2}$", try(var.budget.billing_account, "")))
    error_message = "budget.billing_account: must look like 012345-6789AB-CDEF01."
  }

  validation {
    condition     = var.budget == null || try(var.budget.amount >= 1 && floor(var.budget.amount) == var.budget.amount, false)
    error_message = "budget.amount: must be a whole number, 1 at least."
  }
}

variable "ci_members" {
  description = "Who may act as the account that builds images and uploads templates: people, groups, or a workload identity such as principalSet://..."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for member in var.ci_members : can(regex("^(user:|group:|serviceAccount:|principal://|principalSet://)\\S+$", member))])
    error_message = "ci_members: must begin with user:, group:, serviceAccount:, principal:// or principalSet://; never everybody."
  }
}

variable "ci_submits" {
  description = "Whether CI's account may also submit, cancel and schedule runs itself, and so do all that the pipeline's account may."
  type        = bool
  default     = false
}

variable "serving_members" {
  description = "Who reads published models: the account of TensorFlow Serving, for example."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for member in var.serving_members : can(regex("^(user:|group:|serviceAccount:|principal://|principalSet://)\\S+$", member))])
    error_message = "serving_members: must begin with user:, group:, serviceAccount:, principal:// or principalSet://; never everybody."
  }
}

variable "noncurrent_days" {
  description = "How long replaced and deleted objects can be had back, in days."
  type        = number
  default     = 30

  validation {
    condition     = var.noncurrent_days >= 1 && var.noncurrent_days <= 3650
    error_message = "noncurrent_days: must be from 1 to 3650."
  }
}

variable "deletion_protection" {
  description = "Whether `terraform destroy` refuses to delete buckets that hold something, and the workflows."
  type        = bool
  default     = true
}
