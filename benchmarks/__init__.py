"""Ratios, measured in one run and written as JSON."""
