terraform {
  required_version = ">= 1.9"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 6.50"
    }
  }
}

provider "google" {
  project = var.project
  region  = var.region

  default_labels = var.labels

  # Budgets belong to the billing account; their API wants to know who asks.
  billing_project       = var.project
  user_project_override = true
}
