"""What a run on Vertex AI would take: time, machines and money."""
