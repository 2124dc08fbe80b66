"""What was published, why, and an earlier version again."""
