"""The report: one page and one JSON file that say what a run did and why."""
