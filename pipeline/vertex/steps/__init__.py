"""The nodes that only a run on Vertex AI has."""
