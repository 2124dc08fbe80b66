"""Trains on Vertex AI: a job of its own, which the step starts, follows and takes along."""
