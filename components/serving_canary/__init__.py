"""Tries the chosen model in a real server before it is pushed."""
