"""Stops the flow when the data is not what the schema says."""
