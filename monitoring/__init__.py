"""Live traffic against what the served model was trained on.

`python -m monitoring`: traffic.py reads the server's request log, baselines.py what the
version that answered met before it was served, comparison.py holds a window of requests
against that, windows.py decides what is an alarm, feedback.py how often the answers are
right; gauges.py, page.py and retrain.py tell others.
"""


class NothingToCompare(Exception):
    """One side is missing; the message says which, and what to do."""
