"""Configuration, presets, the DAG, its runners and the report."""
