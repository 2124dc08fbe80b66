"""States what every example must look like, and hands it to the flow as an artifact."""
