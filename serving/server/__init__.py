"""A stand-in for TensorFlow Serving, in Python."""
