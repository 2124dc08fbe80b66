"""The components that this project adds to TFX's own: contract beside work, a package each."""
