"""First step of a run on Vertex AI: settles and records what the run does."""
