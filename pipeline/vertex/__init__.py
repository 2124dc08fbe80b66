"""Runs on Vertex AI: compiled here, without an account; carried out there."""
