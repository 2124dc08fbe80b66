"""Files for production, made from a run's own outputs: `python -m serving.deploy`."""
