"""What follows the push. So far: nothing of our own, TensorFlow Serving takes the models."""
