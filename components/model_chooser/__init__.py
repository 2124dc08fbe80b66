"""Chooses the contender to push, and says why."""
