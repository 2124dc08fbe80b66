"""Registers what was pushed in Vertex AI's Model Registry, and deploys it to an Endpoint."""
