"""Finds the model in service, the third contender."""
