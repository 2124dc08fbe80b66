"""Live traffic against what the served model was trained on.

`python -m monitoring`: traffic.py reads the server's request log, lineage.py what the
version that answered was trained on, statistics.py compares the two.
"""


class NothingToCompare(Exception):
    """One side is missing; the message says which, and what to do."""
