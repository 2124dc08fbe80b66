"""Publishes the chosen model for TensorFlow Serving, all or nothing."""
