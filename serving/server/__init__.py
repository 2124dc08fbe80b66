"""An embedded stand-in for tensorflow_model_server."""
