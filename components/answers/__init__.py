"""What each model answers to the images of eval and test."""
