"""Runs on this machine: every node in one process, its records in one folder."""
